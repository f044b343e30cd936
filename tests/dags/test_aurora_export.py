"""The example DAG of exports: from the start of an export to tables, and once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.airflow import Ran, load_dag
from tests.support.airflow_env import EXAMPLES_BUCKET
from tests.support.delta import Lake
from tests.support.rds_export import SNAPSHOT, ExportedTable, RdsApi, connect, orders, put_export, shop
from tests.support.s3 import S3

Run = Callable[..., Ran]

DAY = "2024-03-01"


@pytest.fixture
def bucket(moto_s3: str, rds: RdsApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The bucket of the examples. It is always the same: Airflow knows their assets by name and URI."""
    handle = S3(moto_s3, EXAMPLES_BUCKET)
    handle.create()
    connect(monkeypatch, moto_s3, rds)
    yield handle
    handle.remove()


def exporting(rds: RdsApi, s3: S3, tables: list[ExportedTable]) -> None:
    """Let RDS write the export while the sensor waits."""

    def work(number: int) -> None:
        for export, task in rds.tasks.items():
            if task["Status"] == "STARTING":
                task["Status"] = "IN_PROGRESS"
            elif task["Status"] == "IN_PROGRESS":
                put_export(s3, tables, export=export, uuid=export)
                task |= {"Status": "COMPLETE", "PercentProgress": 100, "TaskEndTime": datetime.now(UTC)}

    rds.on_describe = work


def example() -> Any:
    it = load_dag("aurora_export_to_delta.py", "aurora_export_to_delta")
    it.get_task("complete").poke_interval = 0.1
    return it


def rows(s3: S3, table: str) -> list[dict[str, object]]:
    return [
        {name: value for name, value in row.items() if name != "ds"}
        for row in Lake(s3, f"aurora/{table}").rows("id")
        if row["ds"] == SNAPSHOT.date()
    ]


def check(s3: S3) -> None:
    """Every table of the export, as three engines read it."""
    for table in shop():
        if table.rows:
            assert rows(s3, table.folder) == table.rows


def test_exports_become_tables_each_in_one_commit(run_dag: Run, bucket: S3, rds: RdsApi) -> None:
    """One; the same once more, which changes nothing; another one of the same day, which replaces it."""
    exporting(rds, bucket, shop())
    first = run_dag(example())
    assert first.state == "success", first.states
    report = first.returned("complete")
    counts = report["counts"]
    assert (counts["tables"], counts["files"], counts["skipped"], counts["warnings"]) == (4, 7, 1, 1)
    assert first.returned("relayout")["counts"]["copied"] == 7
    check(bucket)
    lake = Lake(bucket, "aurora/shop/public.orders")
    assert lake.versions == [0]
    assert [event["version"] for event in first.events[lake.uri]] == [0]
    (event,) = first.events[f"s3://{bucket.bucket}/aurora/shop/public.empty"]
    assert (event["version"], event["files"]) == (None, 0)

    before = bucket.keys()
    second = run_dag(example())
    assert second.state == "success", second.states
    assert second.states["start"] == "skipped"
    assert second.returned("complete") == report
    assert second.returned("relayout")["counts"]["copied"] == 0
    assert bucket.keys() == before
    check(bucket)
    assert second.events.keys() == first.events.keys()

    tables = shop()
    tables[0].batches = {"1": {0: orders(1, 2, 3), 4: orders(9)}}
    exporting(rds, bucket, tables)
    third = run_dag(example(), conf={"export": "shop-again"})
    assert third.state == "success", third.states
    assert rds.calls["StartExportTask"] == 2
    assert rows(bucket, "shop/public.orders") == orders(1, 2, 3, 9)
    assert lake.versions == [0, 1]
    assert len(lake.actions("add", 1)) == 2
    assert len(lake.actions("remove", 1)) == 5
    assert lake.actions("commitInfo", 1)[0]["rdsExport"] == "shop-again"


def test_the_example_that_waits_for_tables_tells_their_versions() -> None:
    it = load_dag("aurora_export_to_delta.py", "on_exported_table")
    extra = {"table": "shop.public.orders", "export": "e", "files": 7, "uri": "s3://b/t", "version": 4}
    news = it.get_task("news").python_callable
    assert news(triggering_asset_events={"t": [SimpleNamespace(extra=extra)]}) == [
        "shop.public.orders of e: 7 files, in s3://b/t at version 4"
    ]
