"""Arrivals under a real scheduler, triggerer and executor: every object is handled, whatever dies."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from dev.airflow import AirflowStack
from tests.support.dispatch import connection
from tests.support.s3 import S3, moto_server
from tests.support.sqs import Queue

DAG = "take_arrivals"


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.1)
    return found


class Arrivals:
    """A stack whose one DAG takes note of what arrives."""

    def __init__(self, stack: AirflowStack, queue: Queue, s3: S3) -> None:
        self.stack, self.queue, self.s3 = stack, queue, s3
        self.sent: list[str] = []

    def announce(self, *names: str, times: int = 1) -> None:
        keys = [f"landing/{name}" for name in names]
        self.sent += keys
        for _ in range(times):
            self.queue.announce(*keys)

    def taken(self) -> list[str]:
        return [key.removeprefix("taken/") for key in list(self.s3.keys()) if key.startswith("taken/")]

    def wait(self) -> None:
        """Until everything that was sent has been handled, and nothing is left in the queue."""
        wait_for(lambda: set(self.taken()) >= set(self.sent), "sign of every object", seconds=600)
        wait_for(lambda: self.queue.counts() == (0, 0), "empty queue")
        assert sorted(self.taken()) == sorted(set(self.sent))

    def kill_triggerer(self) -> None:
        """With SIGKILL, all its processes, and start another one."""
        for process in self.stack.services.pop("triggerer").processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        again = self.stack.command("triggerer", ["triggerer", "--skip-serve-logs"])
        self.stack.services["triggerer"] = again
        again.start()

    def pause(self, *, paused: bool) -> None:
        self.stack.api("PATCH", f"/dags/{DAG}", {"is_paused": paused})

    def runs(self) -> list[dict[str, Any]]:
        return list(self.stack.api("GET", f"/dags/{DAG}/dagRuns?limit=100")["dag_runs"])

    def latency(self, name: str) -> float:
        """Seconds from a message in the queue to a run in the database."""
        known = {run["dag_run_id"] for run in self.runs()}
        sent = datetime.now(UTC)
        self.announce(name)
        (run,) = wait_for(lambda: [run for run in self.runs() if run["dag_run_id"] not in known], "run")
        return (datetime.fromisoformat(run["queued_at"]) - sent).total_seconds()


@pytest.fixture(scope="module")
def arrivals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arrivals]:
    with moto_server() as endpoint:
        s3, queue = S3(endpoint), Queue(endpoint)
        s3.create()
        settings = {
            "CHUNKWISE_BUCKET": s3.bucket,
            "CHUNKWISE_QUEUE": queue.url,
            # how soon another triggerer takes over what a dead one had
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
        }
        stack = AirflowStack(
            tmp_path_factory.mktemp("stack") / "airflow",
            dags=Path(__file__).parent / "dags",
            connections={"aws_default": connection(endpoint)},
            settings=settings,
        )
        with stack:
            stack.wait_for_dag(DAG)
            stack.unpause(DAG)
            yield Arrivals(stack, queue, s3)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_an_arrival_is_a_run_within_seconds(
    arrivals: Arrivals, record_property: Callable[[str, object], None]
) -> None:
    arrivals.announce("first")
    arrivals.wait()
    found = [arrivals.latency(f"one{number}") for number in range(10)]
    arrivals.wait()
    record_property("latency", found)
    print(f"event to run: median {statistics.median(found):.2f} s, longest {max(found):.2f} s")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_burst_with_duplicates_is_handled_whole_and_once(arrivals: Arrivals) -> None:
    began = time.monotonic()
    arrivals.announce(*(f"burst{number:04}" for number in range(1000)))
    arrivals.announce(*(f"burst{number:04}" for number in range(0, 1000, 5)))
    arrivals.wait()
    print(f"burst: {time.monotonic() - began:.0f} s")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_messages_wait_while_the_dag_is_paused(arrivals: Arrivals) -> None:
    arrivals.pause(paused=True)
    arrivals.announce(*(f"paused{number}" for number in range(50)))
    arrivals.pause(paused=False)
    arrivals.wait()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_kill_9_of_the_triggerer_loses_nothing(arrivals: Arrivals) -> None:
    """At moments that nobody chose: before, between and after receiving, persisting and deleting."""
    for kill in range(4):
        arrivals.wait()  # the one before has been replaced: what is hidden from now on, this one holds
        arrivals.announce(*(f"kill{kill}.{number}" for number in range(30)))
        wait_for(lambda: arrivals.queue.counts()[1] > 0, "message that the triggerer holds")
        time.sleep(0.3 * kill)
        arrivals.kill_triggerer()
    arrivals.wait()
