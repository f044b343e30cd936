"""The Glue catalog says of a Delta table what its log says, whoever else writes there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from chunkwise.core.delta import Table
from chunkwise.core.delta.glue import sync
from chunkwise.core.delta.glue_entry import CatalogReceipt, Entry
from chunkwise.core.errors import CatalogConflict, CatalogError, ConfigError, TableNotFound, UnsupportedColumn
from chunkwise.core.storage.retries import Retries
from tests.support.delta import Lake
from tests.support.glue import GlueServer
from tests.support.s3 import S3

QUICK = Retries(attempts=10, sleep=lambda _: None)


@pytest.fixture
def lake(s3: S3) -> Lake:
    return Lake(s3)


def bring(glue: GlueServer, lake: Lake, name: str | None = "orders", **options: Any) -> CatalogReceipt:
    entry = Entry.of(lake.table, glue.database, name)
    return sync(glue.client, lake.s3.client, lake.table, entry, **{"retries": QUICK, **options})


def log(lake: Lake, version: int, *fields: tuple[Any, ...], **more: Any) -> str:
    """Write a version of the log with these columns; the schema, as it stands there."""
    schema = json.dumps(
        {
            "type": "struct",
            "fields": [
                {"name": name, "type": kind, "nullable": True, "metadata": metadata}
                for name, kind, metadata in [(*one, {})[:3] for one in fields]
            ],
        }
    )
    metadata = {
        "id": "5b4e8f0e-6f6b-4d0c-9d39-2b0a4a6a2a11",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema,
        "partitionColumns": [],
        "configuration": {},
        **more,
    }
    actions = [
        {"commitInfo": {"timestamp": 1_700_000_000_123 + version}},
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": metadata},
    ]
    lake.s3.put(lake.table.commit_key(version), "\n".join(map(json.dumps, actions)).encode())
    return schema


def test_a_new_table_is_what_athena_s_own_ddl_writes(glue: GlueServer, lake: Lake) -> None:
    """The oracle is what GetTable gave on AWS after Athena's CREATE EXTERNAL TABLE."""
    schema = log(lake, 0, ("id", "long"), ("region", "string"), ("amount", "double"))
    receipt = bring(glue, lake)
    found = glue.table("orders")
    assert found["Parameters"] == {
        "EXTERNAL": "TRUE",
        "delta.lastCommitTimestamp": "1700000000123",
        "delta.lastUpdateVersion": "0",
        "spark.sql.partitionProvider": "catalog",
        "spark.sql.sources.provider": "delta",
        "spark.sql.sources.schema.numParts": "1",
        "spark.sql.sources.schema.part.0": schema,
        "table_type": "delta",
    }
    assert found["PartitionKeys"] == []
    assert found["TableType"] == "EXTERNAL_TABLE"
    assert found["StorageDescriptor"] == {
        "Columns": [
            {"Name": "id", "Type": "bigint"},
            {"Name": "region", "Type": "string"},
            {"Name": "amount", "Type": "double"},
        ],
        "Location": f"{lake.uri}/",
        "InputFormat": "org.apache.hadoop.mapred.SequenceFileInputFormat",
        "OutputFormat": "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat",
        "SerdeInfo": {
            "SerializationLibrary": "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe",
            "Parameters": {"path": f"{lake.uri}/", "serialization.format": "1"},
        },
    }
    assert receipt.to_json() == {
        "uri": lake.uri,
        "database": glue.database,
        "table": "orders",
        "action": "created",
        "version": 0,
        "database_created": True,
        "columns_added": ["id", "region", "amount"],
        "columns_removed": [],
        "columns_changed": {},
        "columns_total": {"added": 3, "removed": 0, "changed": 0},
        "other_changes": [],
        "compare_only": False,
    }
    assert glue.calls == {"GetTable": 1, "CreateTable": 2, "CreateDatabase": 1}


