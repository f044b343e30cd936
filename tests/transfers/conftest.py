"""Fixtures of the tests of the operator: the connections to LocalStack and the sample API."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from dev.localstack import LocalStack
from dev.sample_api import SampleApi


@pytest.fixture(autouse=True)
def aws_connection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """``aws_default`` leads to LocalStack, in the tests that use it."""
    if "localstack" in request.fixturenames:
        server: LocalStack = request.getfixturevalue("localstack")
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", server.connection)


@pytest.fixture
def api(sample_api: Callable[..., SampleApi], monkeypatch: pytest.MonkeyPatch) -> Callable[..., SampleApi]:
    """Start a sample API and set the connection ``api`` to it: ``api(records=..., extra={...})``."""

    def start(*, extra: dict[str, Any] | None = None, **options: Any) -> SampleApi:
        server = sample_api(**options)
        connection = {"conn_type": "http", "host": server.url, "extra": extra or {}}
        monkeypatch.setenv("AIRFLOW_CONN_API", json.dumps(connection))
        return server

    return start
