"""Files that lie on S3 become rows of a table, once."""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from chunkwise.core.delta import Batch
from tests.support.delta import Lake, kinds, reasons


def test_files_become_a_table_in_one_commit(lake: Lake) -> None:
    arrivals = [lake.put(f"ds=2024-01-0{day}/part.parquet", {"id": [day, day + 10]}) for day in (1, 2, 3)]
    lake.s3.calls.clear()
    receipt = lake.append(*arrivals, partition_types={"ds": "date"})
    assert (receipt.version, receipt.committed, receipt.created) == (0, True, True)
    assert receipt.counts == {"added": 3}
    assert receipt.rows == 6
    assert lake.s3.calls == {"ListObjectsV2": 2, "GetObject": 3, "PutObject": 1}
    assert lake.rows("id") == [
        {"id": number, "ds": date(2024, 1, day)}
        for number, day in sorted((number, day) for day in (1, 2, 3) for number in (day, day + 10))
    ]
    assert lake.actions("protocol", 0) == [{"minReaderVersion": 1, "minWriterVersion": 2}]


def test_a_second_batch_is_appended_and_a_known_file_is_a_duplicate(lake: Lake) -> None:
    first = lake.put("a.parquet", {"id": [1]})
    lake.append(first)
    second = lake.put("b.parquet", {"id": [2]})
    lake.s3.calls.clear()
    receipt = lake.append(first, second, second)
    assert kinds(receipt) == ["duplicate", "added", "duplicate"]
    assert receipt.version == 1
    # the footer of the new file, and the log entry of version 0; nothing of the file that is known
    assert lake.s3.calls == {"ListObjectsV2": 2, "GetObject": 2, "PutObject": 1}
    assert lake.rows() == [{"id": 1}, {"id": 2}]


def test_a_batch_of_known_files_commits_nothing(lake: Lake) -> None:
    first = lake.put("a.parquet", {"id": [1]})
    lake.append(first)
    for arrival in (first, lake.arrival("a.parquet")):  # an event with an ETag, and one without
        receipt = lake.append(arrival)
        assert kinds(receipt) == ["duplicate"]
        assert (receipt.version, receipt.committed) == (0, False)
    assert lake.versions == [0]


def test_a_bad_file_stops_no_other_one(lake: Lake) -> None:
    good = lake.put("ds=1/good.parquet", {"id": [1]})
    bad = [
        lake.put_bytes("ds=1/empty.parquet", b""),
        lake.put_bytes("ds=1/text.parquet", b"id\n1\n"),
        lake.arrival("ds=1/gone.parquet"),
        lake.put("no.parquet", {"id": [1]}),
        lake.put("ds=1/hour=2/more.parquet", {"id": [1]}),
        lake.put("ds=1/ds=2/twice.parquet", {"id": [1]}),
        lake.put("ds=1/text_id.parquet", {"id": ["1"]}),
        lake.put("ds=1/_temporary/x.parquet", {"id": [1]}),
        lake.put("ds=1/twins.parquet", {"id": [1], "ID": [1]}),
    ]
    receipt = lake.append(good, *bad, schema="add_columns")
    assert kinds(receipt) == ["added", *["rejected"] * 7, "ignored", "rejected"]
    assert reasons(receipt)[1:] == [
        "empty",
        "not_parquet",
        "not_found",
        "partition",
        "partition",
        "partition",
        "schema",
        "hidden",
        "schema",
    ]
    assert lake.rows() == [{"id": 1, "ds": "1"}]


def test_nothing_good_makes_no_table(lake: Lake) -> None:
    receipt = lake.append(lake.put_bytes("a.parquet", b"x"))
    assert (receipt.version, receipt.committed, receipt.attempts) == (None, False, 0)
    assert lake.versions == []


def test_a_batch_number_that_the_table_has_is_a_replay_and_costs_no_footer(lake: Lake) -> None:
    first, second = lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [2]})
    lake.append(first, batch=Batch(app_id="queue", number=7))
    lake.s3.calls.clear()
    receipt = lake.append(second, batch=Batch(app_id="queue", number=7))
    assert kinds(receipt) == ["replay"]
    assert lake.s3.calls == {"ListObjectsV2": 2, "GetObject": 1}
    assert kinds(lake.append(second, batch=Batch(app_id="queue", number=8))) == ["added"]
    assert lake.open().transaction_version("queue") == 8


def test_names_of_all_kinds_are_read_again(lake: Lake) -> None:
    names = ["a+b", "50%", "%20", "x#?", "a:b", "x'y&z", "(a),[b];c=d"]
    arrivals = [lake.put(f"k=a%2Fc+%/{name}.parquet", {"id": [at]}) for at, name in enumerate(names)]
    assert lake.append(*arrivals).counts == {"added": len(names)}
    assert lake.rows("id") == [{"id": at, "k": "a/c+%"} for at in range(len(names))]
    assert lake.append(*arrivals).counts == {"duplicate": len(names)}


def test_names_that_polars_cannot_read_are_read_by_deltalake(lake: Lake) -> None:
    """It takes a name that the log encodes for the name, whoever wrote the table."""
    names = ["a b", "\u00fc", "{a}", '"', "<>"]
    assert lake.append(*(lake.put(f"{name}/f.parquet", {"id": [1]}) for name in names)).rows == 5
    assert lake.open().to_pyarrow_table().num_rows == 5


def test_names_that_nobody_can_read_are_rejected(lake: Lake) -> None:
    receipt = lake.append(lake.arrival("a:b/f.parquet"), lake.arrival("a\tb.parquet"))
    assert reasons(receipt) == ["name", "name"]
    assert lake.s3.calls["GetObject"] == 0


def test_the_partition_column_inside_a_file_is_passed_over(lake: Lake) -> None:
    lake.append(lake.put("ds=b/a.parquet", pa.table({"id": [1], "ds": ["a"]})))
    assert lake.rows() == [{"id": 1, "ds": "b"}]
