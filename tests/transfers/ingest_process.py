"""One try of an ingest in a process of its own, which a test may kill: ``python -m
tests.transfers.ingest_process``.

Its only argument is a JSON object: where the API, S3 and the file with the saved state are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
import requests

from chunkwise.core.ingest.job import PagedIngest
from chunkwise.core.ingest.spec import Destination, IngestSpec
from chunkwise.core.paging import BaseRequest, CursorPaginator


class FileState:
    """A state store that outlives its process, as Airflow's does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self) -> Mapping[str, Any] | None:
        return json.loads(self._path.read_text()) if self._path.exists() else None

    def set(self, value: Mapping[str, Any]) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(value))
        new.replace(self._path)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)


def ingest(*, api: str, s3: Mapping[str, str], bucket: str, key: str, state: str) -> dict[str, Any]:
    """Run it; gives its receipt."""
    spec = IngestSpec(
        request=BaseRequest(url=f"{api}/v1/variants", params={"limit": 50}),
        paginator=CursorPaginator(cursor_path="paging.next", name="cursor", total_path="total"),
        records_path="data",
        destination=Destination(bucket=bucket, key=key, compression="none"),
        stamps={"ingest_date": "2023-12-21"},
    )
    with requests.Session() as session:
        session.trust_env = False
        job = PagedIngest(
            spec, session, boto3.client("s3", **s3), state=FileState(Path(state)), will_retry=True
        )
        return job.run().to_json()


if __name__ == "__main__":
    print(json.dumps(ingest(**json.loads(sys.argv[1]))))
