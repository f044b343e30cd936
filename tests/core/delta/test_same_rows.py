"""A partition that was compacted has its rows in other files: the set that it was made of is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.core.compact.model import Options
from chunkwise.core.compact.table import compact_table
from chunkwise.core.delta import (
    Arrival,
    Maintenance,
    Settings,
    TableReceipt,
    checkpointer,
    replace_partition,
)
from chunkwise.core.errors import DeltaError
from tests.support.delta import Lake, kinds
from tests.support.s3 import S3

DAYS = ("2024-01-01", "2024-01-02")


def file(lake: Lake, name: str, *ids: int, ds: str = DAYS[0]) -> Arrival:
    return lake.put(f"ds={ds}/{name}.parquet", {"id": list(ids)})


def replace(
    lake: Lake, *arrivals: Arrival, ds: str = DAYS[0], keeps: Callable[[str], bool] | None = None
) -> TableReceipt:
    return replace_partition(lake.s3.client, lake.table, arrivals, partition={"ds": ds}, keeps=keeps)


def compact(lake: Lake, **options: int) -> None:
    compact_table(lake.s3.client, lake.table, options=Options(**options))  # type: ignore[arg-type]


def by_deltalake(lake: Lake) -> None:
    lake.open().optimize.compact()


def ids(lake: Lake, ds: str = DAYS[0]) -> list[int]:
    return [row["id"] for row in lake.rows("id") if row["ds"] == ds]


@pytest.mark.parametrize("merge", [compact, by_deltalake])
def test_a_set_whose_rows_were_compacted_has_nothing_to_commit(
    lake: Lake, merge: Callable[[Lake], None]
) -> None:
    """In one commit with another partition, and once more after a vacuum whose files are put back."""
    files = [file(lake, "a", 1), file(lake, "b", 2)]
    others = [file(lake, "c", 8, ds=DAYS[1]), file(lake, "d", 9, ds=DAYS[1])]
    replace(lake, *files)
    replace(lake, *others, ds=DAYS[1])
    merge(lake)
    now = lake.open().file_uris()
    assert len(now) == 2
    for _ in range(2):
        done = replace(lake, *files)
        assert (done.committed, done.rows) == (False, 0)
        assert kinds(done) == ["replay", "replay"]
        lake.open().vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        for one, number in zip(files, (1, 2)):
            assert lake.put(lake.table.relative(one.bucket, one.key) or "", {"id": [number]}).etag == one.etag
    assert lake.open().file_uris() == now
    assert ids(lake) == [1, 2]


def test_what_was_compacted_twice_and_what_was_left_alone_is_found(lake: Lake) -> None:
    large = lake.put(f"ds={DAYS[0]}/large.parquet", {"id": list(range(100, 3000))})
    files = [file(lake, "a", 1), file(lake, "b", 2), large]
    replace(lake, *files[:2])
    compact(lake, target_bytes=4000)
    replace(lake, *files)
    compact(lake, target_bytes=4000)
    lake.append(file(lake, "else", 7, ds=DAYS[1]))
    done = replace(lake, *files)
    assert (done.committed, kinds(done)) == (False, ["replay", "replay", "duplicate"])
    # an output that is rewritten itself: small for a larger target
    compact(lake)
    done = replace(lake, *files)
    assert (done.committed, kinds(done)) == (False, ["replay"] * 3)
    assert len(ids(lake)) == 2902


def test_rows_that_were_merged_with_others_are_replaced(lake: Lake) -> None:
    files = [file(lake, "a", 1), file(lake, "b", 2)]
    replace(lake, *files)
    lake.append(file(lake, "other", 9))
    compact(lake)
    done = replace(lake, *files)
    assert sorted(kinds(done)) == ["added", "added", "removed"]
    assert ids(lake) == [1, 2]


def test_rows_that_were_deleted_since_come_again(lake: Lake) -> None:
    files = [file(lake, "a", 1, 2), file(lake, "b", 3, 4)]
    replace(lake, *files)
    compact(lake)
    lake.open().delete("id = 2")
    assert ids(lake) == [1, 3, 4]
    assert replace(lake, *files).committed
    assert ids(lake) == [1, 2, 3, 4]


def test_rows_of_an_output_that_was_removed_as_a_whole_come_again(lake: Lake) -> None:
    """One compaction made two files of four, and the table has one of them left."""
    files = [file(lake, name, at, 10 + at) for at, name in enumerate("abcd")]
    replace(lake, *files)
    size = files[0].size or 0
    compact(lake, target_bytes=2 * size, small_bytes=size + 1)
    assert len(lake.open().file_uris()) == 2
    lake.open().delete("id in (0, 1, 10, 11)")
    assert len(lake.open().file_uris()) == 1
    assert replace(lake, *files).committed
    assert ids(lake) == [0, 1, 2, 3, 10, 11, 12, 13]


def test_a_file_that_was_overwritten_since_comes_with_its_new_rows(lake: Lake) -> None:
    files = [file(lake, "a", 1), file(lake, "b", 2)]
    replace(lake, *files)
    compact(lake)
    assert replace(lake, file(lake, "a", 5), files[1]).committed
    assert ids(lake) == [2, 5]


def test_where_the_log_does_not_say_it_any_more_the_set_comes_again(lake: Lake) -> None:
    files = [file(lake, "a", 1), file(lake, "b", 2)]
    replace(lake, *files)
    settled = Settings(maintenance=Maintenance(every=1, checkpointer=checkpointer(lambda: lake.options)))
    compact_table(lake.s3.client, lake.table, settings=settled)
    lake.drop_log(1)
    done = replace(lake, *files)
    assert sorted(kinds(done)) == ["added", "added", "removed"]
    assert ids(lake) == [1, 2]


def test_a_set_that_never_was_there_reads_no_log_entry_again(lake: Lake) -> None:
    replace(lake, file(lake, "a", 1))
    compact(lake)
    new = file(lake, "b", 2)
    lake.s3.calls.clear()
    assert replace(lake, new).committed
    assert lake.s3.calls["GetObject"] == 3  # the log, once for the ledger and once for the files; a footer


def test_what_must_stay_is_only_removed_for_all_that_it_was_made_of(lake: Lake) -> None:
    files = [file(lake, "a", 1), file(lake, "b", 2), file(lake, "c", 3)]
    replace(lake, *files)
    compact(lake)

    def keeps(path: str) -> bool:
        return "compacted-" in path

    for some in ((), files[:2], (*files[:2], file(lake, "d", 4))):
        with pytest.raises(DeltaError, match="may have rows of files that are gone"):
            replace(lake, *some, keeps=keeps)
    assert ids(lake) == [1, 2, 3]
    assert replace(lake, *files, keeps=keeps).committed is False
    assert replace(lake, *files, file(lake, "d", 4), keeps=keeps).committed
    assert ids(lake) == [1, 2, 3, 4]


STEPS = ("compact", "deltalake", "append", "append elsewhere", "other", "delete", "same")


@settings(max_examples=4)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=2, max_size=5))
def test_whatever_happened_to_it_a_partition_has_the_rows_of_the_last_set(
    s3: S3, steps: Sequence[str]
) -> None:
    number = len({key.split("/")[1] for key in s3.keys() if key.startswith("lake/")})  # noqa: SIM118
    lake = Lake(s3, f"lake/{number}")
    same = [file(lake, name, at, 10 + at) for at, name in enumerate("ab")]
    replace(lake, *same)
    replace(lake, file(lake, "x", 7, ds=DAYS[1]), file(lake, "y", 8, ds=DAYS[1]), ds=DAYS[1])
    for at, step in enumerate(steps):
        if step == "compact":
            compact(lake)
        elif step == "deltalake":
            by_deltalake(lake)
        elif step == "append":
            lake.append(file(lake, f"append{at}", 100 + at))
        elif step == "append elsewhere":
            lake.append(file(lake, f"append{at}", 100 + at, ds=DAYS[1]))
        elif step == "other":
            replace(lake, file(lake, f"other{at}", 200 + at), file(lake, f"more{at}", 300 + at))
        elif step == "delete":
            lake.open().delete("id = 1")
        else:
            replace(lake, *same)
    elsewhere = ids(lake, DAYS[1])
    replace(lake, *same)
    assert ids(lake) == [0, 1, 10, 11]
    assert ids(lake, DAYS[1]) == elsewhere
