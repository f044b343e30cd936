"""Whoever waits for a version of a Delta table is told of it, although the try that committed it died."""

from __future__ import annotations

from typing import Any

import pytest

from chunkwise.operators.delta import (
    ReconcileDeltaOperator,
    S3JsonlToDeltaOperator,
    S3ParquetToDeltaOperator,
    SqsToDeltaOperator,
)
from tests.support.airflow import Ran
from tests.support.delta import Lake, lake
from tests.support.dispatch import Run
from tests.support.retries import Dies, run_twice
from tests.support.sqs import Queue, queue

__all__ = ["lake", "queue"]


def versions(ran: Ran, lake: Lake) -> list[tuple[int, int]]:
    """Versions that were told, and their rows."""
    return sorted((one["version"], one["rows"]) for one in ran.events.get(lake.uri, ()))


def test_the_retry_tells_what_the_first_try_added(run_dag: Run, lake: Lake) -> None:
    files = [lake.put(f"{number}.parquet", {"id": [number, 7]}) for number in range(2)]
    ran = run_twice(run_dag, S3ParquetToDeltaOperator, objects=[file.uri for file in files])
    receipt = ran.returned("task")
    assert (receipt["counts"], receipt["tables"][0]["earlier_versions"]) == ({"duplicate": 2}, [0])
    (event,) = ran.events[lake.uri]
    assert event == {
        "uri": lake.uri,
        "version": 0,
        "operation": "append",
        "committed": True,
        "created": True,
        "rows": 4,
        "bytes": sum(file.size or 0 for file in files),
        "files_added": 2,
        "files_removed": 0,
        "new_columns": [],
        "new_columns_total": 0,
    }


def test_the_retry_tells_of_both_commits_if_it_makes_another_one(run_dag: Run, lake: Lake) -> None:
    """Somebody else's commit in between is nobody's news of this task."""
    lake.append(lake.put("old.parquet", {"id": [0]}))
    first, late = lake.put("first.parquet", {"id": [1]}), lake.arrival("late.parquet")

    def meanwhile() -> None:
        lake.append(lake.put("other.parquet", {"id": [8]}))
        lake.put("late.parquet", {"id": [2, 3], "note": ["x", "y"]})

    ran = run_twice(
        run_dag,
        S3ParquetToDeltaOperator,
        objects=[first.uri, late.uri],
        schema_policy="add_columns",
        died=Dies(meanwhile),
    )
    assert versions(ran, lake) == [(1, 1), (3, 2)]


def test_the_commit_is_told_although_its_files_were_compacted_meanwhile(run_dag: Run, lake: Lake) -> None:
    lake.append(lake.put("old.parquet", {"id": [0]}))
    file = lake.put("a.parquet", {"id": [1], "note": ["x"]})

    def compact() -> None:
        lake.open().optimize.compact()

    ran = run_twice(
        run_dag,
        S3ParquetToDeltaOperator,
        objects=[file.uri],
        schema_policy="add_columns",
        died=Dies(compact),
    )
    assert ran.returned("task")["counts"] == {"replay": 1}
    (event,) = ran.events[lake.uri]
    assert (event["version"], event["new_columns"]) == (1, ["note string"])


def test_a_removal_is_told_too(run_dag: Run, lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [2]}))
    gone = lake.delete("a.parquet")
    event = {"uri": gone.uri, "event": "ObjectRemoved:Delete"}
    ran = run_twice(run_dag, S3ParquetToDeltaOperator, objects=[event], on_delete="remove")
    assert [(one["files_added"], one["files_removed"]) for one in ran.events[lake.uri]] == [(0, 1)]


def test_what_another_run_has_committed_is_not_told_again(run_dag: Run, lake: Lake) -> None:
    lake.append(lake.put("old.parquet", {"id": [0]}))
    file = lake.put("a.parquet", {"id": [1]})
    assert versions(run_twice(run_dag, S3ParquetToDeltaOperator, objects=[file.uri]), lake) == [(1, 1)]
    assert run_twice(run_dag, S3ParquetToDeltaOperator, objects=[file.uri]).events == {}


@pytest.mark.parametrize("more", [{}, {"partition": {"ds": "2024-01-01"}}], ids=["whole", "partition"])
def test_the_retry_tells_which_files_of_json_were_loaded(
    run_dag: Run, lake: Lake, more: dict[str, Any]
) -> None:
    lake.s3.put("in/f.jsonl", b'{"id":1}\n{"id":2}\n')
    objects = [{"bucket": lake.s3.bucket, "key": "in/f.jsonl"}]
    ran = run_twice(run_dag, S3JsonlToDeltaOperator, objects=objects, table_uri=lake.uri, **more)
    assert ran.returned("task")["counts"] == {"replay": 1}
    assert versions(ran, lake) == [(0, 2)]


def test_the_retry_tells_which_messages_became_rows(run_dag: Run, lake: Lake, queue: Queue) -> None:
    """They were deleted: the queue is empty, and nothing is committed any more."""
    queue.send('{"id":1}', '{"id":2}')
    given = {"sqs_queue": queue.url, "table_uri": lake.uri, "wait_time_seconds": 1}
    ran = run_twice(run_dag, SqsToDeltaOperator, **given)
    assert ran.states == {"task": "success"}
    assert (ran.returned("task")["version"], ran.returned("task")["rows"]) == (0, 0)
    assert versions(ran, lake) == [(0, 2)]


def test_the_retry_tells_what_was_mended(run_dag: Run, lake: Lake) -> None:
    lake.append(lake.put("old.parquet", {"id": [0]}))
    lake.put("orphan.parquet", {"id": [1]})
    ran = run_twice(run_dag, ReconcileDeltaOperator, table_uri=lake.uri, repair=["orphan"], grace_minutes=0)
    assert [one["version"] for one in ran.events[lake.uri]] == [1]
