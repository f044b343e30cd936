"""Waiting for an export of RDS, in a worker or in the triggerer."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chunkwise.sensors.rds_export import RdsExportSensor
from tests.support.airflow import Ran
from tests.support.dispatch import Run, dag
from tests.support.faults import Faults
from tests.support.rds_export import EXPORT, RdsApi, connect, put_export, shop
from tests.support.s3 import S3

BOTH = pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "poke"])


@pytest.fixture(autouse=True)
def connected(aws_default: None, s3: S3, rds: RdsApi, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, s3.endpoint, rds)


def wait(run_dag: Run, **options: Any) -> Ran:
    with dag() as it:
        RdsExportSensor(
            **{
                "task_id": "wait",
                "export_task_identifier": EXPORT,
                "poke_interval": 0.1,
                "retries": 0,
                "timeout": 120,
                **options,
            }
        )
    return run_dag(it)


def later(rds: RdsApi, s3: S3, *, at: int = 4, **task: Any) -> None:
    """The export goes on until RDS is asked so often, and is there then."""

    def work(number: int) -> None:
        if number == at:
            put_export(s3, shop())
            rds.add(s3.bucket, **task)

    rds.add(s3.bucket, Status="IN_PROGRESS", PercentProgress=40)
    rds.on_describe = work


def test_both_modes_give_the_same_answer(run_dag: Run, s3: S3, rds: RdsApi) -> None:
    later(rds, s3, WarningMessage="Look at this")
    deferred = wait(run_dag)
    poked = wait(run_dag, deferrable=False)
    assert deferred.states == poked.states == {"wait": "success"}
    assert deferred.returned("wait") == poked.returned("wait")
    report = poked.returned("wait")
    assert (report["export"], report["uri"]) == (EXPORT, f"s3://{s3.bucket}/exports/{EXPORT}")
    assert report["snapshot_date"] == "2024-03-01"
    assert [table["name"] for table in report["tables"]] == [
        "crm.public.orders",
        "shop.public.customers",
        "shop.public.empty",
        "shop.public.orders",
    ]
    assert [one["name"] for one in report["skipped"]] == ["crm.public.odd"]
    assert report["warnings"] == ["Look at this"]


@BOTH
def test_it_waits_for_the_task_and_looks_at_files_only_then(
    run_dag: Run, s3: S3, rds: RdsApi, faults: Faults, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    connect(monkeypatch, faults.endpoint, rds)
    later(rds, s3)
    assert wait(run_dag, deferrable=deferrable).states == {"wait": "success"}
    assert rds.calls == {"DescribeExportTasks": 4}
    # the export has one listing, and three info files
    assert dict(faults.seen) == {"ListObjectsV2": 1, "GetObject": 3}


@pytest.mark.long
@BOTH
def test_a_success_that_comes_late_is_waited_for(run_dag: Run, s3: S3, rds: RdsApi, deferrable: bool) -> None:
    put_export(s3, shop(), leave_out=["public.orders/2/_SUCCESS"])
    rds.add(s3.bucket)

    def work(number: int) -> None:
        if number == 4:
            put_export(s3, shop())

    rds.on_describe = work
    assert wait(run_dag, deferrable=deferrable).states == {"wait": "success"}
    assert rds.calls["DescribeExportTasks"] == 4


@BOTH
@pytest.mark.parametrize("at", [1, 3], ids=["at_once", "meanwhile"])
def test_a_task_that_ends_badly_fails_it_at_once(
    run_dag: Run, s3: S3, rds: RdsApi, capfd: Any, deferrable: bool, at: int
) -> None:
    later(rds, s3, at=at, Status="FAILED", FailureCause="The key is disabled")
    ran = wait(run_dag, deferrable=deferrable, retries=3)
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)
    assert rds.calls["DescribeExportTasks"] == at
    assert re.search("ExportFailed: .*The key is disabled", "".join(capfd.readouterr()))


def test_an_unknown_task_fails_it_at_once(run_dag: Run, rds: RdsApi) -> None:
    ran = wait(run_dag, retries=3)
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)
    assert rds.calls["DescribeExportTasks"] == 1


@pytest.mark.long
def test_files_that_do_not_come_fail_it(run_dag: Run, s3: S3, rds: RdsApi) -> None:
    put_export(s3, shop(), leave_out=["public.orders/2/_SUCCESS"])
    rds.add(s3.bucket, TaskEndTime=datetime.now(UTC) - timedelta(hours=1))
    ran = wait(run_dag, deferrable=False, retries=3)
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)


@pytest.mark.long
def test_only_wanted_tables_are_waited_for(run_dag: Run, s3: S3, rds: RdsApi) -> None:
    put_export(s3, shop(), leave_out=["public.customers/1/_SUCCESS"])
    rds.add(s3.bucket)
    ran = wait(run_dag, tables=["shop.public.orders"])
    assert [table["name"] for table in ran.returned("wait")["tables"]] == ["shop.public.orders"]


@pytest.mark.long
@BOTH
def test_soft_fail_skips(run_dag: Run, s3: S3, rds: RdsApi, deferrable: bool) -> None:
    later(rds, s3, at=3, Status="FAILED")
    assert wait(run_dag, deferrable=deferrable, soft_fail=True).states == {"wait": "skipped"}


@pytest.mark.long
@BOTH
def test_polls_that_fail_for_a_while_are_made_again(
    run_dag: Run, s3: S3, rds: RdsApi, deferrable: bool
) -> None:
    put_export(s3, shop())
    rds.add(s3.bucket)
    rds.failures = [(503, "ServiceUnavailable")] * 3
    once = {"retries": {"total_max_attempts": 1}}
    assert wait(run_dag, deferrable=deferrable, botocore_config=once).states == {"wait": "success"}


def test_a_refusal_fails_it(run_dag: Run, s3: S3, rds: RdsApi) -> None:
    rds.add(s3.bucket)
    rds.failures = [(403, "AccessDenied")]
    ran = wait(run_dag, retries=3)
    assert (ran.states["wait"], ran.tries["wait"]) == ("failed", 1)


def test_an_outage_is_an_error_that_a_retry_may_mend(s3: S3, rds: RdsApi, faults: Faults) -> None:
    from chunkwise.core.errors import ReadFailed

    sensor = RdsExportSensor(
        task_id="wait",
        export_task_identifier=EXPORT,
        botocore_config={"retries": {"total_max_attempts": 1}},
    )
    rds.add(s3.bucket)
    rds.failures = [(503, "ServiceUnavailable")] * 5
    for _ in range(4):
        assert not sensor.poke({}).is_done  # type: ignore[typeddict-item]
    with pytest.raises(ReadFailed, match="could not be looked at: ServiceUnavailable") as error:
        sensor.poke({})  # type: ignore[typeddict-item]
    assert error.value.transient


@pytest.mark.parametrize("tables", [[], [""], [1]], ids=["none", "empty", "number"])
def test_tables_that_name_nothing_are_refused(tables: list[Any]) -> None:
    sensor = RdsExportSensor(task_id="wait", export_task_identifier=EXPORT, tables=tables)
    with pytest.raises(Exception, match="tables must name databases"):
        sensor.poke({})  # type: ignore[typeddict-item]


def test_it_is_deferrable_and_is_tried_twice_unless_something_else_is_said() -> None:
    sensor = RdsExportSensor(task_id="wait", export_task_identifier="e")
    assert (sensor.deferrable, sensor.retries) == (True, 1)
    with dag(default_args={"retries": 5, "deferrable": False}):
        sensor = RdsExportSensor(task_id="wait", export_task_identifier="e")
    assert (sensor.deferrable, sensor.retries) == (False, 5)


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    names = set(inspect.signature(RdsExportSensor.__init__).parameters)
    own = set(RdsExportSensor.template_fields) & names
    assert own == {"export_task_identifier", "tables", "s3_extra_args"}
    for name in own:
        value = object()
        made = RdsExportSensor(**{"task_id": "t", "export_task_identifier": "e", name: value})
        assert getattr(made, name) is value


def test_an_event_of_another_version_is_an_error() -> None:
    sensor = RdsExportSensor(task_id="wait", export_task_identifier="e")
    with pytest.raises(Exception, match="unknown status 'odd'"):
        sensor.execute_complete({}, {"status": "odd"})  # type: ignore[typeddict-item]
    with pytest.raises(Exception, match="RdsExportError: it says"):
        sensor.execute_complete({}, {"status": "error", "error": "Unheard", "message": "it says"})  # type: ignore[typeddict-item]
