"""The page-wise way with the standard library: json, gzip, a temp file, upload_file."""

from __future__ import annotations

import gzip
import json
import tempfile
from typing import Any

import requests

from benchmarks.ingest.workload import API, BUCKET, KEY, PAGE_SIZE, STAMPS, contend, s3_client


def work() -> dict[str, Any]:
    """One ingest of the whole API."""
    session, cursor, records, size = requests.Session(), None, 0, 0
    with tempfile.NamedTemporaryFile(suffix=".jsonl.gz") as file:
        with gzip.open(file, "wt", encoding="utf-8") as lines:
            while True:
                query = {"limit": PAGE_SIZE} | ({"cursor": cursor} if cursor else {})
                page = session.get(f"{API}/v1/variants", params=query, timeout=60).json()
                for record in page["data"]:
                    size += lines.write(json.dumps(record | STAMPS) + "\n")
                records += len(page["data"])
                cursor = page["paging"]["next"]
                if cursor is None:
                    break
        file.flush()
        s3_client().upload_file(file.name, BUCKET, KEY)
    return {"records": records, "uncompressed": size}


if __name__ == "__main__":
    contend(work)
