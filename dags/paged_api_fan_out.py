"""One day of a paged API, read by many processors at once, as one gzip JSON Lines object on S3:
``variants/date=2023-12-21/variants_fan_out.jsonl.gz``.

The pages are shared out to processors, each of which writes a part; the parts become one object by copies
within S3. The processors run in the Airflow workers. With ``CHUNKWISE_COMPUTE=lambda`` in the environment
they are Lambda functions, and ``CHUNKWISE_PROCESSOR_FUNCTION`` names the one that runs the handler
``chunkwise.aws_lambda.ingest.handler``. For an API that gives only a cursor the same tasks do a cursor run.

It needs two connections: ``sample_api`` (HTTP: host, and the credentials if there are any) and
``aws_default``. The bucket is in the environment variable ``CHUNKWISE_BUCKET``. A function that reads an API
with credentials needs them as a secret, see ``PlanPagesOperator``.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset

from chunkwise.core.paging import OffsetPaginator
from chunkwise.task_groups import paged_api_dispatch

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")
# Where chunks are processed: "worker" or "lambda", and by which function.
COMPUTE = os.environ.get("CHUNKWISE_COMPUTE", "worker")
FUNCTION = os.environ.get("CHUNKWISE_PROCESSOR_FUNCTION", "chunkwise-ingest")

VARIANTS = Asset("variants_fan_out", uri=f"s3://{BUCKET}/variants_fan_out")

with DAG(
    "paged_api_fan_out",
    schedule="@daily",
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    catchup=False,
    # A try does what is missing: chunks that are done stay done.
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):
    paged_api_dispatch(
        "ingest",
        http_conn_id="sample_api",
        endpoint="v1/variants/by-offset",
        # The first page says how many records there are. All processors must see the same number, and their
        # records must add up to it.
        paginator=OffsetPaginator(limit=50, total_path="total"),
        records_path="data",
        pages_per_chunk=2,
        # Four tasks, whatever the number of chunks.
        groups=4,
        target_bucket=BUCKET,
        target_key="variants/date={{ ingest_date }}/variants_fan_out.jsonl.gz",
        compute=COMPUTE,
        function_name=FUNCTION,
        outlets=[VARIANTS],
    )
