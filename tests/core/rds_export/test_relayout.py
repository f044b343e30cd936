"""The files of an export where partitioned tables have them, and the tables that they become."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from chunkwise.core.errors import ConfigError, DeltaError, ExportDamaged, ExportIncomplete, ObjectExists
from chunkwise.core.rds_export import ExportTable
from chunkwise.core.rds_export.commit import commit_table
from chunkwise.core.rds_export.relayout import (
    Placed,
    Target,
    check_roots,
    placed_in_place,
    relayout,
)
from tests.support.delta import Lake
from tests.support.faults import FOREVER, Faults
from tests.support.rds_export import EXPORT, ExportedTable, orders, put_export, shop
from tests.support.s3 import S3

DAY = "2024-03-01"


def exported(s3: S3, folder: str = "shop/public.orders", export: str = EXPORT, **options: Any) -> ExportTable:
    """The fixture's export; one of its tables, as the sensor finds it."""
    root = put_export(s3, options.pop("tables", None) or shop(), export=export, **options)
    front = f"{root}{folder}/"
    keys = [key for key in every(s3) if key.startswith(front) and key.endswith(".parquet")]
    database, _, name = folder.partition("/")
    s3.calls.clear()
    return ExportTable(
        name=folder.replace("/", "."),
        database=database,
        folder=name,
        uri=f"s3://{s3.bucket}/{front.rstrip('/')}",
        batches=2,
        files=len(keys),
        bytes=sum(len(s3.get(key)) for key in keys),
    )


def every(s3: S3) -> list[str]:
    return s3.keys()


def target(s3: S3, **options: Any) -> Target:
    return Target(**{"uri": f"s3://{s3.bucket}/lake", "value": DAY, **options})


def copies(s3: S3) -> list[str]:
    return [key for key in every(s3) if key.startswith("lake/") and "/_" not in key]


def test_parts_of_all_batches_stand_beside_each_other_with_their_bytes(s3: S3) -> None:
    table = exported(s3)
    placed = relayout(s3.client, EXPORT, table, target(s3))
    front = f"lake/shop/public.orders/ds={DAY}/{EXPORT}_"
    assert placed == Placed(
        export=EXPORT,
        name="shop.public.orders",
        table_uri=f"s3://{s3.bucket}/lake/shop/public.orders",
        objects_uri=f"s3://{s3.bucket}/{front}",
        partition={"ds": DAY},
        files=5,
        bytes=table.bytes,
        copied=5,
    )
    names = [f"{batch}_part-{number:05}" for batch, number in [(1, 0), (1, 2), (1, 7), (2, 0), (2, 2)]]
    assert [key[len(front) :].partition("-c5a8")[0] for key in copies(s3)] == names
    source = table.uri.removeprefix(f"s3://{s3.bucket}/")
    assert [s3.get(key) for key in copies(s3)] == [
        s3.get(key) for key in every(s3) if key.startswith(source) and key.endswith(".parquet")
    ]
    # a listing of both places, and one copy for each file: no byte comes here
    assert s3.calls == Counter(ListObjectsV2=2, CopyObject=5)


def test_a_repetition_copies_what_is_missing(s3: S3) -> None:
    table = exported(s3)
    relayout(s3.client, EXPORT, table, target(s3))
    gone = copies(s3)[1:3]
    for key in gone:
        s3.client.delete_object(Bucket=s3.bucket, Key=key)
    s3.calls.clear()
    placed = relayout(s3.client, EXPORT, table, target(s3))
    assert (placed.files, placed.copied) == (5, 2)
    assert s3.calls == Counter(ListObjectsV2=2, CopyObject=2)
    assert len(copies(s3)) == 5