def test_a_table_of_files_is_in_the_catalog_with_its_partitions_among_the_columns(
    glue: GlueServer, lake: Lake
) -> None:
    data = pa.table(
        {
            "id": pa.array([1], pa.int64()),
            "small": pa.array([1], pa.int8()),
            "ratio": pa.array([1.5], pa.float32()),
            "price": pa.array([None], pa.decimal128(12, 2)),
            "tags": pa.array([["x"]], pa.list_(pa.string())),
            "who": pa.array([{"Name": "x"}], pa.struct([("Name", pa.string())])),
            "at": pa.array([0], pa.timestamp("us", "UTC")),
        }
    )
    lake.append(lake.put("ds=2024-01-01/f.parquet", data), partition_types={"ds": "date"})
    bring(glue, lake)
    assert glue.columns("orders") == [
        ("id", "bigint"),
        ("small", "tinyint"),
        ("ratio", "float"),
        ("price", "decimal(12,2)"),
        ("tags", "array<string>"),
        ("who", "struct<name:string>"),
        ("at", "timestamp"),
        ("ds", "date"),
    ]
    assert glue.table("orders")["PartitionKeys"] == []


def test_what_is_the_same_is_one_call_and_no_write(glue: GlueServer, lake: Lake) -> None:
    """Also when the table has new files: the catalog has no word of them."""
    lake.append(lake.put("a.parquet", {"id": [1]}))
    bring(glue, lake)
    lake.append(lake.put("b.parquet", {"id": [2]}))
    glue.calls.clear()
    receipt = bring(glue, lake)
    assert (receipt.action, receipt.version, receipt.change.is_empty) == ("unchanged", 1, True)
    assert glue.calls == {"GetTable": 1}


