"""The core job of Chunkwise, as the operator runs it."""

from __future__ import annotations

import os
from typing import Any

import requests

from benchmarks.ingest.workload import API, BUCKET, KEY, LEVEL, PAGE_SIZE, STAMPS, contend, s3_client
from chunkwise.core.ingest.job import PagedIngest
from chunkwise.core.ingest.spec import Destination, IngestSpec
from chunkwise.core.paging import BaseRequest, CursorPaginator
from chunkwise.core.paging.fetcher import FetchOptions
from chunkwise.core.paging.guards import Caps


def work() -> dict[str, Any]:
    """One ingest of the whole API."""
    spec = IngestSpec(
        request=BaseRequest(url=f"{API}/v1/variants", params={"limit": PAGE_SIZE}),
        paginator=CursorPaginator(cursor_path="paging.next", name="cursor", total_path="total"),
        records_path="data",
        destination=Destination(bucket=BUCKET, key=KEY, level=LEVEL),
        fetch=FetchOptions(caps=Caps(pages=None)),
        stamps=STAMPS,
    )
    receipt = PagedIngest(spec, requests.Session(), s3_client()).run()
    return {"records": receipt.records, "bytes": receipt.bytes, "uncompressed": receipt.uncompressed_bytes}


def idle() -> dict[str, Any]:
    """Everything imported and a client made, no work: the bare interpreter that memory is measured above."""
    s3_client()
    return {}


if __name__ == "__main__":
    contend(idle if os.environ.get("BENCH_IDLE") else work)
