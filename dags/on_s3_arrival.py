"""A file that arrives on S3 becomes one run, which processes that file, whatever its size.

``route_s3_arrivals`` is started by S3's notifications, within seconds: a watcher reads them from an SQS queue
and deletes them only when they are in Airflow's database. It cuts what has arrived, one file or a thousand,
into partitions. ``on_s3_arrival`` runs once per partition, that is once per file: a large file in chunks, a
small one in a single one.

S3 may tell of a file twice, and then it is processed twice, into the same object: runs for the same file
follow each other, and what they write is the same.

It needs the connection ``aws_default``, a queue that gets the bucket's notifications (directly, through SNS
or EventBridge), and Airflow 3.2 or later (3.3, so that no event can be lost). ``reconcile_s3_arrivals.py``
finds what no notification told of.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import DAG, Asset, AssetWatcher, PartitionedAssetTimetable, task

from chunkwise.arrivals import s3_objects
from chunkwise.task_groups import s3_dispatch, s3_event_router
from chunkwise.triggers.s3_event import S3EventTrigger

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")
QUEUE = os.environ.get("CHUNKWISE_QUEUE", "chunkwise-arrivals")

ARRIVALS = Asset(
    "s3_arrivals",
    uri=f"s3://{BUCKET}/landing",
    watchers=[
        AssetWatcher(
            name="s3_arrivals",
            trigger=S3EventTrigger(
                sqs_queue=QUEUE,
                bucket=BUCKET,
                prefix="landing/",
                suffix=[".csv", ".jsonl", ".json", ".parquet"],
                min_bytes=1,
                ignore_hidden=True,
            ),
        )
    ],
)
FILES = Asset("s3_files", uri=f"s3://{BUCKET}/landing/files")
PROCESSED = Asset("s3_processed_files", uri=f"s3://{BUCKET}/processed")

with DAG(
    "route_s3_arrivals",
    schedule=[ARRIVALS],
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10)},
    tags=["chunkwise"],
):
    s3_event_router(outlets=[FILES], by="object")


with DAG(
    "on_s3_arrival",
    schedule=PartitionedAssetTimetable(assets=FILES),
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    max_active_runs=8,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):

    @task
    def file(triggering_asset_events: Any = None, dag_run: Any = None) -> dict[str, str]:
        """The file of this run, and where its result goes."""
        arrived = s3_objects(triggering_asset_events, partition_key=dag_run.partition_key)
        if not arrived:
            raise AirflowSkipException("the file was removed again: there is nothing to process")
        (found,) = arrived
        # Not every removal is told of, nor in time.
        if not S3Hook(aws_conn_id="aws_default").check_for_key(found.key, found.bucket):
            raise AirflowSkipException(f"{found.uri} was removed again: there is nothing to process")
        return {
            "source": found.uri,
            "target": f"s3://{BUCKET}/processed/{found.key.removeprefix('landing/')}",
            # A file that is written anew meanwhile is another job; the same one told of twice is not.
            "staging": f"s3://{BUCKET}/processing/{found.etag or 'any'}",
        }

    arrived: Any = file()
    processed = s3_dispatch(
        "process",
        s3_key=arrived["source"],
        target_key=arrived["target"],
        staging_uri=arrived["staging"],
        # A file that came again replaces its earlier result.
        on_exists="replace",
        outlets=[PROCESSED],
    )

    @task
    def report(receipt: dict[str, Any]) -> str:
        """The merge returns a receipt, never data: counts, sizes, checksums."""
        return f"{receipt['uri']}: {receipt['rows_out']} rows in {receipt['chunks']} chunks"

    arrived >> processed
    report(processed.output)
