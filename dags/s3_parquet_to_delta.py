"""Parquet files that arrive on S3 are rows of a Delta table at once: no cluster, and no row is read.

``s3_parquet_to_delta`` is started by S3's notifications. However many files have arrived until then are one
commit per table; the table of a file is its folder, up to the first ``name=value`` segment, e.g.
``s3://bucket/tables/orders`` for ``tables/orders/ds=2024-01-01/part-0.parquet``. What comes twice is added
once. ``on_delta_table`` runs when a table has a new version.

It needs the extra ``delta``, the connection ``aws_default``, and a queue that gets the bucket's notifications
of ``.parquet`` files (directly, through SNS or EventBridge).
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, AssetWatcher, task

from chunkwise.arrivals import s3_objects
from chunkwise.operators.delta import S3ParquetToDeltaOperator
from chunkwise.triggers.s3_event import S3EventTrigger

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")
QUEUE = os.environ.get("CHUNKWISE_PARQUET_QUEUE", "chunkwise-parquet")

ARRIVALS = Asset(
    "s3_parquet_arrivals",
    uri=f"s3://{BUCKET}/tables",
    watchers=[
        AssetWatcher(
            name="s3_parquet_arrivals",
            trigger=S3EventTrigger(
                sqs_queue=QUEUE,
                bucket=BUCKET,
                prefix="tables/",
                suffix=".parquet",
                event_names=["ObjectCreated:*", "ObjectRemoved:*"],
                ignore_hidden=True,
            ),
        )
    ],
)
TABLES = AssetAlias("delta_tables")

with DAG(
    "s3_parquet_to_delta",
    schedule=[ARRIVALS],
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    # Large batches make few commits: what arrives while a run is at work waits for the next one.
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=30)},
    tags=["chunkwise"],
):

    @task
    def arrived(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        """What all events of this run tell of: references, never data."""
        return [found.to_json() for found in s3_objects(triggering_asset_events, removed=True)]

    S3ParquetToDeltaOperator(
        task_id="append",
        objects=arrived(),
        schema_policy="add_columns",
        # An object that is gone would make its table unreadable.
        on_delete="remove",
        quarantine_uri=f"s3://{BUCKET}/quarantine/tables",
        outlets=[TABLES],
    )


with DAG(
    "on_delta_table",
    schedule=[TABLES],
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):

    @task
    def news(triggering_asset_events: Any = None) -> list[str]:
        """One event for each table that has a new version; a run may have several of one table.

        All operators that commit tell of it in one form, so the alias may be an outlet of any of them. A
        folder of files that was compacted is no table, and has no version.
        """
        extras = [event.extra for events in triggering_asset_events.values() for event in events]
        return [
            f"{one['uri']} at version {one['version']}, by {one['operation']}: {one['rows']} rows came in, "
            f"with {one['files_added']} files; {one['files_removed']} files went"
            for one in extras
            if one["version"] is not None
        ]

    news()
