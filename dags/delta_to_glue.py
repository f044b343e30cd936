"""The Glue Data Catalog says of Delta tables what their logs say: Athena, Spark and Redshift find them there.

``delta_to_glue`` runs when tables have new versions, which the asset events of ``s3_parquet_to_delta``
(``s3_parquet_to_delta.py``) tell. However many events a run has, each table is looked at once, and written
only if its schema is another one.

``orders_of_the_day`` is for a table that somebody else writes, such as Spark, of whom no event tells: it
waits for the day's partition by the table's log, and goes on from there.

They need the connection ``aws_default``, and the names of the bucket and of the catalog's database in the
environment variables ``CHUNKWISE_BUCKET`` and ``CHUNKWISE_GLUE_DATABASE``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, AssetAlias, task

from chunkwise.operators.delta import DeltaToGlueOperator
from chunkwise.sensors.delta import DeltaTableSensor

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")
DATABASE = os.environ.get("CHUNKWISE_GLUE_DATABASE", "lake")

with DAG(
    "delta_to_glue",
    schedule=[AssetAlias("delta_tables")],
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):

    @task
    def changed(triggering_asset_events: Any = None) -> list[str]:
        """Each table that the events of this run name, once: the newest version is read in any case.

        A folder of files that was compacted is no table, and has no version.
        """
        events = (event for found in triggering_asset_events.values() for event in found)
        return sorted({event.extra["uri"] for event in events if event.extra["version"] is not None})

    # A table is called as its folder. Two of one name are an error, and not each other's columns.
    DeltaToGlueOperator.partial(
        task_id="sync",
        database=DATABASE,
        map_index_template="{{ task.table_uri }}",
    ).expand(table_uri=changed())


with DAG(
    "orders_of_the_day",
    schedule="@daily",
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):
    orders = f"s3://{BUCKET}/tables/orders"

    # In the triggerer, for one LIST a poll; no row is read.
    written = DeltaTableSensor(
        task_id="written",
        table_uri=orders,
        # The day of the run, also when it is started by hand. A writer that commits a partition as a whole
        # has written it when it has a file; of others ask for min_rows, too (or for min_files, if nobody
        # compacts the table, which makes them fewer).
        partition={"ds": "{{ (dag_run.logical_date or dag_run.run_after) | ds }}"},
        poke_interval=60,
        timeout=timedelta(hours=12).total_seconds(),
    )
    # Before anybody queries the day: Spark may have added columns.
    catalog = DeltaToGlueOperator(task_id="catalog", table_uri=orders, database=DATABASE)

    @task
    def report(seen: dict[str, Any]) -> str:
        """The place for what works on the day: a query of Athena, a task of dbt."""
        return f"{seen['rows']} rows in {seen['files']} files, at version {seen['version']}"

    written >> catalog >> report(written.output)