def test_copies_are_known_although_their_etags_are_others(s3: S3) -> None:
    """Under KMS every object has an ETag of its own; so has a copy of what was uploaded in parts."""
    table = exported(s3)
    (key,) = [key for key in every(s3) if "public.orders/1/part-00007" in key]
    place = {"Bucket": s3.bucket, "Key": key}
    body = s3.get(key)
    upload = s3.client.create_multipart_upload(**place)["UploadId"]
    part = s3.client.upload_part(**place, UploadId=upload, PartNumber=1, Body=body)
    s3.client.complete_multipart_upload(
        **place, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    relayout(s3.client, EXPORT, table, target(s3))
    (copy,) = [key for key in copies(s3) if "part-00007" in key]
    assert s3.head(copy)["ETag"] != s3.head(key)["ETag"]
    s3.calls.clear()
    assert relayout(s3.client, EXPORT, table, target(s3)).copied == 0
    assert s3.calls == Counter(ListObjectsV2=2, HeadObject=1)


def test_a_foreign_object_under_the_name_of_a_copy_is_an_error(s3: S3) -> None:
    table = exported(s3)
    relayout(s3.client, EXPORT, table, target(s3))
    s3.put(copies(s3)[0], b"mine")
    with pytest.raises(ObjectExists, match="is no copy of"):
        relayout(s3.client, EXPORT, table, target(s3))
    assert s3.get(copies(s3)[0]) == b"mine"


@pytest.mark.parametrize("change", ["more", "less"])
def test_other_files_than_the_sensor_found_are_an_error(s3: S3, change: str) -> None:
    table = exported(s3)
    relayout(s3.client, EXPORT, table, target(s3))
    for place in (table.uri, f"s3://{s3.bucket}/lake/shop/public.orders/ds={DAY}"):
        front = place.removeprefix(f"s3://{s3.bucket}/")
        key = next(key for key in every(s3) if key.startswith(front) and "part-00007" in key)
        if change == "more":
            s3.put(key.replace("part-00007", "part-00008"), b"x")
        else:
            s3.client.delete_object(Bucket=s3.bucket, Key=key)
    with pytest.raises(ExportIncomplete, match=r"had 5 files of .* and has [46] of"):
        relayout(s3.client, EXPORT, table, target(s3))
    placed = Placed(
        export=EXPORT,
        name="t",
        table_uri=f"s3://{s3.bucket}/lake/shop/public.orders",
        objects_uri=f"s3://{s3.bucket}/lake/shop/public.orders/ds={DAY}/{EXPORT}_",
        partition={"ds": DAY},
        files=5,
        bytes=table.bytes,
    )
    with pytest.raises(
        ExportIncomplete, match=r"should have 5 files of .* has [46] of .*nothing was committed"
    ):
        commit_table(s3.client, placed)


def test_two_files_never_get_one_name(s3: S3) -> None:
    table = exported(s3)
    first = next(key for key in every(s3) if "shop/public.orders/1/part-00000" in key)
    s3.put(first.replace("/1/part", "/1_part"), b"1")
    table = msgspec.structs.replace(table, files=6, bytes=table.bytes + 1)
    with pytest.raises(ExportDamaged, match=r"two files of .* would both be"):
        relayout(s3.client, EXPORT, table, target(s3))
    assert copies(s3) == []


@pytest.mark.long
def test_large_files_are_copied_in_parts(s3: S3) -> None:
    table = exported(s3, tables=[shop()[0]])
    (key,) = [key for key in every(s3) if "/2/part-00002" in key]
    data = bytes(6 << 20)
    size = len(s3.get(key))
    s3.put(key, data)
    table = msgspec.structs.replace(table, bytes=table.bytes - size + len(data))
    for copied in (5, 0):
        assert relayout(s3.client, EXPORT, table, target(s3), largest=5 << 20).copied == copied
    assert s3.calls["UploadPartCopy"] == 1
    (copy,) = [key for key in copies(s3) if "2_part-00002" in key]
    assert s3.get(copy) == data
    # in parts or not: only the commit of the export adds it
    described = [
        (s3.head(key)["Metadata"]["chunkwise-reserved"][:7], s3.head(key)["ContentType"])
        for key in copies(s3)
    ]
    assert set(described) == {("export ", "application/vnd.apache.parquet")}


def test_no_more_copies_than_allowed_run_at_once(s3: S3, faults: Faults) -> None:
    """One is held up: the others wait behind it."""
    from concurrent.futures import ThreadPoolExecutor

    table = exported(s3)
    held = faults.hold("CopyObject")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(relayout, faults.client, EXPORT, table, target(s3), copies_in_flight=1)
        assert held.arrived.wait(120)
        assert faults.seen["CopyObject"] == 1
        faults.clear()
        assert done.result(120).copied == 5


def test_a_copy_that_fails_ends_the_others_soon(s3: S3, faults: Faults) -> None:
    table = exported(s3)
    faults.fail("CopyObject", status=403, times=FOREVER)
    with pytest.raises(Exception, match="could not be copied"):
        relayout(faults.client, EXPORT, table, target(s3), copies_in_flight=1)
    assert faults.seen["CopyObject"] < 5
    faults.clear()
    assert relayout(faults.client, EXPORT, table, target(s3)).copied == 5


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("{database}/{schema}.{table}", "shop/public.orders"),
        ("{database}/{schema}/{table}", "shop/public/orders"),
        ("{table}", "orders"),
    ],
    ids=["default", "folders", "table"],
)
def test_tables_lie_where_the_path_says(path: str, root: str) -> None:
    place = Target(uri="s3://b/lake/", path=path, value=DAY)
    assert place.root_of("shop", "public.orders") == f"s3://b/lake/{root}"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"uri": "b/lake"}, "target_uri is 'b/lake'"),
        ({"uri": "s3://b/lake//x"}, "target_uri is"),
        ({"path": "{table"}, "table_path is '{table'"),
        ({"path": "{name}"}, "its fields are {database}, {schema}, {table}"),
        ({"path": ""}, "table_path '' makes ''"),
        ({"path": "x=1/{table}"}, "without '='"),
        ({"path": "../{table}"}, "table_path"),
        ({"value": ""}, "the partition is 'ds' = ''"),
        ({"column": "a/b"}, "the partition is 'a/b'"),
        ({"column": "d s"}, "a name without"),
    ],
    ids=["uri", "folders", "braces", "field", "nothing", "partition", "above", "value", "column", "space"],
)
def test_targets_that_cannot_work_are_refused_before_any_request(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Target(**{"uri": "s3://b/lake", "value": DAY, **options})


def test_two_tables_in_one_place_are_refused(s3: S3) -> None:
    tables = [exported(s3), exported(s3, "crm/public.orders")]
    check_roots(tables, target(s3))
    with pytest.raises(ConfigError, match=r"puts shop\.public\.orders and crm\.public\.orders in one place"):
        check_roots(tables, target(s3, path="{schema}.{table}"))


# --- the tables ----------------------------------------------------------------------------------------


def rows(lake: Lake) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "ds"} for row in lake.rows("id")]


