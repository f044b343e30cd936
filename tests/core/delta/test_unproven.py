"""What log and ledger cannot prove is not guessed: a file that may have been rewritten adds no rows."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chunkwise.core.delta import Arrival
from chunkwise.core.delta.log import load
from chunkwise.core.delta.retention import remembered
from tests.support.delta import Lake, kinds, reasons

PROPERTY = "delta.deletedFileRetentionDuration"


def snapshots(lake: Lake) -> list[int]:
    """Versions of the ledger's snapshots."""
    return [int(key[-27:-7]) for key in lake.s3.keys() if key.endswith(".ledger")]  # noqa: SIM118


def compacted(lake: Lake, *, retention: str | None = None) -> list[Arrival]:
    """Five files of a table that somebody compacts, whose log is then cleaned up to a checkpoint."""
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(5)]
    for file in files:
        lake.append(file, every=1000)
    if retention is not None:
        lake.open().alter.set_table_properties({PROPERTY: retention})
    lake.open().optimize.compact()
    lake.open().create_checkpoint()
    lake.drop_log(lake.versions[-1])
    assert snapshots(lake) == []
    return files


def test_a_file_that_may_have_been_compacted_before_anything_is_known_is_refused(lake: Lake) -> None:
    files = compacted(lake, retention="interval 0 days")
    receipt = lake.append(*files)
    assert (kinds(receipt), reasons(receipt)) == (["rejected"] * 5, ["unproven"] * 5)
    assert lake.rows("id") == [{"id": number} for number in range(5)]
    # also when the ledger is written that does not know of them
    lake.append(lake.put("new.parquet", {"id": [9]}), on_unproven="add")
    assert len(snapshots(lake)) == 1
    assert reasons(lake.append(*files)) == ["unproven"] * 5
    assert lake.open().to_pyarrow_table().num_rows == 6


def test_whoever_knows_better_may_add_it(lake: Lake) -> None:
    files = compacted(lake, retention="interval 0 days")
    assert kinds(lake.append(files[0], on_unproven="add")) == ["added"]


def test_a_checkpoint_proves_what_it_still_remembers(lake: Lake) -> None:
    """Removals of the last week are in it: a replay is known, and a late file is added."""
    late = lake.put("late.parquet", {"id": [5]})
    files = compacted(lake)
    receipt = lake.append(*files, late)
    assert kinds(receipt) == ["replay"] * 5 + ["added"]
    assert lake.rows("id") == [{"id": number} for number in range(6)]


def test_a_log_that_was_cleaned_beyond_the_last_snapshot_leaves_what_that_knew(lake: Lake) -> None:
    files = [lake.put(f"{number}.parquet", {"id": [number]}) for number in range(3)]
    for file in files:
        lake.append(file, every=1)
    lake.open().alter.set_table_properties({PROPERTY: "interval 0 days"})
    lake.open().optimize.compact()
    lake.open().create_checkpoint()
    lake.drop_log(lake.versions[-1])
    assert kinds(lake.append(*files)) == ["replay"] * 3
    assert lake.rows("id") == [{"id": number} for number in range(3)]


def test_the_ledger_is_kept_however_seldom_checkpoints_are(lake: Lake) -> None:
    for number in range(12):
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}), every=1000, checkpoints=True)
    assert snapshots(lake) == [10]
    assert not any(key.endswith(".checkpoint.parquet") for key in lake.s3.keys())  # noqa: SIM118


def test_a_checkpoint_of_somebody_else_has_the_ledger_written_before_the_log_is_cleaned(lake: Lake) -> None:
    for number in range(3):
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}), every=1000)
    lake.open().create_checkpoint()
    lake.append(lake.put("3.parquet", {"id": [3]}), every=1000)
    assert snapshots(lake) == [3]
    lake.append(lake.put("4.parquet", {"id": [4]}), every=1000)
    assert snapshots(lake) == [3]
    assert load(lake.s3.client, lake.table).checkpoint == 2


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (None, timedelta(days=6, hours=23)),
        ("interval 1 week", timedelta(days=6, hours=23)),
        ("INTERVAL 2 days 3 hours", timedelta(days=2, hours=2)),
        ("36 hours", timedelta(hours=35)),
        ("interval 30 minutes", timedelta()),
        ("interval 0 seconds", timedelta()),
        ("interval 1 month", timedelta()),
        ("interval 99999999999999 weeks", timedelta()),
        ("interval 3 microweeks", timedelta()),
        ("", timedelta()),
    ],
    ids=str,
)
def test_a_checkpoint_remembers_for_as_long_as_the_table_says(text: str | None, known: timedelta) -> None:
    assert remembered({} if text is None else {PROPERTY: text}) == known