def test_new_columns_are_an_update_at_the_version_that_was_read(glue: GlueServer, lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    bring(glue, lake)
    lake.append(lake.put("b.parquet", {"id": [2], "name": ["x"]}), schema="add_columns")
    glue.calls.clear()
    receipt = bring(glue, lake)
    assert (receipt.action, receipt.version) == ("updated", 1)
    assert (receipt.change.added, receipt.change.other) == (("name",), ("schema",))
    assert glue.columns("orders") == [("id", "bigint"), ("name", "string")]
    assert glue.table("orders")["Parameters"]["delta.lastUpdateVersion"] == "1"
    assert glue.calls == {"GetTable": 1, "UpdateTable": 1}
    (_, request) = glue.requests[-1]
    assert request["SkipArchive"] is True
    assert request["VersionId"] == "1"
    assert bring(glue, lake).action == "unchanged"


def test_columns_that_are_gone_changed_or_in_another_order_are_named(glue: GlueServer, lake: Lake) -> None:
    log(lake, 0, ("a", "integer"), ("b", "long"), ("c", "date"))
    bring(glue, lake)
    log(lake, 1, ("c", "date"), ("A", "long"), ("d", "string"))
    receipt = bring(glue, lake).to_json()
    assert receipt["columns_added"] == ["d"]
    assert receipt["columns_removed"] == ["b"]
    assert receipt["columns_changed"] == {"a": {"type_before": "int", "type_after": "bigint"}}
    assert receipt["other_changes"] == ["order", "schema"]
    assert glue.columns("orders") == [("c", "date"), ("a", "bigint"), ("d", "string")]


def test_a_long_schema_stands_in_parts_and_no_part_is_left_over(glue: GlueServer, lake: Lake) -> None:
    def parts() -> list[str]:
        found = glue.table("orders")["Parameters"]
        front = "spark.sql.sources.schema.part."
        numbers = sorted(int(key.removeprefix(front)) for key in found if key.startswith(front))
        assert numbers == list(range(int(found["spark.sql.sources.schema.numParts"])))
        return [found[f"{front}{number}"] for number in numbers]

    long = log(lake, 0, *((f"column_{number}_ü", "string") for number in range(200)))
    bring(glue, lake)
    assert "".join(parts()) == long
    assert [len(part) for part in parts()][:-1] == [4000] * (len(long) // 4000)
    short = log(lake, 1, ("id", "long"))
    assert len(bring(glue, lake).change.removed) == 200
    assert parts() == [short]


def test_what_others_wrote_stays(glue: GlueServer, lake: Lake) -> None:
    log(lake, 0, ("id", "long", {"comment": "of the log"}), ("name", "string"), description="Orders")
    bring(glue, lake)
    assert glue.table("orders")["Description"] == "Orders"

    def somebody(table: dict[str, Any]) -> None:
        table["Description"] = "Orders, as the shop sees them"
        table["Owner"] = "shop"
        table["Retention"] = 7
        table["Parameters"] |= {"team": "blue", "table_type": "DELTA", "EXTERNAL": "true"}
        table["StorageDescriptor"]["Parameters"] = {"numRows": "5"}
        table["StorageDescriptor"]["SerdeInfo"]["Parameters"]["own"] = "1"
        table["StorageDescriptor"]["Location"] = lake.uri
        id_, name = table["StorageDescriptor"]["Columns"]
        name["Comment"] = "of a person"
        id_["Parameters"] = {"pii": "no"}

    glue.edit("orders", somebody)
    assert bring(glue, lake).action == "unchanged"
    log(lake, 1, ("id", "long", {"comment": "of the log, mended"}), ("name", "string"), ("new", "byte"))
    receipt = bring(glue, lake)
    assert receipt.change.added == ("new",)
    found = glue.table("orders")
    assert (found["Description"], found["Owner"], found["Retention"]) == (
        "Orders, as the shop sees them",
        "shop",
        7,
    )
    assert found["Parameters"].items() >= {"team": "blue", "table_type": "DELTA", "EXTERNAL": "true"}.items()
    storage = found["StorageDescriptor"]
    assert storage["Parameters"] == {"numRows": "5"}
    assert storage["SerdeInfo"]["Parameters"]["own"] == "1"
    assert storage["Location"] == lake.uri
    assert storage["Columns"] == [
        {
            "Name": "id",
            "Type": "bigint",
            "Comment": "of the log, mended",
            "Parameters": {"pii": "no"},
        },
        {"Name": "name", "Type": "string", "Comment": "of a person"},
        {"Name": "new", "Type": "tinyint"},
    ]


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda table: table["StorageDescriptor"].update(InputFormat="org.x"), "format"),
        (lambda table: table["StorageDescriptor"].update(SerdeInfo={}), "format"),
        (
            lambda table: table["StorageDescriptor"].update(SchemaReference={"SchemaVersionNumber": 1}),
            "format",
        ),
        (lambda table: table.update(PartitionKeys=[{"Name": "ds", "Type": "string"}]), "partition_keys"),
        (lambda table: table["Parameters"].update({"spark.sql.sources.schema.part.0": "{"}), "schema"),
        (lambda table: table["Parameters"].update({"spark.sql.sources.schema": "{}"}), "schema"),
        (lambda table: table["Parameters"].pop("spark.sql.partitionProvider"), "parameters"),
        (lambda table: table.pop("TableType"), "type"),
    ],
    ids=["input", "serde", "reference", "partitions", "schema", "whole-schema", "property", "type"],
)
def test_what_is_not_as_it_must_be_is_mended(
    glue: GlueServer, lake: Lake, edit: Callable[[dict[str, Any]], Any], word: str
) -> None:
    log(lake, 0, ("id", "long"))
    bring(glue, lake)
    right = glue.table("orders")
    glue.edit("orders", edit)
    receipt = bring(glue, lake)
    assert (receipt.action, receipt.change.other) == ("updated", (word,))
    found = glue.table("orders")
    for key in ("StorageDescriptor", "Parameters", "PartitionKeys", "TableType"):
        assert found[key] == right[key]
    assert bring(glue, lake).action == "unchanged"


def test_a_table_as_a_crawler_leaves_it_becomes_athena_s(glue: GlueServer, lake: Lake) -> None:
    """Partition columns move with what was written about them."""
    log(lake, 0, ("id", "long"), ("ds", "date"), partitionColumns=["ds"])
    glue.create_database()
    glue.create(
        "orders",
        TableType="EXTERNAL_TABLE",
        Parameters={"classification": "delta", "CrawlerSchemaSerializerVersion": "1.0"},
        PartitionKeys=[{"Name": "ds", "Type": "string", "Comment": "day"}],
        StorageDescriptor={"Location": lake.uri, "Columns": [{"Name": "id", "Type": "bigint"}]},
    )
    receipt = bring(glue, lake)
    assert receipt.change.added == ("ds",)
    found = glue.table("orders")
    assert found["StorageDescriptor"]["Columns"][1] == {"Name": "ds", "Type": "date", "Comment": "day"}
    assert found["PartitionKeys"] == []
    assert found["Parameters"]["CrawlerSchemaSerializerVersion"] == "1.0"


