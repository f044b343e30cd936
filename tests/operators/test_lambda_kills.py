"""Functions process a dispatch under a real scheduler, triggerer and executor, of which parts are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from chunkwise.core.dispatch.staging import Staging
from dev.airflow import AirflowStack
from dev.lambda_service import LambdaService
from dev.localstack import LocalStack
from tests.support.files import as_jsonl, people
from tests.support.processors import processor, running
from tests.support.services import remove_bucket

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

DATA = as_jsonl(people(300))
#: functions at a time, and chunks that the DAG has in flight
CONCURRENCY, IN_FLIGHT = 3, 6
SETTINGS = {
    # how soon Airflow misses a worker or a triggerer that can't tell any more
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
}


@dataclass(frozen=True)
class World:
    """Airflow, S3 and Lambda.

    :param folder: for notes of tasks, and the gates of functions.
    """

    stack: AirflowStack
    localstack: LocalStack
    service: LambdaService
    bucket: str
    folder: Path

    def begin(self, dag_id: str) -> str:
        """Put its source there and start a run; its id."""
        self.localstack.client("s3").put_object(Bucket=self.bucket, Key=f"in/{dag_id}.jsonl", Body=DATA)
        return self.stack.trigger(dag_id)

    def staging(self, dag_id: str) -> Staging:
        return Staging.beside(self.localstack.client("s3"), self.bucket, f"in/{dag_id}.jsonl")

    def in_flight(self, dag_id: str) -> bool:
        """Whether as many functions as may be are in the middle of a chunk, and the others are queued."""
        staging = self.staging(dag_id)
        kinds = Counter(item.key.rpartition(".")[2] for item in staging.list(staging.state_prefix))
        return (kinds["started"], kinds["invoked"]) == (CONCURRENCY, IN_FLIGHT)

    def noted(self, dag_id: str, where: str) -> int:
        """The process id of a task that came to a place."""
        path = self.folder / f"{dag_id}.{where}"
        text = wait_for(lambda: path.exists() and path.read_text(), f"task in {where}")
        path.unlink()
        return int(text)

    def taken_over(self, dag_id: str, queued: int) -> None:
        """Wait until somebody else has asked again for what was handed over and has not begun.

        :param queued: events that waited before.
        """
        wait_for(lambda: self.service.counters(dag_id)["queued"] > queued, "driver that takes over")

    def open(self, name: str) -> None:
        """Let functions, or tasks, go on."""
        (self.folder / name).touch()


@pytest.fixture(scope="module")
def world(localstack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, bucket = tmp_path_factory.mktemp("kills"), f"test-{uuid.uuid4().hex}"
    client = localstack.client("s3")
    client.create_bucket(Bucket=bucket)
    # so that nothing that was ever written is hidden by what came later
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    functions = [
        processor(
            name=name,
            handler="tests.support.gated.handler",
            timeout_seconds=600,
            environment={"GATE": str(folder / f"{name}.gate")},
        )
        for name in ("lambda_triggerer", "lambda_worker", "lambda_resume")
    ]
    with running(localstack.endpoint, *functions, account_concurrency=CONCURRENCY) as service:
        connection = json.loads(localstack.connection)
        connection["extra"]["service_config"] = {"lambda": {"endpoint_url": service.endpoint}}
        with AirflowStack(
            folder / "airflow",
            dags=Path(__file__).parent / "dags",
            connections={"aws_default": json.dumps(connection)},
            settings={**SETTINGS, "CHUNKWISE_BUCKET": bucket, "CHUNKWISE_NOTES": str(folder)},
        ) as stack:
            yield World(stack, localstack, service, bucket, folder)
    remove_bucket(client, bucket)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.2)
    return found


def kill(pid: int) -> None:
    """With all that it has started."""
    process = psutil.Process(pid)
    for one in [process, *process.children(recursive=True)]:
        os.kill(one.pid, signal.SIGKILL)


def landed_once(world: World, dag_id: str, run_id: str) -> Staging:
    """The run succeeds, the output is the source, and nothing was ever written twice."""
    assert world.stack.wait_for_run(dag_id, run_id, timeout=400) == "success"
    world.service.wait_idle()
    client, staging = world.localstack.client("s3"), world.staging(dag_id)
    output = f"out/{dag_id}.jsonl"
    assert client.get_object(Bucket=world.bucket, Key=output)["Body"].read() == DATA
    receipt = world.stack.result(dag_id, run_id, "merge")
    chunks = staging.load().chunks
    assert (receipt["chunks"], receipt["rows_out"]) == (chunks, 300)
    written: Counter[str] = Counter()
    attempts: set[str] = set()
    for page in client.get_paginator("list_object_versions").paginate(Bucket=world.bucket):
        for version in page.get("Versions", ()):
            of_chunk = re.search(r"(parts|done)/chunk_\d{4}(?=\.[^/]*part$|\.json$)", version["Key"])
            if of_chunk is not None and version["Key"].startswith(staging.prefix):
                written[of_chunk[0]] += 1  # also by another attempt
            elif version["Key"] == output:
                written[output] += 1
            elif version["Key"].startswith(staging.prefix) and version["Key"].endswith(".invoked"):
                attempts.add(version["Key"])
    assert written == Counter(
        [output, *(f"{kind}/chunk_{chunk:04d}" for kind in ("parts", "done") for chunk in range(chunks))]
    )
    assert len(attempts) == chunks, "an attempt may be delivered again, and nobody needs another one"
    return staging


def test_kill_9_of_the_triggerer(world: World) -> None:
    """The next one finds what was handed over: it asks again for what has not begun, and for nothing else."""
    dag_id = "lambda_triggerer"
    world.open(f"{dag_id}.go")
    run_id = world.begin(dag_id)
    wait_for(lambda: world.in_flight(dag_id), "chunks in flight")
    assert world.service.counters(dag_id)["busy"] == CONCURRENCY
    triggerer = world.stack.services["triggerer"]
    for process in triggerer.processes():
        process.kill()
    wait_for(lambda: not triggerer.running, "end of the triggerer")
    triggerer.stop()
    queued = world.service.counters(dag_id)["queued"]
    triggerer.start()
    world.taken_over(dag_id, queued)
    world.open(f"{dag_id}.gate")
    staging = landed_once(world, dag_id, run_id)
    chunks = staging.load().chunks
    assert chunks < world.service.counters(dag_id)["invocations"] <= chunks + IN_FLIGHT
    runs = {done.attempt.partition("-")[0] for done, _ in staging.done(range(chunks)).values()}
    assert len(runs) == 1


def test_kill_9_of_a_task_that_waits_in_its_worker(world: World) -> None:
    """Its next try waits for what the first one handed over."""
    dag_id = "lambda_worker"
    run_id = world.begin(dag_id)
    pid = world.noted(dag_id, "execute")
    wait_for(lambda: world.in_flight(dag_id), "chunks in flight")
    kill(pid)
    queued = world.service.counters(dag_id)["queued"]
    assert world.noted(dag_id, "execute") != pid
    world.taken_over(dag_id, queued)
    world.open(f"{dag_id}.gate")
    staging = landed_once(world, dag_id, run_id)
    chunks = staging.load().chunks
    assert chunks < world.service.counters(dag_id)["invocations"] <= chunks + IN_FLIGHT
    runs = {done.attempt.partition("-")[0] for done, _ in staging.done(range(chunks)).values()}
    assert len(runs) == 2


def test_kill_9_of_a_task_that_comes_back_from_its_trigger(world: World) -> None:
    """All is done by then: its next try invokes nothing."""
    dag_id = "lambda_resume"
    world.open(f"{dag_id}.gate")
    run_id = world.begin(dag_id)
    pid = world.noted(dag_id, "complete")
    before = world.service.counters(dag_id)["invocations"]
    kill(pid)
    world.open(f"{dag_id}.go")
    staging = landed_once(world, dag_id, run_id)
    chunks = staging.load().chunks
    assert before == world.service.counters(dag_id)["invocations"] == chunks