@pytest.mark.parametrize("folder", ["shop/public.orders", "shop/public.customers"])
def test_a_table_has_the_rows_of_the_export_and_no_others(s3: S3, folder: str) -> None:
    expected = next(table.rows for table in shop() if table.folder == folder)
    placed = relayout(s3.client, EXPORT, exported(s3, folder), target(s3))
    for committed in (True, False):
        assert commit_table(s3.client, placed).committed is committed
        lake = Lake(s3, f"lake/{folder}")
        assert rows(lake) == expected
        assert {str(row["ds"]) for row in lake.rows("id")} == {DAY}


def test_a_later_export_takes_the_place_of_an_earlier_one_and_back(s3: S3) -> None:
    """Both have parts of the same names, as no two exports of RDS have."""
    others = shop()
    others[0].batches = {"1": {0: orders(8, 9)}}
    first = relayout(s3.client, "e", exported(s3, export="e"), target(s3))
    later = relayout(s3.client, "e-2", exported(s3, export="e-2", tables=others), target(s3))
    lake = Lake(s3, "lake/shop/public.orders")
    for placed, ids in ((first, [1, 2, 3, 4, 5, 6, 7]), (later, [8, 9]), (first, [1, 2, 3, 4, 5, 6, 7])):
        commit_table(s3.client, placed)
        assert [row["id"] for row in lake.rows("id")] == ids
    assert lake.versions == [0, 1, 2]


