"""The Polars way: a lazy scan, a batch function for tokens, the streaming engine, temp file, upload."""

from __future__ import annotations

import tempfile
from typing import Any

import polars as pl

from benchmarks.dispatch.people import COLUMNS, PROTECTED
from benchmarks.dispatch.token import element_key, tokens
from benchmarks.ingest.workload import BUCKET, KEY, contend, s3_client


def work() -> dict[str, Any]:
    """One file."""
    client = s3_client()
    with tempfile.NamedTemporaryFile() as source, tempfile.NamedTemporaryFile() as out:
        client.download_fileobj(BUCKET, KEY, source)
        source.flush()
        schema = dict.fromkeys(COLUMNS, pl.String)
        csv = KEY.endswith(".csv")
        scan = pl.scan_csv if csv else pl.scan_ndjson
        frame = scan(source.name, schema=schema)
        changed = frame.with_columns(
            pl.col(name).map_batches(_protector(name), return_dtype=pl.String, is_elementwise=True)
            for name in PROTECTED
        )
        if csv:
            changed.sink_csv(out.name, engine="streaming")
        else:
            changed.sink_ndjson(out.name, engine="streaming")
        client.upload_file(out.name, BUCKET, f"out/{KEY}")
    return {}


def _protector(name: str) -> Any:
    key = element_key(name)
    return lambda series: pl.Series(tokens(series.to_list(), key))


if __name__ == "__main__":
    contend(work)
