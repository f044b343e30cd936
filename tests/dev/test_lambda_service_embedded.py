"""The local Lambda beside the other services of the demo: an Airflow connection leads to all of them."""

from __future__ import annotations

import tests.support.airflow_env  # isort: skip  # noqa: F401  # before anything imports Airflow

import importlib
import json
from pathlib import Path

import pytest
from airflow.providers.amazon.aws.hooks.lambda_function import LambdaHook

from dev.lambda_service import load_functions
from dev.processes import REPOSITORY
from dev.services import FUNCTIONS, EmbeddedServices


def test_one_connection_leads_to_s3_and_to_the_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = tmp_path / "functions.json"
    deployed = {
        "name": "f",
        "handler": "lambda_handlers.handler",
        "cwd": str(REPOSITORY / "tests" / "support"),
    }
    functions.write_text(json.dumps({"functions": [deployed]}))
    with EmbeddedServices(tmp_path, records=1, record_bytes=1_000, functions=functions) as services:
        services.check()
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", services.connections["aws_default"])
        hook = LambdaHook(aws_conn_id="aws_default")
        event = json.dumps({"variables": ["AWS_ENDPOINT_URL"]}).encode()
        answer = json.loads(hook.invoke_lambda(function_name="f", payload=event)["Payload"].read())
        assert answer["environment"] == {"AWS_ENDPOINT_URL": services.localstack.endpoint}
        assert services.lambda_service is not None
        processes = services.lambda_service.processes()
        (log,) = (tmp_path / "lambda" / "f").iterdir()
    assert "REPORT RequestId: " in log.read_text()
    assert processes
    assert not [process for process in processes if process.is_running()]


def test_the_functions_of_the_demo_can_be_deployed() -> None:
    for function in load_functions(FUNCTIONS):
        module, _, name = function.handler.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))
