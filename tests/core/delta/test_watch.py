"""What a table has, by its log alone, and waiting for it."""

from __future__ import annotations

import json
import random
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.core.delta import Batch, load
from chunkwise.core.delta.census import Census, Counts, delta_metadata
from chunkwise.core.delta.log import load_whole
from chunkwise.core.delta.watch import Condition, TableWatch
from chunkwise.core.errors import ConfigError, LogDamaged, ReadFailed, TableNotFound, UnsupportedTable
from tests.support.delta import Lake, parquet
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3


@pytest.fixture
def lake(s3: S3) -> Lake:
    return Lake(s3)


def watch(lake: Lake, **condition: Any) -> TableWatch:
    return TableWatch(lake.table, Condition.of(**condition))


def commit(lake: Lake, version: int, *actions: dict[str, Any]) -> None:
    """Write a version as another writer would."""
    lake.s3.put(lake.table.commit_key(version), "\n".join(map(json.dumps, actions)).encode())


def made(partitions: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The first actions of a table."""
    fields = [
        {"name": name, "type": kind, "nullable": True, "metadata": {}}
        for name, kind in {"id": "long", **(partitions or {})}.items()
    ]
    return [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": "t",
                "format": {"provider": "parquet", "options": {}},
                "schemaString": json.dumps({"type": "struct", "fields": fields}),
                "partitionColumns": list(partitions or {}),
                "configuration": {},
            }
        },
    ]


def add(path: str, rows: int | None, size: int = 10, **more: Any) -> dict[str, Any]:
    stats = {} if rows is None else {"stats": json.dumps({"numRecords": rows})}
    action = {"path": path, "size": size, "partitionValues": {}, "modificationTime": 0, "dataChange": True}
    return {"add": {**action, **stats, **more}}


def remove(path: str) -> dict[str, Any]:
    return {"remove": {"path": path, "deletionTimestamp": 0, "dataChange": True}}


# --- what a table is --------------------------------------------------------------------------------------


def test_what_is_read_is_what_deltalake_reads(lake: Lake) -> None:
    for day in (1, 2, 3):
        lake.append(
            lake.put(f"ds=2024-01-0{day}/f.parquet", {"id": list(range(day))}),
            partition_types={"ds": "date"},
            batch=Batch(app_id="feed", number=day),
        )
    found = delta_metadata(lake.s3.client, lake.table).to_json(most=2)
    table = lake.open()
    assert found == {
        "uri": lake.uri,
        "version": table.version(),
        "files": len(table.file_uris()),
        "bytes": sum(table.get_add_actions()["size_bytes"].to_pylist()),
        "rows": 6,
        "columns": 2,
        "metadata": {
            "id": str(table.metadata().id),
            "name": None,
            "description": None,
            "partition_columns": ["ds"],
            "schema": json.loads(table.schema().to_json()),
            "configuration": {},
            "created_time": table.metadata().created_time,
        },
        "protocol": {"minReaderVersion": 1, "minWriterVersion": 2},
        "transactions": {"feed": 3},
        "transactions_total": 1,
    }
    assert [row["id"] for row in lake.rows("ds", "id")] == [0, 0, 1, 0, 1, 2]


def test_of_many_columns_and_sources_the_first_are_named_and_all_are_counted(lake: Lake) -> None:
    """Columns are whole: one with fields in it counts with these."""
    data = {"id": [1], "who": [{"name": "x", "age": 1}], **{f"c{number}": [1] for number in range(300)}}
    for number in range(4):
        file = lake.put(f"{number}.parquet", data)
        lake.append(file, batch=Batch(app_id=f"feed{number}", number=1))
    info = delta_metadata(lake.s3.client, lake.table)
    for most, named in ((0, []), (1, ["id"]), (3, ["id"]), (4, ["id", "who"]), (5, ["id", "who", "c0"])):
        found = info.to_json(most=most)
        assert [one["name"] for one in found["metadata"]["schema"]["fields"]] == named
        assert (found["columns"], found["transactions_total"]) == (302, 4)
        assert len(found["transactions"]) == min(most, 4)


def test_no_file_of_the_table_is_read(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    lake.s3.calls.clear()
    delta_metadata(lake.s3.client, lake.table)
    assert lake.s3.calls == {"ListObjectsV2": 1, "GetObject": 1}


@pytest.mark.parametrize("checkpoint", [False, True])
def test_another_engine_s_table_is_counted_from_its_log_or_its_checkpoint(
    lake: Lake, checkpoint: bool
) -> None:
    """deltalake writes, deletes and rewrites; with a checkpoint the log before it is gone."""
    for day in ("a", "b", "a", None):
        write_deltalake(
            lake.uri,
            pa.table({"id": range(4), "part": pa.array([day] * 4, pa.string())}),
            mode="append",
            partition_by=["part"],
            storage_options=lake.options,
        )
    table = lake.open()
    table.delete("id = 0 and part = 'a'")
    table.optimize.compact()
    if checkpoint:
        table.create_checkpoint()
        lake.drop_log(table.version())
    census = Census(lake.uri)
    load_whole(lake.s3.client, lake.table, census)
    assert census.version == table.version()
    actions = pa.table(lake.open().get_add_actions(flatten=True)).to_pylist()
    for values, wanted in [
        ({}, actions),
        ({"part": "a"}, [one for one in actions if one["partition.part"] == "a"]),
        ({"part": "b"}, [one for one in actions if one["partition.part"] == "b"]),
        ({"part": None}, [one for one in actions if one["partition.part"] is None]),
        ({"part": "c"}, []),
    ]:
        assert census.counts(values) == Counts(
            files=len(wanted),
            bytes=sum(one["size_bytes"] for one in wanted),
            rows=sum(one["num_records"] for one in wanted),
        )


_PATHS = st.sampled_from(["a", "b", "c", "d", "%20e", "ü"])
_COMMITS = st.lists(
    st.dictionaries(_PATHS, st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=4),
    min_size=1,
    max_size=8,
)


@given(commits=_COMMITS, seed=st.integers(0, 2**16))
@settings(max_examples=60)
def test_counts_are_those_of_the_files_that_are_left(commits: list[dict[str, int | None]], seed: int) -> None:
    """The oracle is a dictionary: a commit replaces or removes what it names, in any order of its lines."""
    order = random.Random(seed)
    census, left = Census("s3://b/t"), {}
    census.fold(0, "\n".join(map(json.dumps, made())).encode())
    for version, commit_ in enumerate(commits, 1):
        lines = []
        for path, rows in commit_.items():
            if path in left:
                lines.append(remove(path))
                del left[path]
            if rows != 3:
                lines.append(add(path, rows))
                left[path] = rows
        order.shuffle(lines)
        census.fold(version, "\n".join(map(json.dumps, lines)).encode())
    known = [rows for rows in left.values() if rows is not None]
    assert census.counts() == Counts(
        files=len(left),
        bytes=10 * len(left),
        rows=sum(known),
        files_without_rows=len(left) - len(known),
    )


def test_a_checkpoint_may_have_statistics_as_columns_only(lake: Lake) -> None:
    """As Spark writes it with delta.checkpoint.writeStatsAsJson=false."""
    protocol, metadata = (action[name] for action, name in zip(made(), ("protocol", "metaData")))
    file = add("a", None)["add"] | {"stats_parsed": {"numRecords": 7, "nullCount": {"id": 0}}}
    types = {
        "protocol": pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())]),
        "metaData": pa.struct(
            [
                ("id", pa.string()),
                ("schemaString", pa.string()),
                ("partitionColumns", pa.list_(pa.string())),
                ("configuration", pa.map_(pa.string(), pa.string())),
            ]
        ),
        "add": pa.struct(
            [
                ("path", pa.string()),
                ("partitionValues", pa.map_(pa.string(), pa.string())),
                ("size", pa.int64()),
                (
                    "stats_parsed",
                    pa.struct([("numRecords", pa.int64()), ("nullCount", pa.struct([("id", pa.int64())]))]),
                ),
            ]
        ),
    }
    metadata = {name: value for name, value in metadata.items() if name != "format"} | {"configuration": []}
    rows = [{"protocol": protocol}, {"metaData": metadata}, {"add": file | {"partitionValues": []}}]
    columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in types.items()}
    lake.s3.put(lake.table.key("_delta_log", f"{3:020d}.checkpoint.parquet"), parquet(pa.table(columns)))
    commit(lake, 4, add("b", 5))
    found = delta_metadata(lake.s3.client, lake.table)
    assert (found.version, found.counts) == (4, Counts(files=2, bytes=20, rows=12))


def test_rows_that_a_deletion_vector_has_are_not_counted(lake: Lake) -> None:
    vector = {"storageType": "u", "pathOrInlineDv": "x", "offset": 1, "sizeInBytes": 4, "cardinality": 3}
    commit(lake, 0, *made(), add("a", 10, deletionVector=vector), add("b", 5))
    assert delta_metadata(lake.s3.client, lake.table).counts.rows == 12


def test_rows_are_unknown_if_one_file_does_not_say_them(lake: Lake) -> None:
    commit(lake, 0, *made(), add("a", 10), add("b", None), add("c", 1, stats="{"))
    found = delta_metadata(lake.s3.client, lake.table)
    assert (found.counts.rows, found.counts.files_without_rows) == (10, 2)
    assert found.to_json(most=5)["rows"] is None


def test_no_table_is_an_error(lake: Lake) -> None:
    with pytest.raises(TableNotFound, match=f"there is no Delta table at {lake.uri}"):
        delta_metadata(lake.s3.client, lake.table)


def test_partition_values_are_compared_by_their_type(lake: Lake) -> None:
    """Writers write them differently; who waits may, too."""
    types = {"n": "integer", "flag": "boolean", "at": "timestamp"}
    commit(
        lake,
        0,
        *made(types),
        add("1", 1, partitionValues={"n": "7", "flag": "true", "at": "2024-01-01 00:00:00"}),
        add("2", 1, partitionValues={"n": "007", "flag": "True", "at": "2024-01-01T00:00:00.000000Z"}),
        add("3", 1, partitionValues={"n": None, "flag": "", "at": "2024-01-02 00:00:00"}),
        add("4", 1, partitionValues={"n": "seven", "flag": None, "at": None}),
    )
    census = Census(lake.uri)
    census.fold(0, lake.s3.get(lake.table.commit_key(0)))
    for partition, files in [
        ({"n": "7"}, 2),
        ({"n": "07", "flag": "TRUE"}, 2),
        ({"at": "2024-01-01 00:00:00"}, 2),
        ({"n": None}, 1),
        ({"flag": ""}, 2),
        ({"n": "8"}, 0),
    ]:
        assert census.counts(partition).files == files
    with pytest.raises(
        ConfigError, match=r"partition has 'day', and s3://.* is partitioned by 'n', 'flag', 'at'"
    ):
        census.counts({"day": "1"})
    with pytest.raises(ConfigError, match="no integer") as error:
        census.counts({"n": "secret"})
    assert "secret" not in str(error.value)


# --- waiting ----------------------------------------------------------------------------------------------


def test_a_version_is_waited_for_by_one_listing_and_nothing_is_read(lake: Lake) -> None:
    it = watch(lake, version=1)
    assert not it.look(lake.s3.client)
    assert it.seen.line == f"{lake.uri}: no table yet"
    lake.append(lake.put("a.parquet", {"id": [1]}))
    lake.s3.calls.clear()
    assert not it.look(lake.s3.client)
    assert it.seen.version == 0
    lake.append(lake.put("b.parquet", {"id": [1]}))
    lake.s3.calls.clear()
    assert it.look(lake.s3.client)
    assert it.seen.to_json() == {"uri": lake.uri, "version": 1}
    assert lake.s3.calls == {"ListObjectsV2": 1}


def test_without_a_condition_the_table_has_to_exist(lake: Lake) -> None:
    it = watch(lake)
    assert not it.look(lake.s3.client)
    commit(lake, 0, *made())
    assert it.look(lake.s3.client)


def test_each_log_entry_is_read_once(lake: Lake) -> None:
    it = watch(lake, min_rows=6)
    for number in range(3):
        lake.append(lake.put(f"{number}.parquet", {"id": [1, 2]}))
        lake.s3.calls.clear()
        assert it.look(lake.s3.client) is (number == 2)
        assert lake.s3.calls["GetObject"] == 1
        lake.s3.calls.clear()
        assert it.look(lake.s3.client) is (number == 2)
        assert lake.s3.calls == {"ListObjectsV2": 1}
    assert it.seen.to_json() == {
        "uri": lake.uri,
        "version": 2,
        "files": 3,
        "rows": 6,
        "bytes": sum(lake.open().get_add_actions()["size_bytes"].to_pylist()),
    }


@pytest.mark.parametrize(
    ("condition", "done"),
    [
        ({}, True),
        ({"version": 1}, True),
        ({"version": 2}, False),
        ({"min_files": 3}, True),
        ({"min_files": 4}, False),
        ({"min_rows": "6"}, True),
        ({"min_rows": 7}, False),
        ({"partition": {"ds": "a"}}, True),
        ({"partition": {"ds": "a"}, "min_files": 2}, True),
        ({"partition": {"ds": "a"}, "min_files": 3}, False),
        ({"partition": {"ds": "b"}, "min_rows": 3}, True),
        ({"partition": {"ds": "b"}, "min_rows": 4}, False),
        ({"partition": {"ds": "c"}}, False),
        ({"partition": {"ds": "c"}, "min_files": 0}, True),
        ({"app_id": "feed", "batch_number": 5}, True),
        ({"app_id": "feed", "batch_number": 6}, False),
        ({"app_id": "other", "batch_number": 0}, False),
        ({"app_id": "feed", "batch_number": 5, "min_files": 3, "version": 1}, True),
        ({"app_id": "feed", "batch_number": 5, "min_files": 3, "version": 2}, False),
    ],
    ids=json.dumps,
)
def test_all_of_a_condition_must_be_true(lake: Lake, condition: dict[str, Any], done: bool) -> None:
    parts = {"ds": "string"}
    commit(lake, 0, *made(parts), add("1", 1, partitionValues={"ds": "a"}))
    commit(
        lake,
        1,
        {"txn": {"appId": "feed", "version": 5}},
        add("2", 2, partitionValues={"ds": "a"}),
        add("3", 3, partitionValues={"ds": "b"}),
    )
    assert watch(lake, **condition).look(lake.s3.client) is done


def test_files_that_are_taken_away_count_no_more(lake: Lake) -> None:
    it = watch(lake, min_files=3)
    commit(lake, 0, *made(), add("1", 1), add("2", 1))
    assert not it.look(lake.s3.client)
    commit(lake, 1, remove("1"), add("3", 1))
    assert not it.look(lake.s3.client)
    commit(lake, 2, add("1", 1))
    assert it.look(lake.s3.client)


def test_rows_that_nobody_counts_are_not_waited_for_for_ever(lake: Lake) -> None:
    it = watch(lake, min_rows=5)
    commit(lake, 0, *made(), add("1", 5), add("2", None))
    assert it.look(lake.s3.client)
    it = watch(lake, min_rows=6)
    with pytest.raises(UnsupportedTable, match=r"1 files of .* have no number of rows"):
        it.look(lake.s3.client)


def test_a_table_that_is_made_anew_meanwhile_is_read_anew(lake: Lake) -> None:
    it = watch(lake, min_files=3)
    commit(lake, 0, *made(), add("1", 1))
    commit(lake, 1, add("2", 1))
    assert not it.look(lake.s3.client)
    lake.drop_log()
    commit(lake, 0, *made(), add("4", 1))
    commit(lake, 1, add("5", 1))
    looks = [it.look(lake.s3.client) for _ in range(3)]
    assert looks == [False, False, False]
    assert it.seen.counts == Counts(files=2, bytes=20, rows=2)
    lake.drop_log()
    commit(lake, 0, *made(), add("6", 1), add("7", 1), add("8", 1))
    assert any(it.look(lake.s3.client) for _ in range(3))


@pytest.mark.parametrize("listed", [False, True])
def test_entries_that_were_cleaned_away_meanwhile_are_in_a_checkpoint(lake: Lake, listed: bool) -> None:
    """Between two looks, or between the listing and the reading of one."""
    it = watch(lake, min_files=5)
    for number in range(5):
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}))
        if number == 0:
            assert not it.look(lake.s3.client)
    if listed:
        pages = lake.s3.client.list_objects_v2(Bucket=lake.s3.bucket, Prefix=it.prefix)
        assert it.take((one["Key"], one["ETag"]) for one in pages["Contents"])
    lake.open().create_checkpoint()
    lake.drop_log(4)
    if listed:
        it.read(lake.s3.client)
    assert any(it.look(lake.s3.client) for _ in range(2))
    assert it.seen.counts is not None
    assert (it.seen.version, it.seen.counts.files) == (4, 5)


def test_a_look_that_failed_is_made_up_for_by_the_next_one(lake: Lake, faults: Faults) -> None:
    """The listing was read, the entry was not."""
    it = watch(lake, min_files=1)
    commit(lake, 0, *made(), add("1", 1))
    faults.fail("GetObject", status=403, times=1)
    with pytest.raises(ReadFailed):
        it.look(faults.client)
    assert it.look(faults.client)


def test_a_log_that_cannot_be_read_is_an_error(lake: Lake, faults: Faults) -> None:
    it = watch(lake, min_files=1)
    lake.s3.put(lake.table.commit_key(0), b"{}x\n")
    with pytest.raises(LogDamaged, match="version 0"):
        it.look(lake.s3.client)
    faults.fail("ListObjectsV2", status=403, times=FOREVER)
    with pytest.raises(ReadFailed):
        it.look(faults.client)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        ({"version": -1}, "version is -1: it must be a whole number"),
        ({"min_files": "many"}, "min_files is 'many'"),
        ({"min_rows": 1.5}, "min_rows is 1.5"),
        ({"min_rows": True}, "min_rows is True"),
        ({"app_id": "a"}, "app_id and batch_number need each other"),
        ({"batch_number": 1}, "app_id and batch_number need each other"),
        ({"partition": "ds=1"}, "partition must be a mapping"),
    ],
    ids=["negative", "text", "fraction", "flag", "app", "batch", "partition"],
)
def test_a_condition_that_cannot_be_is_refused(condition: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Condition.of(**condition)


def test_a_condition_travels() -> None:
    condition = Condition.of(version="3", partition={"ds": 1, "x": None}, app_id="a", batch_number=0)
    assert (condition.min_files, condition.partition) == (1, {"ds": "1", "x": None})
    assert Condition.of(**json.loads(json.dumps(condition.to_json()))) == condition


def test_the_state_of_an_append_and_a_census_agree(lake: Lake) -> None:
    """Both fold one log: version, metadata and batches are the same, whoever asks."""
    for number in range(25):
        lake.append(
            lake.put(f"{number}.parquet", {"id": [number]}), batch=Batch(app_id="x", number=number), every=10
        )
    info, state = delta_metadata(lake.s3.client, lake.table), load(lake.s3.client, lake.table)
    assert (info.version, info.transactions) == (state.version, state.transactions)
    assert info.counts.files == len(deltalake.DeltaTable(lake.uri, storage_options=lake.options).file_uris())