def test_somebody_who_is_faster_loses_nothing(glue: GlueServer, lake: Lake) -> None:
    """Between our look and our update others change the table, three times."""
    log(lake, 0, ("id", "long"))
    bring(glue, lake)
    log(lake, 1, ("id", "long"), ("name", "string"))
    seen: list[int] = []

    def somebody() -> None:
        seen.append(1)
        glue.edit("orders", lambda table: table["Parameters"].update({f"note{len(seen)}": "x"}))

    glue.before("UpdateTable", somebody, times=3)
    receipt = bring(glue, lake)
    assert (receipt.action, receipt.change.added) == ("updated", ("name",))
    found = glue.table("orders")["Parameters"]
    assert {"note1", "note2", "note3"} <= set(found)
    assert found["delta.lastUpdateVersion"] == "1"
    assert glue.calls["UpdateTable"] == 4


def test_who_is_always_faster_is_an_error_that_passes(glue: GlueServer, lake: Lake) -> None:
    log(lake, 0, ("id", "long"))
    bring(glue, lake)
    log(lake, 1, ("name", "string"))
    glue.fail("UpdateTable", "ConcurrentModificationException", times=4)
    with pytest.raises(
        CatalogError, match=r"updating .*\.orders in the Glue catalog failed 4 times"
    ) as error:
        bring(glue, lake, retries=Retries(attempts=4, sleep=lambda _: None))
    assert error.value.transient


def test_many_at_once_leave_the_newest_schema(glue: GlueServer, lake: Lake) -> None:
    """Every one starts from another version of the log, and all write at once."""
    log(lake, 0, ("c0", "long"))
    bring(glue, lake)
    failed: list[BaseException] = []

    def one() -> None:
        try:
            bring(glue, lake, retries=Retries(attempts=100, first=0.01))
        except BaseException as error:
            failed.append(error)

    threads = []
    for number in range(1, 9):
        log(lake, number, *((f"c{at}", "long") for at in range(number + 1)))
        threads.append(threading.Thread(target=one))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [name for name, _ in glue.columns("orders")] == [f"c{at}" for at in range(9)]


def test_an_older_reading_does_not_replace_a_newer_one(glue: GlueServer, lake: Lake) -> None:
    """The log goes on, and a faster task writes its new schema, after our reading of the log."""
    log(lake, 0, ("id", "long"))
    bring(glue, lake)

    def faster() -> None:
        log(lake, 1, ("id", "long"), ("name", "string"))

        def write(table: dict[str, Any]) -> None:
            table["Parameters"]["delta.lastUpdateVersion"] = "1"
            table["StorageDescriptor"]["Columns"].append({"Name": "name", "Type": "string"})

        glue.edit("orders", write)

    glue.before("GetTable", faster)
    receipt = bring(glue, lake)
    assert receipt.version == 1
    assert receipt.change.removed == ()
    assert [name for name, _ in glue.columns("orders")] == ["id", "name"]


def test_a_table_that_was_made_anew_counts_although_its_version_is_lower(
    glue: GlueServer, lake: Lake
) -> None:
    log(lake, 0, ("id", "long"))
    bring(glue, lake)
    glue.edit("orders", lambda table: table["Parameters"].update({"delta.lastUpdateVersion": "900"}))
    log(lake, 0, ("other", "long"))
    assert bring(glue, lake).action == "updated"
    assert glue.columns("orders") == [("other", "bigint")]
    assert glue.table("orders")["Parameters"]["delta.lastUpdateVersion"] == "0"


