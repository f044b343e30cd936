"""The local Lambda as a command: its configuration, its control over HTTP, and that nothing outlives it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import requests

from dev.lambda_service import ConfigError, Function, load_functions
from dev.lambda_service.__main__ import main
from dev.lambda_service.memory import PREFIX, MemoryLimits
from dev.processes import REPOSITORY

SUPPORT = str(REPOSITORY / "tests" / "support")
DEPLOYED = {"name": "f", "handler": "lambda_handlers.handler", "cwd": SUPPORT, "timeout_seconds": 60}
Start = Callable[[], tuple[subprocess.Popen[str], str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "functions.json"
    path.write_text(json.dumps({"functions": [DEPLOYED]}))
    return path


@pytest.fixture
def started(config: Path, tmp_path: Path) -> Iterator[Start]:
    """Start the command; the process and its endpoint."""
    processes: list[subprocess.Popen[str]] = []

    def start() -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "dev.lambda_service", f"--config={config}", "--port=0"]
        command.append(f"--logs={tmp_path / 'logs'}")
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.match(r"Lambda on (http://127\.0\.0\.1:\d+); memory limited by (cgroup v[12]|rss)\n", line)
        assert match, line
        return process, match[1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    MemoryLimits().close()  # the next service removes the cgroups of one that was killed


def client_of(endpoint: str) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_environment_outlives_the_service(started: Start, how: signal.Signals) -> None:
    process, endpoint = started()
    answer = json.loads(client_of(endpoint).invoke(FunctionName="f")["Payload"].read())
    assert psutil.pid_exists(answer["pid"])
    process.send_signal(how)
    process.wait(timeout=30)
    assert gone(answer["pid"])


def test_a_handler_at_work_does_not_outlive_a_killed_service(started: Start, tmp_path: Path) -> None:
    process, endpoint = started()
    client = client_of(endpoint)
    started_file = tmp_path / "started"
    event = {"do": "wait_for_file", "path": str(tmp_path / "never"), "started": str(started_file)}
    client.invoke(FunctionName="f", InvocationType="Event", Payload=json.dumps(event).encode())
    while not started_file.exists():
        time.sleep(0.01)
    (environment,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    assert gone(environment.pid)
    limits = MemoryLimits()
    if limits.folder is not None:
        assert list(limits.folder.parent.glob(f"{PREFIX}{process.pid}-*")) == []
    limits.close()


def test_it_is_controlled_over_http(started: Start, tmp_path: Path) -> None:
    _, endpoint = started()
    client = client_of(endpoint)
    local = f"{endpoint}/_local"
    assert requests.get(f"{local}/health", timeout=10).json()["status"] == "running"
    payload = json.dumps({"do": "wait_for_file", "path": str(tmp_path / "never")}).encode()
    response = client.invoke(FunctionName="f", InvocationType="Event", Payload=payload)
    request_id = response["ResponseMetadata"]["RequestId"]
    running = requests.get(f"{local}/running", timeout=10).json()
    assert running in ([], [{"function": "f", "request_id": request_id}])
    while not requests.get(f"{local}/running", timeout=10).json():
        time.sleep(0.01)
    killed = requests.post(f"{local}/kill", params={"request_id": request_id}, timeout=10)
    assert killed.json() == {"done": True}
    while not requests.get(f"{local}/counters", params={"function": "f"}, timeout=10).json().get("errors"):
        time.sleep(0.01)
    (report,) = requests.get(f"{local}/reports", params={"function": "f"}, timeout=10).json()
    assert (report["request_id"], report["status"]) == (request_id, "error")
    assert requests.get(f"{local}/reports", params={"function": "g"}, timeout=10).json() == []
    requests.post(f"{local}/throttle-next", params={"count": 1}, timeout=10)
    with pytest.raises(client.exceptions.TooManyRequestsException):
        client_of_once(endpoint).invoke(FunctionName="f")
    assert requests.post(f"{local}/kill", timeout=10).status_code == 400
    assert requests.get(f"{local}/nothing", timeout=10).status_code == 404
    assert requests.get(f"{local}/counters", params={"function": "g"}, timeout=10).status_code == 400


def client_of_once(endpoint: str) -> Any:
    """A client that does not try again."""
    from botocore.config import Config

    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_relative_folders_are_those_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "functions.json"
    path.write_text(json.dumps({"functions": [{"name": "f", "handler": "a.b", "python_path": ["lib"]}]}))
    assert load_functions(path) == [
        Function(name="f", handler="a.b", cwd=str(tmp_path), python_path=(str(tmp_path / "lib"),))
    ]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"timeout_seconds": 901}, "timeout_seconds must be above 0, at most 900"),
        ({"memory_mb": 1}, "memory_mb must be 16 to 10240"),
        ({"max_retry_attempts": 3}, "max_retry_attempts must be 0, 1 or 2"),
        ({"on_failure": "arn:aws:sqs:x"}, "on_failure must be"),
        ({"aliases": {"live": "7"}}, "aliases must be"),
        ({"name": "a b"}, "name must be"),
        ({"handler": "nodot"}, "handler must be"),
        ({"cwd": "no/such/folder"}, "cwd must be a folder"),
        ({"nothing": 1}, "unknown settings: nothing"),
    ],
)
def test_a_wrong_setting_is_named(
    config: Path, capsys: pytest.CaptureFixture[str], setting: dict[str, Any], said: str
) -> None:
    config.write_text(json.dumps({"functions": [DEPLOYED | setting]}))
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_functions(config)
    assert main([f"--config={config}"]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"functions": 1}', '{"functions": [1]}', '{"functions": [{}]}'])
def test_what_is_no_configuration_is_refused(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(ConfigError):
        load_functions(config)


def test_a_port_in_use_is_named(started: Start, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, endpoint = started()
    assert main([f"--config={config}", f"--port={endpoint.rpartition(':')[2]}"]) == 1
    assert "in use" in capsys.readouterr().err
