"""Files that lie on S3 become rows of a table, once."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import deltalake
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from deltalake.exceptions import DeltaError

from chunkwise.core.delta import Batch
from tests.support.delta import Lake, kinds, reasons
from tests.support.s3 import s3_client


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


def test_a_batch_that_another_one_has_overtaken_is_not_said_to_be_there(lake: Lake) -> None:
    """Nothing of it is added, and what the table lacks of it is rejected; what it has is told as ever."""
    lake.append(lake.put("0.parquet", {"id": [0]}), batch=Batch(app_id="queue", number=4))
    there, lost = lake.put("5a.parquet", {"id": [5]}), lake.put("5b.parquet", {"id": [50]})
    lake.append(there)
    lake.append(lake.put("6.parquet", {"id": [6]}), batch=Batch(app_id="queue", number=6))
    batch = Batch(app_id="queue", number=5)
    receipt = lake.append(there, lost, lake.delete("0.parquet"), batch=batch, on_delete="remove")
    assert kinds(receipt) == ["duplicate", "rejected", "rejected"]
    assert reasons(receipt) == ["", "batch_order", "batch_order"]
    assert "has batch 6 of 'queue', after which batch 5 is not added" in receipt.verdicts[1].detail
    assert (receipt.committed, lake.open().transaction_version("queue")) == (False, 6)
    assert kinds(lake.append(lost)) == ["added"]
    assert kinds(lake.append(lost, batch=batch)) == ["duplicate"]
    assert kinds(lake.append(lost, batch=Batch(app_id="queue", number=7))) == ["duplicate"]


def test_a_batch_that_is_overtaken_while_it_is_committed_is_not_said_to_be_there(lake: Lake) -> None:
    lake.append(lake.put("0.parquet", {"id": [0]}))
    late, early = lake.put("5.parquet", {"id": [5]}), lake.put("6.parquet", {"id": [6]})
    client = s3_client(lake.s3.endpoint)
    begun: list[int] = []

    def faster(params: dict[str, Any], **_: Any) -> None:
        if "_delta_log" in params["url_path"] and not begun:
            begun.append(1)
            lake.append(early, batch=Batch(app_id="queue", number=6))

    client.meta.events.register("before-call.s3.PutObject", faster)
    receipt = lake.append(late, batch=Batch(app_id="queue", number=5), client=client)
    assert (kinds(receipt), reasons(receipt)) == (["rejected"], ["batch_order"])
    assert [row["id"] for row in lake.rows("id")] == [0, 6]


def test_a_batch_of_which_a_file_is_missing_is_not_done(lake: Lake) -> None:
    """It comes again: with the object that was not there, and under a policy that lets the other one in."""
    batch = Batch(app_id="queue", number=7)
    old, new = lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [2], "note": ["x"]})
    late = lake.arrival("late.parquet")
    assert kinds(lake.append(lake.put("0.parquet", {"id": [0]}))) == ["added"]
    assert kinds(lake.append(old, new, late, batch=batch)) == ["added", "schema_too_new", "rejected"]
    lake.put("late.parquet", {"id": [3]})
    again = lake.append(old, new, late, batch=batch, schema="add_columns")
    assert kinds(again) == ["duplicate", "added", "added"]
    assert [row["id"] for row in lake.rows("id")] == [0, 1, 2, 3]
    assert kinds(lake.append(old, new, late, batch=batch)) == ["replay"] * 3


def test_names_of_all_kinds_are_read_again(lake: Lake) -> None:
    names = ["a+b", "50%", "%20", "x#?", "a:b", "x'y&z", "(a),[b];c=d"]
    arrivals = [lake.put(f"k=a%2Fc+%/{name}.parquet", {"id": [at]}) for at, name in enumerate(names)]
    assert lake.append(*arrivals).counts == {"added": len(names)}
    assert lake.rows("id") == [{"id": at, "k": "a/c+%"} for at in range(len(names))]
    assert lake.append(*arrivals).counts == {"duplicate": len(names)}


def test_a_compaction_by_deltalake_finds_and_removes_files_of_all_names(lake: Lake) -> None:
    """It goes by the form that it would write itself: any other one doubles rows, or is found nowhere."""
    signs = "!#$%&'()*+,-.:;=?@[\\]^_|"
    files = [lake.put(f"k=a/x{sign}y.parquet", {"id": [at]}) for at, sign in enumerate(signs)]
    values = "!#$%&'()+,-.;?@[\\]^_|"
    for at, sign in enumerate(values):
        files += [lake.put(f"k=a{sign}b/{n}.parquet", {"id": [100 * n + at]}) for n in (1, 2)]
    assert lake.append(*files).counts == {"added": len(files)}
    before = lake.rows("id")
    assert {row["k"] for row in before} == {"a", *(f"a{sign}b" for sign in values)}
    assert lake.open().optimize.compact()["numFilesRemoved"] == len(files)
    assert lake.rows("id") == before
    assert lake.append(*files).counts == {"replay": len(files)}


def test_a_tilde_is_written_as_deltalake_does_so_that_no_row_is_doubled(lake: Lake) -> None:
    """Its compaction finds no such file, of its own tables neither; with ``%7E`` it would double rows."""
    lake.append(*(lake.put(f"a~{at}.parquet", {"id": [at]}) for at in (1, 2)))
    with pytest.raises(DeltaError, match="missing files"):
        lake.open().optimize.compact()
    assert lake.rows() == [{"id": 1}, {"id": 2}]


def test_decimals_of_a_path_leave_a_table_that_can_be_opened(lake: Lake) -> None:
    values = {"2.50": "2.50", "3": "3.00", "00.1": "0.10", "-0": "0.00", "-12": "-12.00"}
    files = [lake.put(f"p={text}/f.parquet", {"id": [at]}) for at, text in enumerate(values)]
    assert lake.append(*files, partition_types={"p": "decimal(5,2)"}).counts == {"added": len(values)}
    assert lake.rows("id") == [{"id": at, "p": Decimal(text)} for at, text in enumerate(values.values())]


def test_decimals_of_a_path_are_added_to_a_table_of_deltalake(lake: Lake) -> None:
    price = pa.array([Decimal("1.50")], pa.decimal128(5, 2))
    write_deltalake(
        lake.uri, pa.table({"id": [1], "p": price}), partition_by=["p"], storage_options=lake.options
    )
    assert kinds(lake.append(lake.put("p=2.50/f.parquet", {"id": [2]}))) == ["added"]
    assert lake.rows("id") == [{"id": 1, "p": Decimal("1.50")}, {"id": 2, "p": Decimal("2.50")}]


def test_columns_of_a_path_that_engines_mix_up_make_no_table(lake: Lake) -> None:
    """The table could never be opened."""
    paths = ["A=1/a=2", "a%20b=1", "a,b=1", "a%3Db=1", "a(=1", "a%0A=1"]
    files = [lake.put(f"{path}/f.parquet", {"id": [1]}) for path in paths]
    assert reasons(lake.append(*files)) == ["partition"] * len(files)
    assert lake.versions == []


def test_values_that_polars_would_read_as_null_are_rejected_and_escaped_ones_are_not(lake: Lake) -> None:
    files = [lake.put(f"k={value}/f.parquet", {"id": [1]}) for value in ("a=b", "a*b", "a%3Db", "a%2Ab")]
    receipt = lake.append(*files)
    assert kinds(receipt) == ["rejected", "rejected", "added", "added"]
    assert "%3D" in receipt.verdicts[0].detail
    assert lake.rows("k") == [{"id": 1, "k": "a*b"}, {"id": 1, "k": "a=b"}]


def test_what_stands_for_null_in_a_path_stays_out_of_a_column_without_nulls(lake: Lake) -> None:
    schema = deltalake.Schema([deltalake.Field("id", "long"), deltalake.Field("p", "string", nullable=False)])
    deltalake.DeltaTable.create(lake.uri, schema, partition_by=["p"], storage_options=lake.options)
    receipt = lake.append(
        lake.put("p=__HIVE_DEFAULT_PARTITION__/f.parquet", {"id": [1]}),
        lake.put("p=/f.parquet", {"id": [2]}),
        lake.put("p=x/f.parquet", {"id": [3]}),
    )
    assert kinds(receipt) == ["rejected", "rejected", "added"]
    assert "'p' must not be null" in receipt.verdicts[0].detail
    assert lake.rows() == [{"id": 3, "p": "x"}]


def test_names_that_polars_cannot_read_are_read_by_deltalake(lake: Lake) -> None:
    """It takes a name that the log encodes for the name, whoever wrote the table."""
    names = ["a b", "\u00fc", "{a}", '"', "<>", "`"]
    assert lake.append(*(lake.put(f"{name}/f.parquet", {"id": [1]}) for name in names)).rows == 6
    assert lake.open().to_pyarrow_table().num_rows == 6


def test_names_that_nobody_can_read_are_rejected(lake: Lake) -> None:
    receipt = lake.append(lake.arrival("a:b/f.parquet"), lake.arrival("a\tb.parquet"))
    assert reasons(receipt) == ["name", "name"]
    assert lake.s3.calls["GetObject"] == 0


def test_the_partition_column_inside_a_file_is_passed_over(lake: Lake) -> None:
    lake.append(lake.put("ds=b/a.parquet", pa.table({"id": [1], "ds": ["a"]})))
    assert lake.rows() == [{"id": 1, "ds": "b"}]
