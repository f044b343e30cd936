"""A Delta table on a test's bucket, written by the code under test and read by deltalake and Polars."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chunkwise.core.delta import (
    Arrival,
    Batch,
    Maintenance,
    Policy,
    Settings,
    Table,
    TableReceipt,
    append,
    checkpointer,
)
from tests.support.s3 import S3

ROOT = "lake/orders"


class Lake:
    """One table on a bucket.

    :ivar s3: the bucket.
    :ivar table: where the table lies.
    """

    def __init__(self, s3: S3, root: str = ROOT) -> None:
        self.s3 = s3
        self.table = Table(bucket=s3.bucket, root=root)
        self.uri = self.table.uri
        self.options = {
            "aws_endpoint_url": s3.endpoint,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
        }

    def put(self, path: str, data: Mapping[str, Any] | pa.Table, **options: Any) -> Arrival:
        """Write a Parquet file below the table's root; its arrival, as an event has it."""
        body = parquet(data, **options)
        return self.put_bytes(path, body)

    def put_bytes(self, path: str, body: bytes) -> Arrival:
        key = self.table.key(path)
        etag = self.s3.put(key, body)
        return Arrival(bucket=self.s3.bucket, key=key, size=len(body), etag=etag)

    def arrival(self, path: str, **more: Any) -> Arrival:
        """An event that says no more than the key."""
        return Arrival(bucket=self.s3.bucket, key=self.table.key(path), **more)

    def delete(self, path: str) -> Arrival:
        """Delete an object; the event of it."""
        self.s3.client.delete_object(Bucket=self.s3.bucket, Key=self.table.key(path))
        return self.arrival(path, deleted=True)

    def append(
        self,
        *arrivals: Arrival,
        batch: Batch | None = None,
        client: Any = None,
        checkpoints: bool = False,
        every: int = 10,
        settings: Mapping[str, Any] | None = None,
        **policy: Any,
    ) -> TableReceipt:
        """Append with these policies."""
        maintenance = Maintenance(
            every=every, checkpointer=checkpointer(lambda: self.options) if checkpoints else None
        )
        return append(
            client or self.s3.client,
            self.table,
            arrivals,
            settings=Settings(policy=Policy(**policy), maintenance=maintenance, **(settings or {})),
            batch=batch,
        )

    # --- the oracles --------------------------------------------------------------------------------------

    def open(self) -> deltalake.DeltaTable:
        return deltalake.DeltaTable(self.uri, storage_options=self.options)

    def rows(self, *by: str) -> list[dict[str, Any]]:
        """All rows, as DataFusion, pyarrow and Polars read them alike."""
        dt = self.open()
        names = ", ".join(f'"{field.name}"' for field in dt.schema().fields)
        query = deltalake.QueryBuilder().register("t", dt).execute(f"select {names} from t")
        found = [
            pa.table(query.read_all()).to_pylist(),
            dt.to_pyarrow_table().to_pylist(),
            pl.scan_delta(self.uri, storage_options=self.options).collect().to_dicts(),
        ]
        ordered = [
            sorted(rows, key=lambda row: [row[name] for name in by] or [str(value) for value in row.values()])
            for rows in found
        ]
        assert ordered[0] == ordered[1] == ordered[2]
        return ordered[0]

    def log(self, version: int) -> list[dict[str, Any]]:
        """The actions of a version."""
        body = self.s3.get(self.table.commit_key(version))
        return [json.loads(line) for line in body.splitlines()]

    def actions(self, kind: str, version: int) -> list[dict[str, Any]]:
        """The actions of one kind in a version."""
        return [action[kind] for action in self.log(version) if kind in action]

    def drop_log(self, versions: int | None = None) -> None:
        """Delete the first entries of the log, or all of it with its checkpoints."""
        front = self.table.key("_delta_log/")
        every = self.s3.keys()
        keys = [key for key in every if key.startswith(front)]
        if versions is not None:
            keys = [self.table.commit_key(version) for version in range(versions)]
        for key in keys:
            self.s3.client.delete_object(Bucket=self.s3.bucket, Key=key)

    @property
    def versions(self) -> list[int]:
        """Versions in the log."""
        front = self.table.key("_delta_log/")
        every = self.s3.keys()
        names = [key.removeprefix(front) for key in every if key.startswith(front)]
        return [int(name[:20]) for name in names if name.endswith(".json") and name[:20].isdigit()]


def parquet(data: Mapping[str, Any] | pa.Table, **options: Any) -> bytes:
    """A Parquet file."""
    sink = io.BytesIO()
    pq.write_table(data if isinstance(data, pa.Table) else pa.table(dict(data)), sink, **options)
    return sink.getvalue()


def kinds(receipt: TableReceipt) -> list[str]:
    """The verdicts in the order of the arrivals."""
    return [verdict.kind for verdict in receipt.verdicts]


def reasons(receipt: TableReceipt) -> list[str]:
    return [verdict.reason for verdict in receipt.verdicts]


def write_log(lake: Lake, version: int, actions: Sequence[Mapping[str, Any]]) -> None:
    """A commit of somebody else."""
    body = "".join(json.dumps(action) + "\n" for action in actions)
    lake.s3.put(lake.table.commit_key(version), body.encode())


@pytest.fixture
def lake(s3: S3) -> Lake:
    """A table that does not exist yet."""
    return Lake(s3)
