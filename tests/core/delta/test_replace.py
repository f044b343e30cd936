"""A partition becomes exactly these files, in one commit, or stays as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.core.delta import (
    Arrival,
    Maintenance,
    Policy,
    Settings,
    TableReceipt,
    checkpointer,
    replace_partition,
)
from chunkwise.core.errors import (
    CommitContended,
    ConfigError,
    DeltaError,
    ReadFailed,
    UnsupportedTable,
)
from tests.support.delta import Lake, kinds, write_log
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3, s3_client

DAYS = ("2024-01-01", "2024-01-02")


def replace(
    lake: Lake,
    *arrivals: Arrival,
    ds: str | None = DAYS[0],
    client: Any = None,
    partition: Mapping[str, str | None] | None = None,
    default_types: Mapping[str, str] | None = None,
    checkpoints: int = 0,
    attempts: int = 1000,
    **policy: Any,
) -> TableReceipt:
    maintenance = (
        Maintenance(every=checkpoints, checkpointer=checkpointer(lambda: lake.options))
        if checkpoints
        else Maintenance()
    )
    return replace_partition(
        client or lake.s3.client,
        lake.table,
        arrivals,
        partition={"ds": ds} if partition is None else partition,
        default_types=default_types,
        settings=Settings(policy=Policy(**policy), maintenance=maintenance, attempts=attempts),
    )


def file(lake: Lake, name: str, *ids: int, ds: str = DAYS[0]) -> Arrival:
    return lake.put(f"ds={ds}/{name}.parquet", {"id": list(ids)})


def contents(lake: Lake) -> dict[str, list[int]]:
    """Ids by partition, as three engines read them."""
    found: dict[str, list[int]] = {}
    for row in lake.rows("id"):
        found.setdefault(str(row["ds"]), []).append(row["id"])
    return found


def test_the_first_makes_the_table_with_the_types_that_are_said(lake: Lake) -> None:
    done = replace(lake, file(lake, "a", 1), file(lake, "b", 2, 3), default_types={"ds": "date"})
    assert (done.version, done.committed, done.created, done.rows) == (0, True, True, 3)
    assert kinds(done) == ["added", "added"]
    assert [row["ds"] for row in lake.rows("id")] == [date(2024, 1, 1)] * 3


def test_another_set_takes_its_place_in_one_commit_and_leaves_the_others(lake: Lake) -> None:
    kept, old = file(lake, "kept", 1), file(lake, "old", 2)
    replace(lake, kept, old)
    replace(lake, file(lake, "else", 9, ds=DAYS[1]), ds=DAYS[1])
    done = replace(lake, kept, file(lake, "new", 3))
    assert kinds(done) == ["duplicate", "added", "removed"]
    assert done.verdicts[2].uri == old.uri
    assert contents(lake) == {DAYS[0]: [1, 3], DAYS[1]: [9]}
    assert lake.versions == [0, 1, 2]
    assert [one["path"] for one in lake.actions("remove", 2)] == [f"ds={DAYS[0]}/old.parquet"]
    info = lake.actions("commitInfo", 2)[0]
    assert (info["operationParameters"]["mode"], info["isBlindAppend"]) == ("Overwrite", False)


def test_a_repetition_commits_nothing_and_reads_no_footer(lake: Lake) -> None:
    files = [file(lake, "a", 1), file(lake, "b", 2)]
    replace(lake, *files)
    lake.s3.calls.clear()
    done = replace(lake, *files)
    assert (done.version, done.committed, kinds(done)) == (0, False, ["duplicate", "duplicate"])
    assert lake.versions == [0]
    assert lake.s3.calls["PutObject"] == 0
    assert lake.s3.calls["GetObject"] <= 2  # the log, once for the ledger and once for the files


@settings(max_examples=4)
@given(steps=st.lists(st.tuples(st.sampled_from(DAYS), st.sets(st.integers(0, 4))), min_size=1, max_size=5))
def test_whatever_came_before_the_last_set_of_a_partition_is_there(
    s3: S3, steps: Sequence[tuple[str, set[int]]]
) -> None:
    """Also files that were there once, and no files at all; against a dictionary."""
    number = len({key.split("/")[1] for key in s3.keys() if key.startswith("lake/")})  # noqa: SIM118
    lake = Lake(s3, f"lake/{number}")
    files = {(ds, one): file(lake, str(one), one, ds=ds) for ds in DAYS for one in range(5)}
    expected: dict[str, set[int]] = {}
    for ds, wanted in steps:
        done = replace(lake, *(files[ds, one] for one in sorted(wanted)), ds=ds, checkpoints=2)
        changes = expected.get(ds, set()) != wanted
        assert done.committed == changes
        expected[ds] = wanted
    left = {ds: sorted(wanted) for ds, wanted in expected.items() if wanted}
    if lake.versions:
        found: dict[str, list[int]] = {}
        for row in lake.open().to_pyarrow_table().to_pylist():
            found.setdefault(row["ds"], []).append(row["id"])
        assert {ds: sorted(ids) for ds, ids in found.items()} == left
    else:
        assert left == {}


@pytest.mark.parametrize("checkpoints", [0, 1], ids=["log", "snapshot"])
def test_appends_know_afterwards_what_was_replaced(lake: Lake, checkpoints: int) -> None:
    """An event of a file that is no longer in the partition comes late."""
    old, new = file(lake, "old", 1), file(lake, "new", 2)
    replace(lake, old)
    replace(lake, new, checkpoints=checkpoints)
    assert lake.s3.has(lake.table.key("_chunkwise/ledger", f"{1:020d}.ledger")) is bool(checkpoints)
    assert kinds(lake.append(old, new)) == ["replay", "duplicate"]
    assert contents(lake) == {DAYS[0]: [2]}


def test_a_file_that_was_overwritten_where_it_stood_is_taken_as_it_is(lake: Lake) -> None:
    replace(lake, file(lake, "a", 1))
    done = replace(lake, file(lake, "a", 2, 3))
    assert kinds(done) == ["replaced"]
    assert contents(lake) == {DAYS[0]: [2, 3]}


def test_no_files_empty_a_partition_and_make_no_table(lake: Lake) -> None:
    done = replace(lake)
    assert (done.version, done.committed, lake.versions) == (None, False, [])
    replace(lake, file(lake, "a", 1))
    replace(lake, file(lake, "b", 2, ds=DAYS[1]), ds=DAYS[1])
    done = replace(lake)
    assert (done.version, kinds(done)) == (2, ["removed"])
    assert contents(lake) == {DAYS[1]: [2]}


def test_a_table_without_partitions_is_replaced_as_a_whole(lake: Lake) -> None:
    replace(lake, lake.put("1/a.parquet", {"id": [1]}), partition={})
    replace(lake, lake.put("2/a.parquet", {"id": [2]}), partition={})
    assert lake.rows() == [{"id": 2}]


def test_new_columns_come_with_the_same_commit(lake: Lake) -> None:
    replace(lake, file(lake, "a", 1))
    wider = lake.put(f"ds={DAYS[0]}/b.parquet", {"id": [2], "note": ["x"]})
    with pytest.raises(DeltaError, match="new or wider"):
        replace(lake, wider)
    done = replace(lake, wider, schema="add_columns")
    assert done.new_columns == ("note string",)
    assert lake.rows() == [{"id": 2, "ds": DAYS[0], "note": "x"}]


def test_one_bad_file_leaves_the_partition_as_it_was(lake: Lake) -> None:
    replace(lake, file(lake, "a", 1))
    before = lake.s3.keys()
    good = file(lake, "b", 2)
    bad = lake.put_bytes(f"ds={DAYS[0]}/bad.parquet", b"text")
    with pytest.raises(DeltaError, match=r"bad\.parquet cannot be in the partition: .*nothing was changed"):
        replace(lake, good, bad)
    with pytest.raises(DeltaError, match=r"c\.parquet and 1 more files cannot be"):
        replace(lake, lake.arrival(f"ds={DAYS[0]}/c.parquet"), good, bad)
    with pytest.raises(DeltaError, match=r"s3://elsewhere/x\.parquet cannot be"):
        replace(lake, good, Arrival(bucket="elsewhere", key="x.parquet"))
    assert lake.versions == [0]
    assert set(lake.s3.keys()) - set(before) == {good.key, bad.key}


@pytest.mark.parametrize("committed", [False, True], ids=["new", "known"])
def test_a_file_of_another_partition_is_refused(lake: Lake, committed: bool) -> None:
    other = file(lake, "a", 1, ds=DAYS[1])
    if committed:
        replace(lake, other, ds=DAYS[1])
    with pytest.raises(DeltaError, match="lies in another partition"):
        replace(lake, other)
    assert lake.versions == ([0] if committed else [])


@pytest.mark.parametrize(
    ("partition", "text"),
    [
        ({}, r"the partition is nothing, and s3://.* is partitioned by ds \(string\), kind \(string\)"),
        ({"ds": DAYS[0]}, "the partition is ds, and"),
        ({"ds": DAYS[0], "kind": "a", "more": "b"}, "give a value of its type for each column"),
    ],
    ids=["none", "one", "too_many"],
)
def test_every_partition_column_needs_a_value(lake: Lake, partition: dict[str, str], text: str) -> None:
    one = lake.put(f"ds={DAYS[0]}/kind=a/f.parquet", {"id": [1]})
    replace(lake, one, partition={"ds": DAYS[0], "kind": "a"})
    with pytest.raises(ConfigError, match=text):
        replace(lake, one, partition=partition)


def test_values_are_compared_as_what_they_are_and_not_as_they_are_written(lake: Lake) -> None:
    """Numbers with zeros in front, a null, letters that paths escape."""
    one = lake.put("n=007/t=a%3Db/f.parquet", {"id": [1]})
    null = lake.put("n=__HIVE_DEFAULT_PARTITION__/t=a%3Db/f.parquet", {"id": [2]})
    types = {"n": "integer", "t": "string"}
    replace(lake, one, partition={"n": "7", "t": "a=b"}, default_types=types)
    replace(lake, null, partition={"n": None, "t": "a=b"})
    assert [(row["id"], row["n"]) for row in lake.rows("id")] == [(1, 7), (2, None)]
    replace(lake, partition={"n": "0007", "t": "a=b"})
    assert [(row["id"], row["n"]) for row in lake.rows("id")] == [(2, None)]
    replace(lake, partition={"n": None, "t": "a=b"})
    assert lake.rows() == []


def test_a_table_of_deltalake_whose_log_was_cleaned_is_replaced_from_its_checkpoint(lake: Lake) -> None:
    import pyarrow as pa

    for number, ds in enumerate((*DAYS, *DAYS)):
        write_deltalake(
            lake.uri,
            pa.table({"id": [number], "ds": [ds]}),
            mode="append",
            partition_by=["ds"],
            storage_options=lake.options,
        )
    lake.open().create_checkpoint()
    lake.drop_log(3)
    replace(lake, file(lake, "a", 7))
    assert contents(lake) == {DAYS[0]: [7], DAYS[1]: [1, 3]}


def test_an_append_only_table_is_not_replaced(lake: Lake) -> None:
    replace(lake, file(lake, "a", 1))
    metadata = lake.actions("metaData", 0)[0]
    write_log(lake, 1, [{"metaData": {**metadata, "configuration": {"delta.appendOnly": "true"}}}])
    with pytest.raises(UnsupportedTable, match="append-only"):
        replace(lake, file(lake, "b", 2))
    assert replace(lake, file(lake, "c", 2, ds=DAYS[1]), ds=DAYS[1]).committed


def test_those_who_replace_and_append_at_once_lose_nothing(lake: Lake, faults: Faults) -> None:
    """Every partition has the set of one of its writers, and what was appended to another is there."""
    faults.one_at_a_time = True  # S3 decides a condition and writes in one step; moto does not
    days = [f"2024-02-0{number}" for number in range(1, 4)]
    sets = {
        (ds, writer): [file(lake, f"{writer}-{part}", writer * 10 + part, ds=ds) for part in range(2)]
        for ds in days
        for writer in (1, 2)
    }
    extra = [file(lake, f"x{number}", 100 + number, ds="2024-03-01") for number in range(3)]

    def replacing(ds: str, writer: int) -> None:
        replace(lake, *sets[ds, writer], ds=ds, client=s3_client(faults.endpoint))

    with ThreadPoolExecutor(9) as pool:
        jobs = [pool.submit(replacing, ds, writer) for ds, writer in sets]
        jobs += [pool.submit(lake.append, one, client=s3_client(faults.endpoint)) for one in extra]
        for job in jobs:
            job.result()
    found = contents(lake)
    assert found.pop("2024-03-01") == [100, 101, 102]
    assert found.keys() == set(days)
    assert all(ids in ([10, 11], [20, 21]) for ids in found.values())


def test_a_lost_answer_is_no_second_commit(lake: Lake, faults: Faults) -> None:
    replace(lake, file(lake, "a", 1))
    new = file(lake, "b", 2)
    faults.fail("PutObject", reset=True, after=True)
    done = replace(lake, new, client=faults.client)
    assert (done.version, done.attempts) == (1, 1)
    assert lake.versions == [0, 1]
    assert contents(lake) == {DAYS[0]: [2]}


def test_what_s3_does_not_give_is_an_error_that_may_pass(lake: Lake, faults: Faults) -> None:
    one = file(lake, "a", 1)
    replace(lake, one)
    new = file(lake, "b", 2)
    log = lake.table.commit_key(0)
    assert lake.s3.has(log)
    faults.fail("GetObject", status=503, times=FOREVER)
    with pytest.raises(ReadFailed) as error:
        replace(lake, new, client=faults.client)
    assert error.value.transient
    faults.clear()
    assert replace(lake, new, client=faults.client).committed


def test_who_always_comes_too_late_says_so(lake: Lake, faults: Faults) -> None:
    one = file(lake, "a", 1)
    faults.fail("PutObject", status=412, times=FOREVER)
    with pytest.raises(CommitContended, match="each of 2 attempts"):
        replace(lake, one, client=faults.client, attempts=2)
