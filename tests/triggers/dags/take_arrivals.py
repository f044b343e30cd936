"""Takes note of every object that it is told of, once, and of how often it was told."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from chunkwise.triggers.s3_event import S3EventTrigger

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "bucket")

ARRIVALS = Asset(
    "arrivals",
    watchers=[
        AssetWatcher(
            name="arrivals",
            trigger=S3EventTrigger(
                sqs_queue=os.environ.get("CHUNKWISE_QUEUE", "queue"), prefix="landing/", visibility_timeout=10
            ),
        )
    ],
)

with DAG(
    "take_arrivals",
    schedule=[ARRIVALS],
    start_date=datetime(2023, 1, 1),
    default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
):

    @task
    def take(triggering_asset_events: Any = None, run_id: Any = None) -> int:
        """One object ``taken/{key}`` for each, which only the first can write."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from botocore.exceptions import ClientError

        from chunkwise.arrivals import s3_objects

        client = S3Hook().conn
        found = s3_objects(triggering_asset_events)
        for one in found:
            try:
                client.put_object(
                    Bucket=BUCKET, Key=f"taken/{one.key}", Body=run_id.encode(), IfNoneMatch="*"
                )
            except ClientError as error:
                if error.response["Error"]["Code"] != "PreconditionFailed":
                    raise
        return len(found)

    take()
