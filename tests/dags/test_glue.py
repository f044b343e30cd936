"""The example DAGs of the catalog: after tables have changed, and after a day is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import AssetAlias

from chunkwise.operators.delta import S3ParquetToDeltaOperator
from tests.support.airflow import Ran, load_dag
from tests.support.airflow_env import EXAMPLES_BUCKET
from tests.support.delta import Lake
from tests.support.dispatch import dag, use
from tests.support.glue import GlueServer
from tests.support.s3 import S3

Run = Callable[..., Ran]
DAY = datetime(2024, 1, 2, tzinfo=UTC)
FILE = "delta_to_glue.py"


@pytest.fixture
def bucket(moto_s3: str, glue: GlueServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The bucket of the examples, and a catalog with a database that nobody has made."""
    handle = S3(moto_s3, EXAMPLES_BUCKET)
    handle.create()
    use(monkeypatch, glue.endpoint)
    monkeypatch.setenv("CHUNKWISE_GLUE_DATABASE", glue.database)
    yield handle
    handle.remove()


def append(run_dag: Run, *arrivals: Any) -> None:
    """What ``s3_parquet_to_delta`` does with files that arrived, and tells of their tables."""
    with dag("appends") as it:
        S3ParquetToDeltaOperator(
            task_id="append",
            objects=[{"bucket": one.bucket, "key": one.key} for one in arrivals],
            schema_policy="add_columns",
            outlets=[AssetAlias("delta_tables")],
        )
    assert run_dag(it).states == {"append": "success"}


def test_tables_that_changed_come_into_the_catalog_once_each(
    run_dag: Run, bucket: S3, glue: GlueServer
) -> None:
    """Two tables in three events; the second run has nothing to write."""
    orders, people = Lake(bucket, "tables/orders"), Lake(bucket, "tables/people")
    append(run_dag, orders.put("ds=2024-01-01/a.parquet", {"id": [1]}), people.put("p.parquet", {"id": [1]}))
    append(run_dag, orders.put("ds=2024-01-02/b.parquet", {"id": [2], "name": ["x"]}))
    ran = run_dag(load_dag(FILE, "delta_to_glue"), consume=True)
    assert ran.returned("changed") == [orders.uri, people.uri]
    assert ran.states == {"changed": "success", "sync[0]": "success", "sync[1]": "success"}
    assert ran.returned("sync[0]")["action"] == "created"
    assert glue.columns("orders") == [("id", "bigint"), ("ds", "string"), ("name", "string")]
    assert glue.columns("people") == [("id", "bigint")]
    again = run_dag(load_dag(FILE, "delta_to_glue"), consume=True)
    assert [again.returned(f"sync[{at}]")["action"] for at in range(2)] == ["unchanged", "unchanged"]


def test_a_day_is_waited_for_and_then_in_the_catalog(run_dag: Run, bucket: S3, glue: GlueServer) -> None:
    """The table is somebody else's, and the day comes while the task waits."""
    lake = Lake(bucket, "tables/orders")
    lake.append(lake.put("ds=2024-01-01/a.parquet", {"id": [1]}))
    example = load_dag(FILE, "orders_of_the_day")
    sensor = example.get_task("written")
    sensor.poke_interval = 0.1
    look = type(sensor).poke
    looks: list[bool] = []

    def poke(self: Any, context: Any) -> Any:
        found = look(self, context)
        looks.append(found.is_done)
        # the second file of the day has a column that the catalog does not know yet
        lake.append(
            *(lake.put(f"ds=2024-01-02/{name}.parquet", {"id": [1, 2], "tip": [0.5, 1.5]}) for name in "bc"),
            schema="add_columns",
        )
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(sensor), "poke", poke)
        ran = run_dag(example, logical_date=DAY)
    assert ran.states == {"written": "success", "catalog": "success", "report": "success"}
    assert looks == [False], "then the triggerer waits"
    assert ran.returned("report") == "4 rows in 2 files, at version 1"
    assert glue.columns("orders") == [("id", "bigint"), ("ds", "string"), ("tip", "double")]
