"""The processor as a Lambda function, in processes of its own, beside the bucket of a test."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dev.lambda_service import Function, LambdaService
from tests.support.s3 import S3

ROOT = Path(__file__).parents[2]
NAME = "processor"
HANDLER = "chunkwise.aws_lambda.processor.handler"


def processor(**settings: Any) -> Function:
    """The function that runs the processor; as it should be deployed, without retries of its own."""
    return Function(
        **{
            "name": NAME,
            "handler": HANDLER,
            "timeout_seconds": 60,
            "memory_mb": 512,
            "max_retry_attempts": 0,
            "python_path": (str(ROOT / "provider"), str(ROOT)),
            **settings,
        }
    )


@contextmanager
def running(endpoint: str, *functions: Function, **settings: Any) -> Iterator[LambdaService]:
    """A service with these functions, whose other AWS services are at an endpoint."""
    # each environment is a process that has to start: a few do the same work sooner
    settings.setdefault("account_concurrency", 3)
    with LambdaService(functions or [processor()], endpoint=endpoint, **settings) as service:
        yield service


def use_both(monkeypatch: pytest.MonkeyPatch, s3: S3, service: LambdaService) -> None:
    """Let ``aws_default`` lead to the bucket of the test, and to the functions."""
    extra = {
        "region_name": "us-east-1",
        "endpoint_url": s3.endpoint,
        "service_config": {"lambda": {"endpoint_url": service.endpoint}},
    }
    connection = {"conn_type": "aws", "login": "test", "password": "test", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))


def attempts_of(done: Sequence[str]) -> set[str]:
    """Numbers of attempts, by their names."""
    return {name.split("-")[1] for name in done}
