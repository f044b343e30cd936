"""Whichever operator commits to a table, whoever waits for it reads the same event."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import AssetAlias

from chunkwise.core.delta.news import MOST_COLUMNS
from chunkwise.operators.compact import ParquetCompactOperator
from chunkwise.operators.delta import (
    ReconcileDeltaOperator,
    S3JsonlToDeltaOperator,
    S3ParquetToDeltaOperator,
    SqsToDeltaOperator,
)
from chunkwise.operators.rds_export import RdsExportToDeltaOperator
from tests.support.airflow import load_dag
from tests.support.delta import Lake, lake
from tests.support.dispatch import Run, dag
from tests.support.sqs import Queue, queue

__all__ = ["lake", "queue"]

Given = dict[str, Any]


def fill(lake: Lake) -> None:
    lake.append(lake.put("0.parquet", {"id": [0]}), lake.put("1.parquet", {"id": [1]}))


def an_append(lake: Lake, _: Queue) -> tuple[Any, Given]:
    """Of a file that was overwritten, one that is gone, and a new one."""
    fill(lake)
    changed, new = lake.put("0.parquet", {"id": [5, 6]}), lake.put("2.parquet", {"id": [2]})
    gone = {"uri": lake.delete("1.parquet").uri, "event": "ObjectRemoved:Delete"}
    return S3ParquetToDeltaOperator, {"objects": [changed.uri, new.uri, gone], "on_delete": "remove"}


def a_load(lake: Lake, _: Queue) -> tuple[Any, Given]:
    fill(lake)
    lake.s3.put("in/f.jsonl", b'{"id":1}\n{"id":2}\n')
    objects = [{"bucket": lake.s3.bucket, "key": "in/f.jsonl"}]
    return S3JsonlToDeltaOperator, {"objects": objects, "table_uri": lake.uri}


def a_drain(lake: Lake, queue: Queue) -> tuple[Any, Given]:
    fill(lake)
    queue.send('{"id":1}', '{"id":2}')
    return SqsToDeltaOperator, {"sqs_queue": queue.url, "table_uri": lake.uri, "wait_time_seconds": 1}


def a_repair(lake: Lake, _: Queue) -> tuple[Any, Given]:
    fill(lake)
    lake.put("1.parquet", {"id": [2]})
    lake.put("2.parquet", {"id": [3]})
    repair = {"repair": ["orphan", "stale"], "grace_minutes": 0}
    return ReconcileDeltaOperator, {"table_uri": lake.uri, **repair}


def an_export(lake: Lake, _: Queue) -> tuple[Any, Given]:
    fill(lake)
    file = lake.put("e_1.parquet", {"id": [7, 8, 9]})
    placed = {
        "export": "e",
        "name": "db.public.orders",
        "table_uri": lake.uri,
        "objects_uri": f"{lake.uri}/e_",
        "partition": {},
        "files": 1,
        "bytes": file.size,
    }
    return RdsExportToDeltaOperator, {"table": placed}


def a_compaction(lake: Lake, _: Queue) -> tuple[Any, Given]:
    fill(lake)
    return ParquetCompactOperator, {"table_uri": lake.uri}


@pytest.mark.parametrize(
    ("make", "operation", "rows", "added", "removed"),
    [
        (an_append, "append", 3, 2, 1),
        (a_load, "load", 2, 1, 0),
        (a_drain, "drain", 2, 1, 0),
        (a_repair, "reconcile", 2, 2, 0),
        (an_export, "replace", 3, 1, 2),
        (a_compaction, "compact", 0, 1, 2),
    ],
    ids=["append", "load", "drain", "reconcile", "replace", "compact"],
)
def test_every_operator_tells_of_its_commit_in_the_form_that_the_example_reads(
    run_dag: Run,
    lake: Lake,
    queue: Queue,
    make: Callable[[Lake, Queue], tuple[Any, Given]],
    operation: str,
    rows: int,
    added: int,
    removed: int,
) -> None:
    operator, given = make(lake, queue)
    with dag() as it:
        operator(task_id="task", outlets=[AssetAlias("tables")], **given)
    ran = run_dag(it)
    assert ran.states == {"task": "success"}
    (event,) = ran.events[lake.uri]
    # a file with the rows that it had before is one that came in
    come = [one["size"] for one in lake.actions("add", 1)]
    common = {
        "uri": lake.uri,
        "version": 1,
        "operation": operation,
        "committed": True,
        "created": False,
        "rows": rows,
        "bytes": sum(come),
        "files_added": added,
        "files_removed": removed,
        "new_columns": [],
        "new_columns_total": 0,
    }
    assert {name: event[name] for name in common} == common
    news = load_dag("s3_parquet_to_delta.py", "on_delta_table").get_task("news").python_callable
    (line,) = news(triggering_asset_events={"t": [SimpleNamespace(extra=event)]})
    assert line == (
        f"{lake.uri} at version 1, by {operation}: {rows} rows came in, with {added} files; "
        f"{removed} files went"
    )
    changed = load_dag("delta_to_glue.py", "delta_to_glue").get_task("changed").python_callable
    assert changed(triggering_asset_events={"t": [SimpleNamespace(extra=event)]}) == [lake.uri]


def test_a_folder_that_was_compacted_is_no_table(run_dag: Run, lake: Lake) -> None:
    for number in range(2):
        lake.s3.put(f"in/{number}.parquet", lake.s3.get(lake.put(f"{number}.parquet", {"id": [1]}).key))
    uri = f"s3://{lake.s3.bucket}/in"
    with dag() as it:
        ParquetCompactOperator(
            task_id="task", prefix_uri=uri, sources="delete", outlets=[AssetAlias("tables")]
        )
    (event,) = run_dag(it).events[uri]
    assert (event["version"], event["rows"], event["files_added"], event["files_removed"]) == (None, 0, 1, 2)
    news = load_dag("s3_parquet_to_delta.py", "on_delta_table").get_task("news").python_callable
    assert news(triggering_asset_events={"t": [SimpleNamespace(extra=event)]}) == []
    changed = load_dag("delta_to_glue.py", "delta_to_glue").get_task("changed").python_callable
    assert changed(triggering_asset_events={"t": [SimpleNamespace(extra=event)]}) == []


def test_many_new_columns_are_counted_and_the_first_are_named(run_dag: Run, lake: Lake) -> None:
    fill(lake)
    wide = lake.put("2.parquet", {"id": [2], **{f"c{number:04}": [1] for number in range(300)}})
    with dag() as it:
        S3ParquetToDeltaOperator(
            task_id="task",
            objects=[wide.uri],
            schema_policy="add_columns",
            max_reported=3,
            outlets=[AssetAlias("tables")],
        )
    ran = run_dag(it)
    (table,) = ran.returned("task")["tables"]
    assert (len(table["new_columns"]), table["new_columns_total"]) == (3, 300)
    (event,) = ran.events[lake.uri]
    assert (len(event["new_columns"]), event["new_columns_total"]) == (MOST_COLUMNS, 300)


def test_many_tables_are_counted_and_the_first_are_named(run_dag: Run, lake: Lake) -> None:
    files = [lake.put(f"t{number}/ds=1/0.parquet", {"id": [1]}) for number in range(4)]
    with dag() as it:
        S3ParquetToDeltaOperator(
            task_id="task",
            objects=[file.uri for file in files],
            checkpoint_every=0,
            max_reported=3,
            outlets=[AssetAlias("tables")],
        )
    ran = run_dag(it)
    receipt = ran.returned("task")
    assert (len(receipt["tables"]), receipt["tables_total"], receipt["rows"]) == (3, 4, 4)
    assert len(ran.events) == 4, "whoever waits for a table is told of each"