@pytest.mark.long
def test_days_stand_beside_each_other(s3: S3) -> None:
    table = exported(s3)
    for day in (DAY, "2024-03-02"):
        commit_table(s3.client, relayout(s3.client, EXPORT, table, target(s3, value=day)))
    assert len(Lake(s3, "lake/shop/public.orders").rows("id")) == 14


@pytest.mark.long
def test_a_partition_that_is_no_day_is_a_string(s3: S3) -> None:
    placed = relayout(s3.client, EXPORT, exported(s3), target(s3, column="week", value="2024/W09 a"))
    commit_table(s3.client, placed)
    lake = Lake(s3, "lake/shop/public.orders")
    found = lake.open().to_pyarrow_table().to_pylist()
    assert {row["week"] for row in found} == {"2024/W09 a"}
    assert commit_table(s3.client, placed).committed is False


@pytest.mark.long
def test_a_table_without_rows_makes_none_and_empties_its_partition(s3: S3) -> None:
    empty = relayout(s3.client, EXPORT, exported(s3, "shop/public.empty"), target(s3))
    assert (empty.files, commit_table(s3.client, empty).version) == (0, None)
    full = relayout(s3.client, "e-2", exported(s3, export="e-2"), target(s3))
    commit_table(s3.client, full)
    none = shop()
    none[0].batches = {"1": {}}
    commit_table(s3.client, relayout(s3.client, "e-3", exported(s3, export="e-3", tables=none), target(s3)))
    assert Lake(s3, "lake/shop/public.orders").rows() == []


def test_in_place_each_folder_of_the_export_is_a_table_and_nothing_is_copied(s3: S3) -> None:
    table = exported(s3)
    placed = placed_in_place(EXPORT, table)
    before = s3.keys()
    for committed in (True, False):
        assert commit_table(s3.client, placed).committed is committed
    lake = Lake(s3, table.uri.removeprefix(f"s3://{s3.bucket}/"))
    assert lake.rows("id") == shop()[0].rows
    assert s3.calls["CopyObject"] == 0
    assert all("/_delta_log/" in key for key in set(s3.keys()) - set(before))


@pytest.mark.long
def test_what_a_compaction_adds_in_place_is_not_taken_for_the_export(s3: S3) -> None:
    table = exported(s3)
    placed = placed_in_place(EXPORT, table)
    commit_table(s3.client, placed)
    lake = Lake(s3, table.uri.removeprefix(f"s3://{s3.bucket}/"))
    lake.open().optimize.compact()
    with pytest.raises(ExportIncomplete, match="should have 5 files"):
        commit_table(s3.client, placed)
    assert lake.rows("id") == shop()[0].rows


def test_files_outside_the_table_are_refused(s3: S3) -> None:
    placed = relayout(s3.client, EXPORT, exported(s3), target(s3))
    with pytest.raises(ConfigError, match="does not lie in s3://elsewhere/t"):
        commit_table(s3.client, msgspec.structs.replace(placed, table_uri="s3://elsewhere/t"))


def test_a_type_that_changed_between_two_exports_is_told(s3: S3) -> None:
    commit_table(s3.client, relayout(s3.client, EXPORT, exported(s3), target(s3)))
    changed = [
        ExportedTable(
            target="shop.public.orders",
            folder="shop/public.orders",
            batches={"1": {0: [{"id": "1", "note": "x", "amount": 1.0}]}},
        )
    ]
    table = exported(s3, export="e-2", tables=changed)
    with pytest.raises(DeltaError, match="column 'id' is long in the table and string in the file"):
        commit_table(s3.client, relayout(s3.client, "e-2", table, target(s3)))
    assert len(Lake(s3, "lake/shop/public.orders").rows("id")) == 7
