"""A dispatch under a real scheduler, triggerer and executor, and what a killed worker costs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from chunkwise.core.dispatch.staging import Staging
from dev.airflow import AirflowStack
from dev.localstack import LocalStack
from tests.support.files import READERS, as_jsonl, people

ROWS = people(300)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.1)
    return found


def attempts(staging: Staging, chunks: int) -> dict[int, str]:
    return {chunk: done.attempt for chunk, (done, _) in staging.done(range(chunks)).items()}


@pytest.mark.long
def test_kill_9_of_a_processing_worker(localstack: LocalStack, ls_bucket: str, tmp_path: Path) -> None:
    """Its group is tried again and does what it lacks; the other group and the sensor notice nothing."""
    client = localstack.client("s3")
    client.put_object(Bucket=ls_bucket, Key="in/people.jsonl", Body=as_jsonl(ROWS))
    staging = Staging.beside(client, ls_bucket, "in/people.jsonl")
    settings = {
        "CHUNKWISE_BUCKET": ls_bucket,
        # how soon Airflow misses a worker that can't tell any more
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    }
    dags = Path(__file__).parent / "dags"
    connections = {"aws_default": localstack.connection}
    with AirflowStack(tmp_path / "airflow", dags=dags, connections=connections, settings=settings) as stack:
        run_id = stack.trigger("slow_dispatch")

        def states() -> dict[tuple[str, int], str]:
            found = stack.task_instances("slow_dispatch", run_id)
            return {(item["task_id"], item["map_index"]): item["state"] for item in found}

        wait_for(lambda: states().get(("wait", -1)) == "deferred", "deferred sensor")
        plan = staging.load()
        wait_for(lambda: len(attempts(staging, plan.chunks)) >= 4, "done record")
        before = attempts(staging, plan.chunks)
        assert len(before) < plan.chunks - 10
        kill(busy_task(stack))
        assert stack.wait_for_run("slow_dispatch", run_id, timeout=300) == "success"
        instances = stack.task_instances("slow_dispatch", run_id)
        receipt = stack.result("slow_dispatch", run_id, "merge")
        counts = stack.result("slow_dispatch", run_id, "wait")
    tries = {(item["task_id"], item["map_index"]): item["try_number"] for item in instances}
    assert sorted(tries[name] for name in (("process", 0), ("process", 1))) == [1, 2]
    after = attempts(staging, plan.chunks)
    assert {chunk: after[chunk] for chunk in before} == before
    assert any(attempt.startswith("try2") for attempt in after.values())
    assert (counts["done"], counts["rows"]) == (plan.chunks, 300)
    assert receipt["rows_out"] == 300
    body = client.get_object(Bucket=ls_bucket, Key="out/people.jsonl")["Body"].read()
    assert READERS["jsonl"](body) == [{**row, "name": row["name"].upper()} for row in ROWS]


def busy_task(stack: AirflowStack) -> psutil.Process:
    """A process that runs a task: a leaf of the scheduler's tree that has connections."""
    tree = stack.services["scheduler"].processes()
    return next(process for process in tree if not process.children() and process.net_connections())


def kill(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGKILL)
