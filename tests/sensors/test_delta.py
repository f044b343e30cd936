"""Waiting for a Delta table, in a worker or in the triggerer."""

from __future__ import annotations

import inspect
import threading
import time
from typing import Any

import pytest

from chunkwise.core.delta import Batch
from chunkwise.sensors.delta import DeltaTableSensor
from tests.support.airflow import Ran
from tests.support.delta import Lake
from tests.support.dispatch import Run, dag
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3

BOTH = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture
def lake(s3: S3) -> Lake:
    return Lake(s3)


def wait(run_dag: Run, lake: Lake, **options: Any) -> Ran:
    with dag() as it:
        DeltaTableSensor(
            **{
                "task_id": "wait",
                "table_uri": lake.uri,
                "poke_interval": 0.1,
                "retries": 0,
                "timeout": 120,
                **options,
            }
        )
    return run_dag(it)


def file(lake: Lake, name: str, rows: int = 1, **options: Any) -> None:
    lake.append(lake.put(name, {"id": list(range(rows))}), **options)


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


CONDITIONS = {
    "exists": {},
    "version": {"version": "1"},
    "all": {"partition": {"ds": "b"}, "min_rows": 2, "app_id": "feed", "batch_number": "2"},
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
def test_both_modes_wait_and_give_the_same_answer(
    run_dag: Run, faults: Faults, lake: Lake, condition: dict[str, Any]
) -> None:
    def work() -> None:
        file(lake, "ds=a/1.parquet", batch=Batch(app_id="feed", number=1))
        file(lake, "ds=b/2.parquet", 2, batch=Batch(app_id="feed", number=2))

    thread = later(faults, work)
    deferred = wait(run_dag, lake, **condition)
    thread.join()
    assert deferred.states == {"wait": "success"}
    # a table that has to exist is enough at its first version
    if condition:
        poked = wait(run_dag, lake, deferrable=False, **condition)
        assert poked.returned("wait") == deferred.returned("wait")
        assert poked.returned("wait")["version"] == 1


def test_a_poke_waits_too(run_dag: Run, faults: Faults, lake: Lake) -> None:
    thread = later(faults, lambda: file(lake, "1.parquet"), polls=4)
    ran = wait(run_dag, lake, deferrable=False, min_files=1)
    thread.join()
    assert ran.states == {"wait": "success"}
    assert faults.seen["ListObjectsV2"] >= 5
    assert faults.seen["GetObject"] == 1


@BOTH
def test_what_can_never_be_fails_at_once(
    run_dag: Run, lake: Lake, deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    file(lake, "ds=a/1.parquet")
    ran = wait(run_dag, lake, deferrable=deferrable, partition={"day": "a"}, retries=3)
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)
    assert "is partitioned by 'ds'" in "".join(capfd.readouterr())


@BOTH
def test_what_turns_out_to_be_impossible_while_it_waits_fails_at_once(
    run_dag: Run, faults: Faults, lake: Lake, deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    thread = later(faults, lambda: file(lake, "ds=a/1.parquet"))
    ran = wait(run_dag, lake, deferrable=deferrable, partition={"day": "a"}, retries=3)
    thread.join()
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)
    assert "is partitioned by 'ds'" in "".join(capfd.readouterr())


@BOTH
def test_soft_fail_skips(run_dag: Run, lake: Lake, deferrable: bool) -> None:
    ran = wait(run_dag, lake, deferrable=deferrable, min_files="none", soft_fail=True)
    assert ran.states == {"wait": "skipped"}


@BOTH
def test_a_parameter_that_cannot_be_fails_at_once(run_dag: Run, lake: Lake, deferrable: bool) -> None:
    for options in ({"version": -1}, {"table_uri": "lake"}, {"app_id": "x"}):
        ran = wait(run_dag, lake, deferrable=deferrable, retries=3, **options)
        assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    names = set(inspect.signature(DeltaTableSensor.__init__).parameters)
    own = set(DeltaTableSensor.template_fields) & names
    assert own == {
        "table_uri",
        "version",
        "min_files",
        "min_rows",
        "partition",
        "app_id",
        "batch_number",
        "s3_extra_args",
    }
    for name in own:
        value = object()
        made = DeltaTableSensor(**{"task_id": "t", "table_uri": "s3://b/t", name: value})
        assert getattr(made, name) is value


def test_it_is_deferrable_and_is_tried_twice_unless_something_else_is_said() -> None:
    sensor = DeltaTableSensor(task_id="wait", table_uri="s3://b/k")
    assert (sensor.deferrable, sensor.retries) == (True, 1)
    with dag(default_args={"retries": 5, "deferrable": False}):
        sensor = DeltaTableSensor(task_id="wait", table_uri="s3://b/k")
    assert (sensor.deferrable, sensor.retries) == (False, 5)


def test_an_event_of_another_version_is_an_error(lake: Lake) -> None:
    sensor = DeltaTableSensor(task_id="wait", table_uri=lake.uri)
    with pytest.raises(Exception, match="unknown status 'odd'"):
        sensor.execute_complete({}, {"status": "odd"})  # type: ignore[typeddict-item]
    with pytest.raises(Exception, match="DeltaError: gone"):
        sensor.execute_complete({}, {"status": "error", "error": "Older", "message": "gone"})  # type: ignore[typeddict-item]
