"""What the tests of the dispatch's adapters share."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from airflow.sdk import DAG

from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.process import process_group
from chunkwise.core.dispatch.settings import mapping_of
from chunkwise.core.dispatch.spec import Config, Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.protect.protector import ProtectorSpec
from tests.support.airflow import Ran
from tests.support.files import MAKERS, MAPPING, people
from tests.support.s3 import S3

Run = Callable[..., Ran]

#: 300 rows of JSON Lines are about 16 of these
CHUNK = 1_500


def connection(endpoint: str) -> str:
    """An AWS connection of Airflow to an S3 server."""
    extra = {"region_name": "us-east-1", "endpoint_url": endpoint}
    return json.dumps({"conn_type": "aws", "login": "test", "password": "test", "extra": extra})


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let ``aws_default`` lead to this server."""
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection(endpoint))


def dag(dag_id: str = "somebody_elses", **options: Any) -> DAG:
    """An empty DAG, to be filled in a ``with`` block."""
    return DAG(dag_id, schedule=None, start_date=datetime(2023, 1, 1), **options)


def source(s3: S3, key: str = "in/people.jsonl", rows: int = 300) -> bytes:
    """Put a file there; its bytes."""
    data = MAKERS[key.rpartition(".")[2]](people(rows))
    s3.put(key, data)
    return data


def planned(s3: S3, key: str = "in/people.jsonl", **options: Any) -> Staging:
    """Plan a dispatch of a file that is there; its staging directory."""
    staging = Staging.beside(s3.client, s3.bucket, key)
    config = Config(
        target=Target(bucket=s3.bucket, key=f"out/{key}"),
        **{"chunk_bytes": CHUNK, "threshold_bytes": None, "groups": 4, **options},
    )
    plan_dispatch(s3.client, Source(bucket=s3.bucket, key=key), config, staging)
    return staging


def broken(s3: S3, **options: Any) -> Staging:
    """Plan a dispatch with one record that no attempt can read; its staging directory."""
    lines = source(s3).split(b"\n")
    lines[150] = b"{"
    s3.put("in/people.jsonl", b"\n".join(lines))
    mapping = mapping_of(None, Source(bucket=s3.bucket, key=""), MAPPING)
    return planned(s3, mode="exact", mapping=mapping, protector=ProtectorSpec(name="mask"), **options)


def processed(staging: Staging, *groups: int) -> None:
    """Process groups, by default all."""
    for group in groups or range(staging.load().groups):
        process_group(staging.client, staging, group)
