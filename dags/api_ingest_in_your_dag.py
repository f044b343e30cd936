"""The ingest as one task among others, and a second DAG that runs when its data has landed.

``api_ingest_in_your_dag`` asks the API how many records there are, ingests them, and checks one against the
other. ``on_new_genes`` is scheduled by the asset and reads the receipt from its events, then the object
itself, line by line.

They need the connections and the environment variable of ``daily_api_ingest.py``.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task

from chunkwise.core.paging import OffsetPaginator
from chunkwise.transfers.paged_api_to_s3 import PagedApiToS3Operator

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")
GENES = Asset("genes", uri=f"s3://{BUCKET}/genes")


def gene_of(record: dict[str, Any]) -> dict[str, Any]:
    """Any Python function from a record to a record will do; it is slower than the declarative transforms."""
    return {"id": record["id"], "gene": record["gene"]["symbol"]}


with DAG(
    "api_ingest_in_your_dag",
    schedule=None,
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):

    @task
    def count_records() -> int:
        """What the API says it has."""
        from airflow.providers.http.hooks.http import HttpHook

        return int(HttpHook("GET", "sample_api").run("v1/variants/count").json()["count"])

    expected = count_records()

    ingest = PagedApiToS3Operator(
        task_id="ingest_genes",
        http_conn_id="sample_api",
        endpoint="v1/variants/by-offset",
        # Pages of an offset can be foretold: two are asked for at once.
        paginator=OffsetPaginator(limit=200, total_path="total"),
        requests_in_flight=2,
        records_path="data",
        transform=gene_of,
        s3_key=f"s3://{BUCKET}/genes/run={{{{ ingest_ts }}}}.jsonl.gz",
        # An API that grew tenfold overnight is a mistake to look at, not a table to load.
        max_records=1_000_000,
        outlets=[GENES],
    )

    @task
    def check(receipt: dict[str, Any], expected: int) -> None:
        """The ingest returns a receipt, never data: a dictionary of counts, sizes and checksums."""
        if receipt["records"] != expected:
            raise ValueError(f"{receipt['uri']} has {receipt['records']} records, the API says {expected}")

    expected >> ingest
    check(ingest.output, expected)


with DAG("on_new_genes", schedule=[GENES], start_date=datetime(2023, 12, 1, tzinfo=UTC), tags=["chunkwise"]):

    @task
    def count_genes(triggering_asset_events: dict[Asset, list[Any]] | None = None) -> dict[str, int]:
        """The ten genes with the most variants, over all objects that landed since the last run."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        counts: Counter[str] = Counter()
        # Ingests that end close together make one run of this DAG, with one event each: look at all of them.
        for event in (triggering_asset_events or {}).get(GENES, []):
            receipt = event.extra
            bucket, key = S3Hook.parse_s3_url(receipt["uri"])
            before = counts.total()
            # gzip reads the object block by block: neither it nor its lines are in memory at once.
            with gzip.GzipFile(fileobj=S3Hook().conn.get_object(Bucket=bucket, Key=key)["Body"]) as lines:
                counts.update(json.loads(line)["gene"] for line in lines)
            found = counts.total() - before
            if found != receipt["records"]:
                raise ValueError(f"{receipt['uri']}: {found} lines, its receipt says {receipt['records']}")
        return dict(counts.most_common(10))

    count_genes()
