"""What the tests of the operator share."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import DAG

from chunkwise.core.paging import CursorPaginator
from chunkwise.core.paging.retry import RetryPolicy
from chunkwise.transfers.paged_api_to_s3 import PagedApiToS3Operator
from dev.localstack import LocalStack
from dev.sample_api import SampleApi
from tests.support.airflow import Ran

Api = Callable[..., SampleApi]
Run = Callable[..., Ran]

MIB = 1024 * 1024
DAY = datetime(2023, 12, 21, tzinfo=UTC)


def dag(**options: Any) -> DAG:
    """An empty DAG, to be filled in a ``with`` block."""
    return DAG("test", schedule=None, start_date=datetime(2023, 1, 1), **options)


def ingest(bucket: str, **changes: Any) -> PagedApiToS3Operator:
    """A task that reads the sample API of the connection ``api``."""
    return PagedApiToS3Operator(**arguments(bucket) | changes)


def arguments(bucket: str) -> dict[str, Any]:
    """The arguments of :func:`ingest`."""
    return {
        "task_id": "ingest",
        "http_conn_id": "api",
        "endpoint": "v1/variants",
        "query": {"limit": 50},
        "paginator": CursorPaginator(cursor_path="paging.next", name="cursor", total_path="total"),
        "records_path": "data",
        "s3_bucket": bucket,
        "s3_key": "date={{ ingest_date }}/variants.jsonl.gz",
        "page_retry": RetryPolicy(attempts=2, base_seconds=0.01),
    }


def keys(server: LocalStack, bucket: str) -> list[str]:
    """All keys of a bucket."""
    return [item["Key"] for item in server.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]


def open_uploads(server: LocalStack, bucket: str) -> list[str]:
    """The keys of all open multipart uploads of a bucket."""
    found = server.client("s3").list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [upload["Key"] for upload in found]


def body(server: LocalStack, uri: str) -> bytes:
    """The lines of an object."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    stored: bytes = server.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return gzip.decompress(stored) if key.endswith(".gz") else stored


def records(server: LocalStack, uri: str) -> list[dict[str, Any]]:
    """The records of an object."""
    return [json.loads(line) for line in body(server, uri).splitlines()]
