"""ReconcileDeltaOperator, alone in somebody else's DAG."""

from __future__ import annotations

import inspect
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset, AssetAlias

from chunkwise.operators.delta.reconcile import ReconcileDeltaOperator
from tests.support.airflow import Ran
from tests.support.delta import Lake
from tests.support.dispatch import Run, dag
from tests.support.s3 import S3


@pytest.fixture
def lake(s3: S3) -> Lake:
    """A table of three files: one was deleted, one overwritten, and a fourth one that nobody told of."""
    lake = Lake(s3)
    lake.append(*(lake.put(f"{name}.parquet", {"id": [at]}) for at, name in enumerate("abc")))
    lake.delete("a.parquet")
    lake.put("b.parquet", {"id": [10, 11]})
    lake.put("d.parquet", {"id": [20]})
    return lake


def run(run_dag: Run, lake: Lake, **options: Any) -> Ran:
    with dag() as it:
        ReconcileDeltaOperator(**{"task_id": "r", "table_uri": lake.uri, "grace_minutes": 0, **options})
    return run_dag(it)


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    names = set(inspect.signature(ReconcileDeltaOperator.__init__).parameters)
    own = set(ReconcileDeltaOperator.template_fields) & names
    assert own == {"table_uri", "repair", "quarantine_uri", "report_uri", "s3_extra_args"}
    for name in own:
        value = object()
        made = ReconcileDeltaOperator(**{"task_id": "t", "table_uri": "s3://b/t", name: value})
        assert getattr(made, name) is value


def test_every_parameter_is_a_keyword_that_can_be_mapped_over() -> None:
    parameters = inspect.signature(ReconcileDeltaOperator.__init__).parameters
    assert {parameter.kind for name, parameter in parameters.items() if name != "self"} <= {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }
    own = [name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    for number, name in enumerate(own):
        rest = {} if name == "table_uri" else {"table_uri": "s3://b/t"}
        with dag(f"mapped_{number}"):
            ReconcileDeltaOperator.partial(task_id="t", **rest).expand(**{name: [1, 2]})


def test_without_repair_it_reports_and_changes_nothing(run_dag: Run, lake: Lake) -> None:
    table = Asset("reconciled_orders", uri=lake.uri)
    ran = run(run_dag, lake, outlets=[table, AssetAlias("tables")])
    report = ran.returned("r")
    assert report["counts"] == {"missing": 1, "stale": 1, "orphan": 1}
    assert (report["open"], report["in_order"], report["version"]) == (3, 1, 0)
    assert sorted((one["kind"], one["uri"].rpartition("/")[2]) for one in report["examples"]) == [
        ("missing", "a.parquet"),
        ("orphan", "d.parquet"),
        ("stale", "b.parquet"),
    ]
    assert ran.events == {lake.uri: [report]}
    assert lake.versions == [0]


def test_it_mends_what_is_asked_for_reports_all_of_it_and_tells_of_the_new_version(
    run_dag: Run, lake: Lake, s3: S3
) -> None:
    ran = run(
        run_dag,
        lake,
        repair=["orphan", "stale", "missing"],
        report_uri=f"s3://{s3.bucket}/reports/{{{{ dag.dag_id }}}}.jsonl",
        fail_on_differences=True,
        outlets=[AssetAlias("tables")],
    )
    report = ran.returned("r")
    assert report["repaired"]["counts"] == {"added": 1, "replaced": 1, "removed": 1}
    assert (report["open"], report["version"]) == (0, lake.versions[-1])
    (event,) = ran.events[lake.uri]
    assert event.items() >= {"version": 2, "rows": 3, "files_added": 2, "files_removed": 1}.items()
    assert [row["id"] for row in lake.rows("id")] == [2, 10, 11, 20]
    key = report["report_uri"].partition(f"{s3.bucket}/")[2]
    assert len([json.loads(line) for line in s3.get(key).splitlines()]) == 3
    assert lake.actions("commitInfo", lake.versions[-1])[0]["airflow"]["task_id"] == "r"


def test_differences_that_are_left_fail_the_task_if_that_is_asked_for(run_dag: Run, lake: Lake) -> None:
    ran = run(run_dag, lake, repair=["missing"], fail_on_differences=True)
    assert ran.states == {"r": "failed"}
    assert lake.versions == [0, 1], "what could be mended was mended"


def test_what_is_young_is_pending_by_default(run_dag: Run, lake: Lake) -> None:
    ran = run(run_dag, lake, grace_minutes=60, repair=["orphan", "stale"], fail_on_differences=False)
    assert ran.returned("r")["counts"] == {"missing": 1, "pending": 2}
    assert lake.versions == [0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"repair": ["all"]}, "repair is ['all']"),
        ({"table_uri": "lake"}, "table_uri is 'lake'"),
        ({"table_uri": "s3://{bucket}/nothing"}, "there is no table at s3://"),
        ({"report_uri": "r.jsonl"}, "report_uri is 'r.jsonl'"),
        ({"on_overwrite": "keep"}, "on_overwrite is 'keep'"),
        ({"grace_minutes": -1}, "grace_minutes is -1"),
    ],
    ids=["repair", "table", "no_table", "report", "policy", "bound"],
)
def test_what_no_retry_can_mend_fails_at_once(
    run_dag: Run, lake: Lake, options: dict[str, Any], text: str
) -> None:
    given = {
        name: value.replace("{bucket}", lake.s3.bucket) if isinstance(value, str) else value
        for name, value in options.items()
    }
    context: Any = {"ti": SimpleNamespace(dag_id="d", task_id="r", run_id="r"), "outlet_events": {}}
    made = ReconcileDeltaOperator(**{"task_id": "r", "table_uri": lake.uri, **given})
    with pytest.raises(AirflowFailException, match=re.escape(text)):
        made.execute(context)
