"""One day of a paged API as one gzip JSON Lines object on S3: ``variants/date=2023-12-21/variants.jsonl.gz``.

It needs two connections: ``sample_api`` (HTTP: host, and the credentials if there are any) and
``aws_default``. The bucket is in the environment variable ``CHUNKWISE_BUCKET``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset

from chunkwise.core.paging import CursorPaginator
from chunkwise.core.records.transforms import AlignTimestamps
from chunkwise.transfers.paged_api_to_s3 import PagedApiToS3Operator

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")

# A DAG with schedule=[Asset("variants")] runs after each day has landed: see api_ingest_in_your_dag.py.
VARIANTS = Asset("variants", uri=f"s3://{BUCKET}/variants")

with DAG(
    "daily_api_ingest",
    schedule="@daily",
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    catchup=False,
    # A retry goes on at the page where the last try stopped, in the same upload.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):
    PagedApiToS3Operator(
        task_id="ingest_variants",
        http_conn_id="sample_api",
        endpoint="v1/variants",
        query={"limit": 200},
        # Each page has the cursor of the next one, and the number of all records: another number is an error.
        paginator=CursorPaginator(cursor_path="paging.next", name="cursor", total_path="total"),
        records_path="data",
        # {{ ingest_date }} is the day of the run, also when it is started by hand. Running a day again, or
        # backfilling it, replaces its one object: `airflow backfill create --dag-id daily_api_ingest
        # --from-date 2023-12-01 --to-date 2023-12-21`.
        s3_bucket=BUCKET,
        s3_key="variants/date={{ ingest_date }}/variants.jsonl.gz",
        # The API writes dates in four ways, such as "Dec 21, 2023" and 1703116800000. What no transform names
        # comes out as it came, byte for byte.
        transforms=[
            AlignTimestamps(
                fields=["date_created", "date_last_evaluated"], inputs=["iso", "%b %d, %Y"], to="date"
            ),
            AlignTimestamps(fields=["date_updated_ms", "submitted_at"], inputs=["iso", "epoch_ms"]),
        ],
        # Each record gets ingest_date and ingest_ts: that is the default of `stamps`.
        outlets=[VARIANTS],
    )