@pytest.mark.parametrize("operation", ["CreateTable", "UpdateTable"])
def test_a_lost_answer_is_still_our_change(glue: GlueServer, lake: Lake, operation: str) -> None:
    """The server did it, the answer was an error, and the repeated request met what the first one did."""
    log(lake, 0, ("id", "long"))
    glue.create_database()
    if operation == "UpdateTable":
        bring(glue, lake)
        log(lake, 1, ("id", "long"), ("name", "string"))
    glue.lose(operation)
    receipt = bring(glue, lake)
    assert receipt.action == ("created" if operation == "CreateTable" else "updated")
    assert receipt.change.added == (("id",) if operation == "CreateTable" else ("name",))
    assert bring(glue, lake).action == "unchanged"


def test_two_who_create_it_leave_one_table(glue: GlueServer, lake: Lake) -> None:
    log(lake, 0, ("id", "long"))
    glue.create_database()

    def somebody() -> None:
        glue.create("orders", StorageDescriptor={"Location": lake.uri}, Parameters={"table_type": "delta"})

    glue.before("CreateTable", somebody)
    receipt = bring(glue, lake)
    assert (receipt.action, receipt.change.added) == ("updated", ("id",))


def test_a_table_that_is_dropped_meanwhile_is_created(glue: GlueServer, lake: Lake) -> None:
    log(lake, 0, ("id", "long"))
    bring(glue, lake)
    log(lake, 1, ("name", "string"))
    glue.before("UpdateTable", lambda: glue.drop("orders"))
    assert bring(glue, lake).action == "created"
    assert glue.columns("orders") == [("name", "string")]


_LOCATION = {"Location": "s3://other/place/"}
FOREIGN = [
    (
        {"Parameters": {"table_type": "ICEBERG"}, "StorageDescriptor": _LOCATION},
        "no Delta table, but one of I",
    ),
    ({"Parameters": {"classification": "parquet"}, "StorageDescriptor": _LOCATION}, "but another at s3://ot"),
    (
        {"Parameters": {"table_type": "delta"}, "StorageDescriptor": _LOCATION},
        "the Delta table at s3://other",
    ),
    ({"TableType": "VIRTUAL_VIEW", "ViewOriginalText": "x"}, "is a view"),
]
FOREIGN_IDS = ["iceberg", "parquet", "elsewhere", "view"]


@pytest.mark.parametrize(("members", "text"), FOREIGN, ids=FOREIGN_IDS)
def test_something_else_of_that_name_is_refused_unless_it_is_to_be_replaced(
    glue: GlueServer, lake: Lake, members: dict[str, Any], text: str
) -> None:
    log(lake, 0, ("id", "long"))
    glue.create_database()
    glue.create("orders", **{"Owner": "somebody", **members})
    with pytest.raises(CatalogConflict, match=text) as error:
        bring(glue, lake)
    assert f"{glue.database}.orders" in str(error.value)
    assert lake.uri in str(error.value)
    assert not error.value.transient
    assert set(glue.calls) == {"GetTable"}

    assert bring(glue, lake, on_foreign="replace").action == "updated"
    found = glue.table("orders")
    assert (found["Owner"], found["TableType"]) == ("somebody", "EXTERNAL_TABLE")
    assert found["StorageDescriptor"]["Location"] == f"{lake.uri}/"
    assert "classification" not in found["Parameters"]
    assert "ViewOriginalText" not in found
    assert bring(glue, lake).action == "unchanged"


def test_a_moved_table_keeps_what_people_wrote_about_it(glue: GlueServer, lake: Lake, s3: S3) -> None:
    before = Lake(s3, "old/orders")
    for one in (before, lake):
        log(one, 0, ("id", "long"))
    bring(glue, before)
    glue.edit("orders", lambda table: table["Parameters"].update(team="blue"))
    receipt = bring(glue, lake, on_foreign="replace")
    assert set(receipt.change.other) == {"location", "format"}
    found = glue.table("orders")
    assert found["Parameters"]["team"] == "blue"
    assert found["StorageDescriptor"]["SerdeInfo"]["Parameters"]["path"] == f"{lake.uri}/"


def test_a_link_to_another_table_is_never_replaced(glue: GlueServer, lake: Lake) -> None:
    log(lake, 0, ("id", "long"))
    glue.create_database()
    glue.create("orders", TargetTable={"CatalogId": "1", "DatabaseName": "d", "Name": "t"})
    with pytest.raises(CatalogConflict, match="is a link to another table"):
        bring(glue, lake, on_foreign="replace")
    assert set(glue.calls) == {"GetTable"}


