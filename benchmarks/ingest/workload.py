"""What every contender is given: an API, a bucket, and a key, through the environment."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.measured import disk_bytes

API = os.environ.get("BENCH_API", "")
ENDPOINT = os.environ.get("BENCH_S3", "")
BUCKET = os.environ.get("BENCH_BUCKET", "bench")
KEY = os.environ.get("BENCH_KEY", "")
PAGE_SIZE = int(os.environ.get("BENCH_PAGE_SIZE", "200"))
LEVEL = 2  # of isal's deflate, Chunkwise's default
STAMPS = {"ingest_date": "2023-12-21", "ingest_ts": "2023-12-21T06:00:00Z"}


def s3_client() -> Any:
    """A boto3 client for the benchmark's S3 server."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        config=Config(s3={"addressing_style": "path"}),
    )


def contend(work: Callable[[], dict[str, Any]]) -> None:
    """Do the work and print what it cost, as one JSON object."""
    before, started = disk_bytes(), time.monotonic()
    result = work()
    result["seconds"] = time.monotonic() - started
    result["disk_bytes"] = disk_bytes() - before
    json.dump(result, sys.stdout)
