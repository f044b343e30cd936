"""A killed ingest goes on where it was: the same records, none twice, and no upload left open."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from chunkwise.transfers import paged_api_to_s3
from dev.airflow import AirflowStack
from dev.localstack import ACCESS_KEY, REGION, SECRET_KEY, LocalStack
from dev.processes import REPOSITORY
from dev.sample_api import SampleApi
from tests.transfers.support import DAY, Api, Run, body, dag, ingest, keys, open_uploads

#: 60 pages of 1 MB, compressed a seventh of it
SIZE = {"records": 3_000, "record_bytes": 20_000}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.02)
    return found


class Try:
    """One try in a process of its own."""

    def __init__(self, api: SampleApi, server: LocalStack, bucket: str, key: str, state: Path) -> None:
        s3 = {
            "endpoint_url": server.endpoint,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
        }
        job = {"api": api.url, "s3": s3, "bucket": bucket, "key": key, "state": str(state)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.transfers.ingest_process", json.dumps(job)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL, "it ended before it was killed"

    def receipt(self) -> dict[str, Any]:
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, err
        return json.loads(out)


def test_a_process_killed_again_and_again(
    sample_api: Callable[..., SampleApi], localstack: LocalStack, ls_bucket: str, tmp_path: Path
) -> None:
    """``kill -9`` before the first checkpoint and after two later ones; the fourth process ends the work."""
    slow = sample_api(**SIZE, delay_ms=40)
    state = tmp_path / "state.json"

    def one_try() -> Try:
        return Try(slow, localstack, ls_bucket, "killed.jsonl", state)

    def pages_saved() -> int:
        return json.loads(state.read_text()).get("counters", {}).get("pages", 0) if state.exists() else 0

    first = one_try()
    wait_for(lambda: slow.requests()["/v1/variants"] >= 3, "request")
    first.kill()
    assert pages_saved() == 0
    reached = 0
    for _ in range(2):
        later = one_try()
        wait_for(lambda: pages_saved() > reached + 7, "checkpoint")  # noqa: B023
        later.kill()
        reached = pages_saved()
    assert open_uploads(localstack, ls_bucket) == ["killed.jsonl"]
    asked = slow.requests()["/v1/variants"]
    receipt = one_try().receipt()
    assert receipt["resumed_at_page"] == reached + 1
    assert slow.requests()["/v1/variants"] - asked == 60 - reached
    quick = sample_api(**SIZE)
    undisturbed = Try(quick, localstack, ls_bucket, "undisturbed.jsonl", tmp_path / "none").receipt()
    assert undisturbed["resumed_at_page"] is None
    lines = [body(localstack, done["uri"]) for done in (receipt, undisturbed)]
    assert lines[0] == lines[1]
    assert lines[0].count(b"\n") == receipt["records"] == 3_000
    assert receipt["sha256"] == undisturbed["sha256"]
    assert open_uploads(localstack, ls_bucket) == []
    assert not state.exists()


def test_a_retry_of_the_task_goes_on_at_the_cursor(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    """The API fails in the middle of the first try; the second reads only what is missing."""
    server = api(**SIZE, fail_page=55, fail_times=2)
    with dag() as it:
        ingest(ls_bucket, retries=1, retry_delay=timedelta(0), level=0)
    ran = run_dag(it, logical_date=DAY)
    assert (ran.states["ingest"], ran.tries["ingest"]) == ("success", 2)
    receipt = ran.returned("ingest")
    assert 30 < receipt["resumed_at_page"] <= 55
    # 54 pages and two failures, then the rest
    assert server.requests()["/v1/variants"] == 56 + 61 - receipt["resumed_at_page"]
    ordinals = [json.loads(line)["ordinal"] for line in body(localstack, receipt["uri"]).splitlines()]
    assert ordinals == list(range(3_000))
    assert open_uploads(localstack, ls_bucket) == []


@pytest.mark.parametrize("without", ["resume", "store"])
def test_without_a_place_for_its_state_a_retry_starts_again(
    api: Api,
    run_dag: Run,
    localstack: LocalStack,
    ls_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    without: str,
) -> None:
    """As below Airflow 3.3, or when it is not wanted: nothing is left open for the next try."""
    server = api(**SIZE, fail_page=55, fail_times=2)
    if without == "store":
        monkeypatch.setattr(paged_api_to_s3, "task_state", lambda _context: None)
    left_open = []
    with dag() as it:
        ingest(
            ls_bucket,
            retries=1,
            retry_delay=timedelta(0),
            level=0,
            resume=without != "resume",
            on_retry_callback=lambda _context: left_open.append(open_uploads(localstack, ls_bucket)),
        )
    ran = run_dag(it, logical_date=DAY)
    assert (ran.states["ingest"], ran.tries["ingest"]) == ("success", 2)
    assert ran.returned("ingest")["resumed_at_page"] is None
    assert server.requests()["/v1/variants"] == 56 + 60
    assert left_open == [[]]


@pytest.mark.long
@pytest.mark.parametrize("victim", ["task", "worker"])
def test_kill_9_under_airflow(
    sample_api: Callable[..., SampleApi],
    localstack: LocalStack,
    ls_bucket: str,
    tmp_path: Path,
    victim: str,
) -> None:
    """The task's process is killed, or its worker too; Airflow retries it, and it goes on."""
    slow, quick = sample_api(**SIZE, delay_ms=100), sample_api(**SIZE)
    connections = {
        "aws_default": localstack.connection,
        "api_killed": json.dumps({"conn_type": "http", "host": slow.url}),
        "api_undisturbed": json.dumps({"conn_type": "http", "host": quick.url}),
    }
    settings = {
        "CHUNKWISE_BUCKET": ls_bucket,
        # how soon Airflow misses a worker that can't tell any more
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    }
    dags = Path(__file__).parent / "dags"
    with AirflowStack(tmp_path / "airflow", dags=dags, connections=connections, settings=settings) as stack:
        run_id = stack.trigger("slow_ingest_killed")
        wait_for(lambda: slow.requests()["/v1/variants"] >= 30, "page", 120)
        kill(task_process(stack), with_parent=victim == "worker")
        asked = slow.requests()["/v1/variants"]
        assert stack.wait_for_run("slow_ingest_killed", run_id, timeout=180) == "success"
        receipt = stack.result("slow_ingest_killed", run_id, "ingest")
        (instance,) = stack.task_instances("slow_ingest_killed", run_id)
        other = stack.trigger("slow_ingest_undisturbed")
        assert stack.wait_for_run("slow_ingest_undisturbed", other) == "success"
        undisturbed = stack.result("slow_ingest_undisturbed", other, "ingest")
    assert instance["try_number"] == 2
    assert receipt["resumed_at_page"] > 10
    assert slow.requests()["/v1/variants"] - asked <= 61 - receipt["resumed_at_page"] + 1
    assert body(localstack, receipt["uri"]) == body(localstack, undisturbed["uri"])
    assert receipt["sha256"] == undisturbed["sha256"]
    assert open_uploads(localstack, ls_bucket) == []
    assert keys(localstack, ls_bucket) == ["killed.jsonl", "undisturbed.jsonl"]


def task_process(stack: AirflowStack) -> psutil.Process:
    """The process that runs the task: a leaf of the scheduler's tree, and the only one that reads the API."""
    tree = stack.services["scheduler"].processes()
    leaves = [process for process in tree if not process.children() and process.net_connections()]
    (task,) = leaves
    return task


def kill(process: psutil.Process, *, with_parent: bool) -> None:
    parent = process.parent()
    if with_parent and parent is not None:
        os.kill(parent.pid, signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