def test_to_compare_writes_nothing(glue: GlueServer, lake: Lake) -> None:
    log(lake, 0, ("id", "long"))
    receipt = bring(glue, lake, compare_only=True)
    assert (receipt.action, receipt.database_created, receipt.compare_only) == ("created", True, True)
    assert not glue.has_database()
    bring(glue, lake)
    log(lake, 1, ("id", "long"), ("name", "string"))
    receipt = bring(glue, lake, compare_only=True)
    assert (receipt.action, receipt.change.added) == ("updated", ("name",))
    assert glue.columns("orders") == [("id", "bigint")]
    assert bring(glue, lake).change == receipt.change
    assert bring(glue, lake, compare_only=True).action == "unchanged"


@pytest.mark.parametrize("compare_only", [False, True])
def test_a_database_is_only_made_if_that_is_wanted(glue: GlueServer, lake: Lake, compare_only: bool) -> None:
    log(lake, 0, ("id", "long"))
    with pytest.raises(CatalogError, match=f"no database '{glue.database}'") as error:
        bring(glue, lake, create_database=False, compare_only=compare_only)
    assert not error.value.transient
    assert not glue.has_database()


def test_a_database_that_somebody_else_makes_meanwhile_is_fine(glue: GlueServer, lake: Lake) -> None:
    log(lake, 0, ("id", "long"))
    glue.before("CreateDatabase", glue.create_database)
    assert bring(glue, lake).action == "created"


@pytest.mark.parametrize(
    ("code", "status", "transient"),
    [
        ("AccessDeniedException", 400, False),
        ("ThrottlingException", 400, True),
        ("InternalServiceException", 500, True),
        ("OperationTimeoutException", 400, True),
    ],
)
def test_what_glue_refuses_is_said(
    glue: GlueServer, lake: Lake, code: str, status: int, transient: bool
) -> None:
    log(lake, 0, ("id", "long"))
    glue.fail("GetTable", code, status=status, times=10)
    with pytest.raises(CatalogError, match=f"reading {glue.database}.orders .* failed: {code}") as error:
        bring(glue, lake)
    assert error.value.transient is transient


def test_what_is_no_table_or_has_twins_is_refused_before_glue_is_asked_to_write(
    glue: GlueServer, lake: Lake
) -> None:
    with pytest.raises(TableNotFound, match=f"there is no Delta table at {lake.uri}"):
        bring(glue, lake)
    log(lake, 0, ("Id", "long"), ("id", "long"))
    with pytest.raises(UnsupportedColumn, match="'Id' and 'id'"):
        bring(glue, lake)
    assert set(glue.calls) <= {"GetTable"}


def test_the_name_is_the_folder_s_or_the_given_one_in_lower_case(s3: S3) -> None:
    table = Table(bucket="b", root="lake/Orders")
    assert str(Entry.of(table, "Shop")) == "shop.orders"
    assert str(Entry.of(table, "shop", "Order-Lines")) == "shop.order-lines"
    for place in (Table(bucket="b", root=""), Table(bucket="b", root="lake/or-ders")):
        with pytest.raises(ConfigError, match="makes no name for a catalog table"):
            Entry.of(place, "shop")
    for names in ({"database": ""}, {"database": "d", "name": "x" * 256}, {"database": "d", "name": "a\nb"}):
        with pytest.raises(ConfigError, match="1 to 255 characters"):
            Entry.of(table, **names)


def test_a_misspelt_word_is_refused(glue: GlueServer, lake: Lake) -> None:
    with pytest.raises(ConfigError, match="on_foreign is 'overwrite'"):
        bring(glue, lake, on_foreign="overwrite")


def test_of_many_columns_the_first_are_named_and_all_are_counted(glue: GlueServer, lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {f"c{number:03}": [1] for number in range(120)}))
    receipt = bring(glue, lake).to_json()
    assert len(receipt["columns_added"]) == 50
    assert receipt["columns_total"] == {"added": 120, "removed": 0, "changed": 0}
