"""dlt's REST client and filesystem destination, with the options that are fastest for this job."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
from dlt.destinations import filesystem
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator

from benchmarks.ingest.workload import API, BUCKET, ENDPOINT, KEY, PAGE_SIZE, STAMPS, contend


@dlt.resource(name="variants", max_table_nesting=0)
def variants() -> Iterator[list[dict[str, Any]]]:
    """Pages of records, stamped."""
    client = RESTClient(
        base_url=API, paginator=JSONResponseCursorPaginator(cursor_path="paging.next", cursor_param="cursor")
    )
    for page in client.paginate("/v1/variants", params={"limit": PAGE_SIZE}, data_selector="data"):
        yield [record | STAMPS for record in page]


def work() -> dict[str, Any]:
    """One ingest of the whole API."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "bench",
            pipelines_dir=str(Path(folder) / "pipelines"),
            destination=filesystem(
                bucket_url=f"s3://{BUCKET}/{KEY}",
                credentials={
                    "aws_access_key_id": "bench",
                    "aws_secret_access_key": "bench",
                    "endpoint_url": ENDPOINT,
                    "region_name": "us-east-1",
                },
            ),
            dataset_name="bench",
        )
        pipeline.run(variants(), loader_file_format="jsonl")
        counts = pipeline.last_trace.last_normalize_info.row_counts
    return {"records": counts["variants"]}


if __name__ == "__main__":
    contend(work)
