"""Whoever waits for a compaction is told of it, although the try that made it died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chunkwise.core.compact.earlier import earlier_of_prefix
from chunkwise.core.compact.model import Options
from chunkwise.core.compact.prefix import compact_prefix
from chunkwise.core.compact.where import Where
from chunkwise.core.errors import ReadFailed
from chunkwise.operators.compact import ParquetCompactOperator
from tests.core.compact.folder import Folder, ids
from tests.support.delta import Lake, lake
from tests.support.dispatch import Run
from tests.support.faults import FOREVER, Faults
from tests.support.retries import Dies, run_twice
from tests.support.s3 import S3

__all__ = ["lake"]

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
WORK = {"work": {"id": 7}}


def fill(lake: Lake, *numbers: int) -> None:
    for number in numbers:
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}))


def test_the_retry_tells_which_version_the_first_try_committed(run_dag: Run, lake: Lake) -> None:
    fill(lake, 0, 1, 2)
    ran = run_twice(run_dag, ParquetCompactOperator, table_uri=lake.uri)
    receipt = ran.returned("task")
    assert (receipt["outputs_total"], receipt["committed"], receipt["version"]) == (0, False, 3)
    (event,) = ran.events[lake.uri]
    assert event == {
        "uri": lake.uri,
        "version": 3,
        "operation": "compact",
        "committed": True,
        "created": False,
        "rows": 0,
        "bytes": lake.actions("add", 3)[0]["size"],
        "files_added": 1,
        "files_removed": 3,
        "new_columns": [],
        "new_columns_total": 0,
    }
    (told,) = receipt["earlier"]
    assert (told["version"], told["files_merged"], told["rows"]) == (3, 3, 3)
    assert told.keys() <= receipt.keys()


def test_the_retry_tells_of_both_commits_and_of_nobody_elses(run_dag: Run, lake: Lake) -> None:
    fill(lake, 0, 1)
    died = Dies(lambda: fill(lake, 2, 3))
    ran = run_twice(run_dag, ParquetCompactOperator, table_uri=lake.uri, died=died)
    assert [(one["version"], one["files_removed"]) for one in ran.events[lake.uri]] == [(2, 2), (5, 3)]


@pytest.mark.parametrize("places", ["beside", "elsewhere", "keep"])
def test_the_retry_tells_what_the_first_try_merged_of_a_prefix(run_dag: Run, s3: S3, places: str) -> None:
    """With all sources gone, or still there: nothing is left to merge, and somebody waits for the event."""
    folder = Folder(s3)
    for number in range(3):
        folder.put(f"ds=1/{number}.parquet", ids(5, number * 5))
    uri = f"s3://{s3.bucket}/in"
    more: dict[str, Any] = {"sources": "keep" if places == "keep" else "delete"}
    if places != "beside":
        more["output_uri"] = f"s3://{s3.bucket}/out"
    ran = run_twice(run_dag, ParquetCompactOperator, prefix_uri=uri, **more)
    receipt = ran.returned("task")
    assert receipt["outputs_total"] == 0
    (event,) = ran.events[uri]
    assert event.items() >= {"version": None, "files_removed": 3, "files_added": 1, "rows": 0}.items()
    # a run of its own, with nothing to do, does not take it for its own
    assert run_twice(run_dag, ParquetCompactOperator, prefix_uri=uri, **more).events == {}


def test_outputs_of_an_earlier_try_are_told_beside_those_of_this_one(run_dag: Run, s3: S3) -> None:
    folder, uri = Folder(s3), f"s3://{s3.bucket}/in"

    def fill_day(day: int) -> None:
        for number in range(1 + day):
            folder.put(f"ds={day}/{number}.parquet", ids(3))

    fill_day(1)
    died = Dies(lambda: fill_day(2))
    ran = run_twice(run_dag, ParquetCompactOperator, prefix_uri=uri, sources="delete", died=died)
    first, second = ran.events[uri]
    assert [(one["files_removed"], one["files_added"]) for one in (first, second)] == [(2, 1), (3, 1)]
    (told,) = ran.returned("task")["earlier"]
    assert (told["files_written"], told["bytes"]) == (1, first["bytes"])


def compacted(s3: S3, info: dict[str, Any], prefix: str) -> Where:
    folder = Folder(s3, f"{prefix}/")
    for number in range(2):
        folder.put(f"{number}.parquet", ids(2))
    where = Where(uri=f"s3://{s3.bucket}/{prefix}", sources="delete")
    assert len(compact_prefix(s3.client, where, info=info).outputs) == 1
    return where


def test_only_outputs_of_the_same_work_are_told_however_its_members_are_ordered(s3: S3) -> None:
    for prefix, info in (("in/a", {"a": 1, "b": 2}), ("in/b", {"a": 1, "b": 3}), ("in/c", {})):
        compacted(s3, info, prefix)
    where = Where(uri=f"s3://{s3.bucket}/in", sources="delete")
    (found,) = earlier_of_prefix(s3.client, where, {"b": 2, "a": 1}, LONG_AGO)
    assert (found.uri, found.written) == (where.uri, 1)


def test_what_was_merged_again_is_of_nobody_but_of_those_who_did(s3: S3) -> None:
    folder = Folder(s3)
    size = 0
    for number in range(4):
        folder.put(f"{number}.parquet", ids(2, number))
        size = max(size, len(s3.get(f"in/{number}.parquet")))
    where = Where(uri=f"s3://{s3.bucket}/in", sources="delete")
    two = Options(target_bytes=size * 2, small_bytes=size + 1)
    assert len(compact_prefix(s3.client, where, options=two, info=WORK).outputs) == 2
    (found,) = earlier_of_prefix(s3.client, where, WORK, LONG_AGO)
    assert (found.written, found.merged, found.rows) == (2, 4, 8)
    assert len(compact_prefix(s3.client, where).outputs) == 1
    assert len(folder.names()) == 1
    assert earlier_of_prefix(s3.client, where, WORK, LONG_AGO) == []


def test_what_stands_there_by_other_work_is_taken_as_it_is(s3: S3) -> None:
    """Two that merge the same files at the same time find each other's output."""
    folder = Folder(s3)
    bodies = {}
    for number in range(2):
        folder.put(f"{number}.parquet", ids(2))
        bodies[f"in/{number}.parquet"] = s3.get(f"in/{number}.parquet")
    where = Where(uri=f"s3://{s3.bucket}/in", sources="delete")
    (made,) = compact_prefix(s3.client, where, info=WORK).outputs
    body = s3.get(made.uri.partition(f"{s3.bucket}/")[2])
    s3.client.delete_object(Bucket=s3.bucket, Key=made.uri.partition(f"{s3.bucket}/")[2])
    for key, data in bodies.items():
        s3.put(key, data)
    publish = s3.client.put_object

    def late(**arguments: Any) -> Any:
        if arguments["Key"].endswith(made.uri.rpartition("/")[2]):
            s3.put(arguments["Key"], body)
        return publish(**arguments)

    s3.client.put_object = late
    (output,) = compact_prefix(s3.client, where, info={"work": "other"}).outputs
    assert (output.uri, output.existed) == (made.uri, True)
    assert sorted(row["id"] for row in folder.rows()) == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("info", "since"),
    [(WORK, None), ({}, LONG_AGO), (WORK, datetime.now(UTC) + timedelta(days=1))],
    ids=["first try", "nobody", "later"],
)
def test_no_footer_is_read_where_there_can_be_no_earlier_output(
    s3: S3, info: dict[str, Any], since: datetime | None
) -> None:
    where = compacted(s3, WORK, "in")
    s3.calls.clear()
    assert earlier_of_prefix(s3.client, where, info, since) == []
    assert "GetObject" not in s3.calls


def test_an_output_that_cannot_be_read_is_not_taken_for_none(s3: S3, faults: Faults) -> None:
    where = compacted(s3, WORK, "in")
    faults.fail("GetObject", status=403, times=FOREVER)
    with pytest.raises(ReadFailed, match="could not be read"):
        earlier_of_prefix(faults.client, where, WORK, LONG_AGO)
