"""What the tests of the ingest share: a spec for the sample API, and readers of what landed."""

import gzip
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import requests

from chunkwise.core.ingest.job import PagedIngest
from chunkwise.core.ingest.spec import Destination, IngestSpec
from chunkwise.core.paging import BaseRequest, CursorPaginator
from tests.support.services import sample_api

__all__ = ["sample_api"]

STAMPS = {"ingest_date": "2023-12-21", "ingest_ts": "2023-12-21T06:00:00Z"}


def cursor_spec(api_url, bucket, *, key="variants.jsonl.gz", limit=50, destination=None, **changes):
    """An ingest of the sample API by cursor."""
    spec = IngestSpec(
        request=BaseRequest(url=f"{api_url}/v1/variants", params={"limit": limit}),
        paginator=CursorPaginator(cursor_path="paging.next", name="cursor", total_path="total"),
        records_path="data",
        destination=Destination(bucket=bucket, key=key, **(destination or {})),
        stamps=STAMPS,
    )
    return replace(spec, **changes)


def lines_of(body: bytes):
    """The records of a JSON Lines object, by the standard library."""
    text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    assert text == b"" or text.endswith(b"\n")
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def all_records(api_url, limit=1000):
    """Every record of the sample API, by the standard library."""
    found, query = [], {"limit": limit}
    while True:
        page = requests.get(f"{api_url}/v1/variants", params=query, timeout=10).json()
        found += page["data"]
        if page["paging"]["next"] is None:
            return found
        query["cursor"] = page["paging"]["next"]


@pytest.fixture
def ingest(s3):
    """Run an ingest into the test's bucket."""

    def run(spec, client=None, **options):
        return PagedIngest(spec, requests.Session(), client or s3.client, **options).run()

    return SimpleNamespace(run=run, s3=s3, bucket=s3.bucket)
