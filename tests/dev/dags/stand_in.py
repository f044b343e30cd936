"""A stand-in for the daily ingest, to test the demo itself: some lines on S3, or a failure, as it is told."""

from __future__ import annotations

import gzip
import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG, task

with DAG("daily_api_ingest", schedule=None, start_date=datetime(2023, 1, 1, tzinfo=UTC)):

    @task
    def ingest() -> dict[str, Any]:
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        count = int(os.environ["STAND_IN_RECORDS"])
        if count < 0:
            raise RuntimeError("the stand-in fails on purpose")
        logging.getLogger("chunkwise.stand_in").info("writing %d records", count)
        lines = b"".join(json.dumps({"ordinal": number}).encode() + b"\n" for number in range(count))
        body, bucket, key = gzip.compress(lines), os.environ["CHUNKWISE_BUCKET"], "stand-in/lines.jsonl.gz"
        S3Hook().conn.put_object(Bucket=bucket, Key=key, Body=body)
        return {
            "uri": f"s3://{bucket}/{key}",
            "records": count,
            "pages": 1,
            "bytes": len(body),
            "uncompressed_bytes": len(lines),
            "seconds": 0.5,
            "peak_rss": 300 * 1024 * 1024,
        }

    ingest()
