"""Many small Parquet files become few: yesterday's of a landing prefix, and those of a Delta table.

``landing/events/ds=2024-01-01/`` has a file or two after the run, and those that were merged are gone:
readers that list the folder see their rows twice for the moment between, so let it run when few read.
``tables/orders`` has a new version with fewer files and the same rows; a vacuum deletes the old files later.

It needs the extra ``parquet``, the connection ``aws_default`` and the bucket in ``CHUNKWISE_BUCKET``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset

from chunkwise.operators.compact import ParquetCompactOperator

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")

with DAG(
    "compact_parquet",
    schedule="@daily",
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    # A retry, or the next run, finds what was merged and deletes what is left of it.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    params={"day": "", "preview": False},
    tags=["chunkwise"],
):
    ParquetCompactOperator(
        task_id="landed_events",
        # the day of the run, or the one that is given by hand
        prefix_uri=f"s3://{BUCKET}/landing/events/ds="
        "{{ params.day or (dag_run.logical_date or dag_run.run_after) | ds }}",
        sources="delete",
        target_bytes=256 << 20,
        preview="{{ params.preview }}",
        outlets=[Asset("compacted_events", uri=f"s3://{BUCKET}/landing/events")],
    )

    ParquetCompactOperator(
        task_id="orders",
        table_uri=f"s3://{BUCKET}/tables/orders",
        # Checkpoints need the extra ``delta``; whoever appends to the table may write them.
        checkpoint_every=0,
        preview="{{ params.preview }}",
        outlets=[Asset("compacted_orders", uri=f"s3://{BUCKET}/tables/orders")],
    )
