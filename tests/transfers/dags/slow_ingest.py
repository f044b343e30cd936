"""An ingest that is slow enough to be killed on its way; two of them, of which only one will be."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG

from chunkwise.core.paging import CursorPaginator
from chunkwise.transfers.paged_api_to_s3 import PagedApiToS3Operator

for name in ("killed", "undisturbed"):
    with DAG(f"slow_ingest_{name}", schedule=None, start_date=datetime(2023, 1, 1)):
        PagedApiToS3Operator(
            task_id="ingest",
            retries=2,
            retry_delay=timedelta(seconds=1),
            http_conn_id=f"api_{name}",
            endpoint="v1/variants",
            query={"limit": 50},
            paginator=CursorPaginator(cursor_path="paging.next", name="cursor", total_path="total"),
            records_path="data",
            s3_bucket=os.environ["CHUNKWISE_BUCKET"],
            s3_key=f"{name}.jsonl",
            compression="none",
            stamps={"ingest_date": "2023-12-21"},
        )
