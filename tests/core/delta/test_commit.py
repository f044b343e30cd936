"""Many write one table: nothing is lost, nothing is there twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake

from chunkwise.core.delta import Arrival
from chunkwise.core.delta.log import load
from chunkwise.core.errors import CommitContended, LogDamaged, UploadFailed
from tests.support.delta import Lake, kinds, parquet, write_log
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3, s3_client


def at_once(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each returned."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [job.result() for job in [pool.submit(job) for job in jobs]]


def table_ids(lake: Lake) -> list[str]:
    """Of every metadata action in the log."""
    return [one["id"] for version in lake.versions for one in lake.actions("metaData", version)]


def race(lake: Lake, faults: Faults, writers: int, commits: int) -> list[Any]:
    """Every writer appends a file of its own, again and again."""
    # S3 decides a condition and writes in one step; moto does not
    faults.one_at_a_time = True
    files = [
        [
            lake.put(f"w={writer}/{number}.parquet", {"id": [writer * 1000 + number]})
            for number in range(commits)
        ]
        for writer in range(writers)
    ]

    def write(own: list[Arrival]) -> list[Any]:
        client = s3_client(faults.endpoint)
        return [lake.append(file, client=client) for file in own]

    receipts = [receipt for own in at_once([lambda own=own: write(own) for own in files]) for receipt in own]
    assert len(table_ids(lake)) == 1
    assert sorted(receipt.version for receipt in receipts) == list(range(writers * commits))
    assert all(receipt.counts == {"added": 1} for receipt in receipts)
    table = lake.open().to_pyarrow_table()
    assert sorted(table["id"].to_pylist()) == sorted(
        writer * 1000 + number for writer in range(writers) for number in range(commits)
    )
    return receipts


def test_writers_at_once_lose_nothing(lake: Lake, faults: Faults) -> None:
    race(lake, faults, 4, 3)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_sixteen_writers_with_twenty_commits_each_lose_nothing(lake: Lake, faults: Faults) -> None:
    race(lake, faults, 16, 20)


def create_at_once(lake: Lake, faults: Faults, creators: int) -> None:
    faults.one_at_a_time = True
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(creators)]
    receipts = at_once(
        [lambda file=file: lake.append(file, client=s3_client(faults.endpoint)) for file in files]
    )
    assert sum(receipt.created for receipt in receipts) == 1
    assert len(table_ids(lake)) == 1
    assert lake.rows("id") == [{"id": number} for number in range(creators)]


def test_creators_at_once_make_one_table(lake: Lake, faults: Faults) -> None:
    create_at_once(lake, faults, 8)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fifty_creators_at_once_make_one_table(lake: Lake, faults: Faults) -> None:
    create_at_once(lake, faults, 50)


def test_two_that_add_the_same_file_add_it_once(lake: Lake, faults: Faults) -> None:
    """Both have decided to add it; the slower one decides again, on what the faster one left."""
    lake.append(lake.put("first.parquet", {"id": [0]}))
    file = lake.put("a.parquet", {"id": [1]})
    held = faults.hold("PutObject", times=1)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(lake.append, file, client=faults.client)
        assert held.arrived.wait(120)
        assert kinds(lake.append(file)) == ["added"]
        held.release.set()
        receipt = slow.result(120)
    assert kinds(receipt) == ["duplicate"]
    assert (receipt.version, receipt.committed, receipt.attempts) == (1, False, 1)
    assert lake.rows() == [{"id": 0}, {"id": 1}]


def test_a_new_schema_of_the_winner_holds_for_the_loser(lake: Lake, faults: Faults) -> None:
    lake.append(lake.put("first.parquet", {"id": [0]}))
    mine = lake.put("mine.parquet", {"id": [1], "note": [1]})
    theirs = lake.put("theirs.parquet", {"id": [2], "note": ["text"]})
    held = faults.hold("PutObject", times=1)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(lake.append, mine, client=faults.client, schema="add_columns")
        assert held.arrived.wait(120)
        lake.append(theirs, schema="add_columns")
        held.release.set()
        receipt = slow.result(120)
    assert kinds(receipt) == ["rejected"]
    assert "'note' is string in the table and long in the file" in receipt.verdicts[0].detail
    assert lake.rows() == [{"id": 0, "note": None}, {"id": 2, "note": "text"}]


def test_evolution_and_files_are_one_commit(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    table_id = lake.actions("metaData", 0)[0]["id"]
    receipt = lake.append(lake.put("b.parquet", {"id": [2], "note": ["x"]}), schema="add_columns")
    assert receipt.new_columns == ("note string",)
    assert lake.versions == [0, 1]
    assert [action["id"] for action in lake.actions("metaData", 1)] == [table_id]
    assert len(lake.actions("add", 1)) == 1
    assert lake.rows() == [{"id": 1, "note": None}, {"id": 2, "note": "x"}]


# --- answers that are lost ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"reset": True}], ids=str)
def test_a_commit_whose_answer_is_lost_is_not_made_again(lake: Lake, faults: Faults, fault: Any) -> None:
    lake.append(lake.put("first.parquet", {"id": [0]}))
    faults.fail("PutObject", after=True, **fault)
    receipt = lake.append(lake.put("a.parquet", {"id": [1]}), client=faults.client)
    assert (receipt.version, receipt.committed) == (1, True)
    assert lake.versions == [0, 1]
    assert lake.rows() == [{"id": 0}, {"id": 1}]


def test_a_commit_that_nobody_can_look_at_is_found_in_the_log(lake: Lake, faults: Faults) -> None:
    """All answers to PutObject and HeadObject are lost: what counts is what the log says."""
    lake.append(lake.put("first.parquet", {"id": [0]}))
    faults.fail("PutObject", after=True, status=503, times=FOREVER)
    faults.fail("HeadObject", status=503, times=FOREVER)
    receipt = lake.append(lake.put("a.parquet", {"id": [1]}), client=faults.client)
    assert (receipt.version, receipt.committed) == (1, True)
    assert lake.rows() == [{"id": 0}, {"id": 1}]


def test_a_commit_that_s3_refuses_is_an_error_and_leaves_no_version(lake: Lake, faults: Faults) -> None:
    lake.append(lake.put("first.parquet", {"id": [0]}))
    faults.fail("PutObject", status=403, times=FOREVER)
    with pytest.raises(UploadFailed) as caught:
        lake.append(lake.put("a.parquet", {"id": [1]}), client=faults.client)
    assert not caught.value.transient
    assert lake.versions == [0]


def test_a_409_is_tried_again(lake: Lake, faults: Faults) -> None:
    lake.append(lake.put("first.parquet", {"id": [0]}))
    faults.fail("PutObject", status=409)
    assert lake.append(lake.put("a.parquet", {"id": [1]}), client=faults.client).version == 1


def test_a_writer_that_never_wins_gives_up_in_the_end(lake: Lake, faults: Faults) -> None:
    lake.append(lake.put("first.parquet", {"id": [0]}))
    faults.fail("PutObject", status=412, times=FOREVER)
    with pytest.raises(CommitContended, match="each of 3 attempts") as caught:
        lake.append(lake.put("a.parquet", {"id": [1]}), client=faults.client, settings={"attempts": 3})
    assert caught.value.transient


# --- replays ------------------------------------------------------------------------------------------------


def test_events_that_come_three_times_in_any_order_add_their_rows_once(lake: Lake) -> None:
    """Before a compaction, after it, after a vacuum that leaves no file of the first ones, and after the
    log's snapshots were taken.
    """
    order = random.Random(5)
    files = [lake.put(f"ds=2024-01-{day:02d}/f.parquet", {"id": [day]}) for day in range(1, 7)]
    expected = [{"id": day, "ds": f"2024-01-{day:02d}"} for day in range(1, 7)]
    events = files * 3
    order.shuffle(events)
    found: Counter[str] = Counter()
    for at in range(0, len(events), 4):
        found.update(lake.append(*events[at : at + 4], checkpoints=True, every=3).counts)
    assert found == {"added": 6, "duplicate": 12}
    assert lake.rows("id") == expected

    done = lake.open().optimize.compact()
    assert done["numFilesRemoved"] == 0  # one file in each partition: nothing to do
    more = [lake.put(f"ds=2024-01-{day:02d}/g.parquet", {"id": [day + 100]}) for day in range(1, 7)]
    lake.append(*more)
    done = lake.open().optimize.compact()
    assert done["numFilesRemoved"] == 12
    expected += [{"id": day + 100, "ds": f"2024-01-{day:02d}"} for day in range(1, 7)]
    assert lake.rows("id") == expected

    events = (files + more) * 3
    for _ in range(2):
        order.shuffle(events)
        found = Counter()
        for at in range(0, len(events), 12):
            without = [lake.arrival(event.key.removeprefix("lake/orders/")) for event in events[at : at + 12]]
            found.update(lake.append(*(without if at % 24 else events[at : at + 12]), every=1).counts)
        assert found == {"replay": 36}
        # take a snapshot, and look again
        lake.append(lake.put("ds=2024-01-01/h.parquet", {"id": [0]}), every=1)
    assert [row for row in lake.rows("id") if row["id"]] == expected

    lake.open().vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert not lake.s3.has(files[0].key)
    assert lake.append(*files).counts == {"replay": 6}
    assert [row for row in lake.rows("id") if row["id"]] == expected


def test_log_entries_that_were_cleaned_away_are_not_missed(lake: Lake) -> None:
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(12)]
    for file in files:
        lake.append(file, checkpoints=True, every=5)
    lake.open().optimize.compact()
    # versions 0 to 9 go, as a clean-up of the log lets them
    lake.drop_log(10)
    assert lake.append(*files).counts == {"replay": 12}
    assert kinds(lake.append(lake.put("new.parquet", {"id": [12]}))) == ["added"]
    assert lake.rows("id") == [{"id": number} for number in range(13)]


# --- other writers ------------------------------------------------------------------------------------------


def test_a_table_of_deltalake_is_appended_to(lake: Lake) -> None:
    for number in range(3):
        write_deltalake(lake.uri, pa.table({"id": [number]}), mode="append", storage_options=lake.options)
    receipt = lake.append(lake.put("mine.parquet", {"id": [3]}))
    assert (receipt.version, receipt.created) == (3, False)
    write_deltalake(lake.uri, pa.table({"id": [4]}), mode="append", storage_options=lake.options)
    lake.append(lake.put("more.parquet", {"id": [5]}))
    assert lake.rows("id") == [{"id": number} for number in range(6)]
    # the files of the other writer are known: an event of one of them adds nothing
    theirs = lake.actions("add", 0)[0]["path"]
    assert kinds(lake.append(lake.arrival(theirs))) == ["duplicate"]


def test_a_table_that_begins_with_a_checkpoint_is_read_from_it(lake: Lake) -> None:
    for number in range(4):
        properties = CommitProperties(custom_metadata={"number": str(number)})
        write_deltalake(
            lake.uri,
            pa.table({"id": [number]}),
            mode="append",
            storage_options=lake.options,
            commit_properties=properties,
        )
    lake.open().optimize.compact()
    lake.open().create_checkpoint()
    theirs = lake.actions("add", 2)[0]["path"]
    lake.drop_log(4)
    assert lake.append(lake.put("mine.parquet", {"id": [4]})).version == 5
    assert kinds(lake.append(lake.arrival(theirs))) == ["replay"]
    assert lake.rows("id") == [{"id": number} for number in range(5)]


@pytest.mark.parametrize("others", [0, 5], ids=["shorter", "as long"])
def test_a_table_that_was_made_anew_is_not_taken_for_the_old_one(lake: Lake, others: int) -> None:
    """Its log was deleted, and the ledger of the old one was left: it speaks of another log."""
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(5)]
    for file in files:
        lake.append(file, every=2)
    lake.drop_log()
    for number in range(others):
        lake.append(lake.put(f"other_{number}.parquet", {"id": [100 + number]}), every=100)
    assert lake.append(*files, every=2).counts == {"added": 5}
    for number in range(5, 9):
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}), every=2)
    assert lake.append(*files, every=2).counts == {"duplicate": 5}
    assert [row["id"] for row in lake.rows("id") if row["id"] < 100] == list(range(9))


def test_a_gap_in_the_log_is_an_error(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    write_log(lake, 2, [{"commitInfo": {}}])
    with pytest.raises(LogDamaged, match="from version 0 to 2"):
        load(lake.s3.client, lake.table)


def test_a_damaged_snapshot_costs_time_only(lake: Lake) -> None:
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(3)]
    for file in files:
        lake.append(file, every=1)
    snapshot = next(key for key in reversed(lake.s3.keys()) if key.endswith(".ledger"))
    for body in (b"", lake.s3.get(snapshot)[:-1], b"{}\n"):
        lake.s3.put(snapshot, body)
        assert lake.append(*files).counts == {"duplicate": 3}


# --- cost ---------------------------------------------------------------------------------------------------


def grow(lake: Lake, s3: S3, versions: int, every: int) -> dict[str, int]:
    """Requests of the last commits of a log of this length, from one snapshot to the next."""
    body = parquet({"id": [1]})

    def commit(number: int) -> None:
        lake.append(lake.put_bytes(f"{number}.parquet", body), every=every)

    for version in range(load(s3.client, lake.table).version + 1, versions - every):
        commit(version)
    s3.calls.clear()
    for version in range(versions - every, versions):
        commit(version)
    return dict(s3.calls)


def test_the_requests_of_a_commit_do_not_grow_with_the_log(lake: Lake, s3: S3) -> None:
    early, late = grow(lake, s3, 15, 3), grow(lake, s3, 33, 3)
    assert late == early
    # three commits: two listings, a snapshot, a footer, the tail of the log and the commit for each; and a
    # new snapshot for one that is deleted
    assert early["ListObjectsV2"] == 6
    assert early["GetObject"] <= 3 * (2 + 3)
    assert early["PutObject"] == 4
    assert early["DeleteObjects"] == 1


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_requests_of_a_commit_at_version_1000_are_those_at_version_60(lake: Lake, s3: S3) -> None:
    early = grow(lake, s3, 60, 10)
    assert grow(lake, s3, 1000, 10) == early


def add_many(lake: Lake, count: int) -> None:
    body = parquet({"id": [1, 2]})
    files = [lake.put_bytes(f"ds={number % 7}/{number}.parquet", body) for number in range(count)]
    lake.s3.calls.clear()
    receipt = lake.append(*files)
    assert (receipt.version, receipt.rows) == (0, 2 * count)
    assert lake.s3.calls == {"ListObjectsV2": 2, "GetObject": count, "PutObject": 1}
    assert lake.open().to_pyarrow_table().num_rows == 2 * count
    assert lake.append(*files).counts == {"duplicate": count}
    assert lake.s3.calls["GetObject"] == count + 1  # the log entry


def test_many_files_are_one_commit_and_one_request_each(lake: Lake) -> None:
    add_many(lake, 60)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_files_are_one_commit_and_one_request_each(lake: Lake) -> None:
    add_many(lake, 1000)


def test_footers_are_read_at_the_same_time(lake: Lake, faults: Faults) -> None:
    """All eight requests are on their way before the first one is answered."""
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(8)]
    everybody = threading.Barrier(8)
    faults.client.meta.events.register("before-send.s3.GetObject", lambda **_: _meet(everybody))
    assert lake.append(*files, client=faults.client).counts == {"added": 8}


def _meet(everybody: threading.Barrier) -> None:
    everybody.wait(120)
