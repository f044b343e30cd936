"""Waiting for the parts of a dispatch, in a worker or in the triggerer."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import pytest

from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ChunkFailed
from chunkwise.sensors.dispatch import DispatchPartsSensor
from tests.support.airflow import Ran
from tests.support.dispatch import Run, broken, dag, planned, processed, source
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3

BOTH = pytest.mark.parametrize("deferrable", [True, False])


def wait(run_dag: Run, staging: Staging, **options: Any) -> Ran:
    with dag() as it:
        DispatchPartsSensor(
            **{
                "task_id": "wait",
                "staging_uri": staging.uri,
                "poke_interval": 0.1,
                "retries": 0,
                "timeout": 60,
                **options,
            }
        )
    return run_dag(it)


@pytest.fixture
def staging(s3: S3) -> Staging:
    source(s3)
    return planned(s3)


@pytest.fixture
def half_failed(s3: S3) -> Staging:
    """One chunk fails for good; its group is processed."""
    staging = broken(s3)
    for group in range(4):
        try:
            processed(staging, group)
        except ChunkFailed:
            break
    return staging


def later(faults: Faults, work: Any, polls: int = 3) -> threading.Thread:
    """Do the work after some polls."""

    def run() -> None:
        while faults.seen["ListObjectsV2"] < polls:
            time.sleep(0.02)
        try:
            work()
        except BaseException:
            # or the sensor would wait for ever for what nobody does
            faults.fail("ListObjectsV2", status=403, times=FOREVER)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_both_modes_give_the_same_answer(run_dag: Run, faults: Faults, staging: Staging) -> None:
    thread = later(faults, lambda: processed(staging))
    deferred = wait(run_dag, staging, deferrable=True)
    thread.join()
    poked = wait(run_dag, staging, deferrable=False)
    assert deferred.states == poked.states == {"wait": "success"}
    assert deferred.returned("wait") == poked.returned("wait")
    counts = poked.returned("wait")
    assert (counts["done"], counts["rows"]) == (counts["total"], 300)


@BOTH
def test_it_waits_for_what_is_not_there_yet(
    run_dag: Run, faults: Faults, staging: Staging, deferrable: bool
) -> None:
    thread = later(faults, lambda: processed(staging), polls=4)
    ran = wait(run_dag, staging, deferrable=deferrable)
    thread.join()
    assert ran.states == {"wait": "success"}
    assert faults.seen["ListObjectsV2"] >= 5


@BOTH
def test_a_poll_is_one_listing(run_dag: Run, faults: Faults, staging: Staging, deferrable: bool) -> None:
    processed(staging)
    ran = wait(run_dag, staging, deferrable=deferrable, count_rows=False)
    assert ran.states == {"wait": "success"}
    assert dict(faults.seen) == {"GetObject": 1, "ListObjectsV2": 1}


@BOTH
def test_a_failed_chunk_fails_it_at_once_and_says_why(
    run_dag: Run, s3: S3, half_failed: Staging, deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = wait(run_dag, half_failed, deferrable=deferrable, retries=3)
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)
    out = "".join(capfd.readouterr())
    assert "1 of " in out
    assert "resume the dispatch" in out


@BOTH
def test_a_failed_chunk_that_fails_while_it_waits(
    run_dag: Run, faults: Faults, s3: S3, deferrable: bool
) -> None:
    staging = broken(s3)

    def work() -> None:
        for group in range(4):
            try:
                processed(staging, group)
            except ChunkFailed:
                return

    thread = later(faults, work)
    ran = wait(run_dag, staging, deferrable=deferrable, retries=3)
    thread.join()
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)


@BOTH
def test_with_tolerance_it_waits_for_the_others(
    run_dag: Run, faults: Faults, half_failed: Staging, deferrable: bool
) -> None:
    def work() -> None:
        for group in range(4):
            with contextlib.suppress(ChunkFailed):
                processed(half_failed, group)

    thread = later(faults, work)
    ran = wait(run_dag, half_failed, deferrable=deferrable, tolerated_share=0.2)
    thread.join()
    assert ran.states == {"wait": "failed"}
    assert faults.seen["ListObjectsV2"] >= 4
    plan = half_failed.load()
    assert len(half_failed.done(range(plan.chunks))) == plan.chunks - 1


@BOTH
def test_a_chunk_that_is_heard_of_no_more_is_lost(run_dag: Run, s3: S3, deferrable: bool) -> None:
    source(s3)
    staging = planned(s3, deadline_seconds=0.001)
    s3.put(staging.started_key(0, "gone"), b"{}")
    time.sleep(1.1)  # S3's times are whole seconds
    ran = wait(run_dag, staging, deferrable=deferrable)
    assert ran.states == {"wait": "failed"}


@BOTH
def test_soft_fail_skips(run_dag: Run, half_failed: Staging, deferrable: bool) -> None:
    ran = wait(run_dag, half_failed, deferrable=deferrable, soft_fail=True)
    assert ran.states == {"wait": "skipped"}


@BOTH
def test_without_a_plan_it_fails_at_once(run_dag: Run, s3: S3, deferrable: bool) -> None:
    ran = wait(
        run_dag,
        Staging(s3.client, s3.bucket, "nothing.dispatch/"),
        deferrable=deferrable,
        retries=3,
    )
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)


def test_it_is_deferrable_and_is_tried_twice_unless_something_else_is_said() -> None:
    sensor = DispatchPartsSensor(task_id="wait", s3_key="s3://b/k")
    assert (sensor.deferrable, sensor.retries) == (True, 1)
    with dag(default_args={"retries": 5, "deferrable": False}):
        sensor = DispatchPartsSensor(task_id="wait", s3_key="s3://b/k")
    assert (sensor.deferrable, sensor.retries) == (False, 5)


def test_an_event_of_another_version_is_an_error(s3: S3, staging: Staging) -> None:
    sensor = DispatchPartsSensor(task_id="wait", staging_uri=staging.uri)
    with pytest.raises(Exception, match="unknown status 'odd'"):
        sensor.execute_complete({}, {"status": "odd"})  # type: ignore[typeddict-item]
