"""Find the files on S3 that no notification told of, and start the same runs for them.

Notifications are lost when a bucket is configured anew, when a queue is purged, and when messages expire
while DAGs are paused. Once an hour this lists the landing zone and compares it with the events of the asset
``s3_arrivals``: what is missing goes out as an event of that very asset, so that ``route_s3_arrivals``
(``on_s3_arrival.py``) need not know.

It needs the connection ``aws_default``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset

from chunkwise.operators.s3_reconcile import ReconcileArrivalsOperator

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")

with DAG(
    "reconcile_s3_arrivals",
    schedule=timedelta(hours=1),
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):
    ReconcileArrivalsOperator(
        task_id="reconcile",
        s3_bucket=BUCKET,
        s3_prefix="landing/",
        suffix=[".csv", ".jsonl", ".json", ".parquet"],
        min_bytes=1,
        ignore_hidden=True,
        # An event is not enough: this DAG must have got a run for it, which it did not while it was paused.
        consumer_dag_id="route_s3_arrivals",
        outlets=[Asset("s3_arrivals", uri=f"s3://{BUCKET}/landing")],
    )
