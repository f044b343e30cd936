"""A whole dispatch in one call."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Asset, task

from chunkwise.task_groups import s3_dispatch
from tests.support.dispatch import CHUNK, Run, dag, source, use
from tests.support.files import MAKERS, READERS, people
from tests.support.s3 import S3


@pytest.fixture(autouse=True)
def aws_default(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, s3.endpoint)


def dispatch(s3: S3, group_id: str = "dispatch", **options: Any) -> Any:
    return s3_dispatch(
        group_id,
        **{
            "s3_bucket": s3.bucket,
            "s3_key": "in/people.jsonl",
            "target_bucket": s3.bucket,
            "target_key": "out/people.jsonl",
            "chunk_bytes": CHUNK,
            "threshold_bytes": 0,
            "groups": 3,
            **options,
        },
    )


def test_plan_process_wait_and_merge(run_dag: Run, s3: S3) -> None:
    data = source(s3)
    asset = Asset("people", uri=f"s3://{s3.bucket}/out/people.jsonl")
    with dag() as it:

        @task
        def first() -> None:
            """Something before."""

        @task
        def rows(receipt: dict[str, Any]) -> int:
            return int(receipt["rows_out"])

        group = dispatch(s3, outlets=[asset])
        first() >> group
        rows(group.output)
    ran = run_dag(it)
    assert ran.state == "success"
    assert ran.returned("rows") == 300
    assert s3.get("out/people.jsonl") == data
    assert ran.events == {asset.uri: [ran.returned("dispatch.merge")]}
    assert ran.returned("dispatch.wait")["done"] == ran.returned("dispatch.merge")["chunks"]
    assert sorted(ran.states) == [
        "dispatch.merge",
        "dispatch.plan",
        "dispatch.process[0]",
        "dispatch.process[1]",
        "dispatch.process[2]",
        "dispatch.wait",
        "first",
        "rows",
    ]
    assert s3.keys() == ["in/people.jsonl", "out/people.jsonl"]


def test_a_small_file_is_one_chunk_in_one_task(run_dag: Run, s3: S3) -> None:
    data = source(s3)
    with dag() as it:
        dispatch(s3, threshold_bytes=None, groups=None)
    ran = run_dag(it)
    assert s3.get("out/people.jsonl") == data
    assert sorted(name for name in ran.states if "process" in name) == ["dispatch.process[0]"]


def test_several_in_one_dag_one_after_the_other(run_dag: Run, s3: S3) -> None:
    rows = people(200)
    s3.put("in/people.jsonl", MAKERS["jsonl"](rows))
    with dag() as it:
        to_csv = dispatch(s3, "to_csv", target_key="between/people.csv", output_format="csv")
        to_json = dispatch(
            s3, "to_json", s3_key="between/people.csv", target_key="out/people.json", output_format="json"
        )
        to_csv >> to_json
    ran = run_dag(it)
    assert ran.state == "success"
    assert READERS["json"](s3.get("out/people.json")) == rows
    assert s3.keys() == ["between/people.csv", "in/people.jsonl", "out/people.json"]


def test_mapped_tasks_are_named_after_their_group(run_dag: Run, s3: S3) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    source(s3)
    with dag("named") as it:
        dispatch(s3)
    ran = run_dag(it)
    with create_session() as session:
        names = session.scalars(
            select(TaskInstance.rendered_map_index).where(
                TaskInstance.run_id == ran.run_id,
                TaskInstance.dag_id == "named",
                TaskInstance.task_id == "dispatch.process",
            )
        ).all()
    assert sorted(str(name) for name in names) == ["group 0", "group 1", "group 2"]


def test_arguments_reach_their_tasks(s3: S3) -> None:
    with dag("arguments") as it:
        group = dispatch(
            s3,
            aws_conn_id="other",
            staging_uri="s3://work/",
            secret_conn_ids={"key": "tokens"},
            mapping=None,
            task_args={"process": {"pool": "large_files", "retries": 7}, "wait": {"tolerated_count": 2}},
        )
    assert group.step("plan").mapping is None
    assert group.step("wait").tolerated_count == 2
    process = group.step("process").partial_kwargs
    assert (process["pool"], process["retries"]) == ("large_files", 7)
    assert process["secret_conn_ids"] == group.step("merge").secret_conn_ids == {"key": "tokens"}
    for name in ("plan", "wait", "merge"):
        assert (group.step(name).aws_conn_id, group.step(name).staging_uri) == ("other", "s3://work/")
    assert len(it.tasks) == 4


def test_in_functions_there_are_few_tasks_and_they_are_retried(s3: S3) -> None:
    with dag("functions"):
        group = dispatch(s3, groups=None, compute="lambda", function_name="f", qualifier="live")
        own = s3_dispatch(
            "own",
            s3_key="s3://b/k",
            target_key="s3://b/t",
            compute="lambda",
            groups=3,
            task_args={"process": {"retries": 0}},
        )
        default = s3_dispatch("default", s3_key="s3://b/k", target_key="s3://b/t", compute="lambda")
    process = group.step("process").partial_kwargs
    assert (process["function_name"], process["qualifier"], process["retries"]) == ("f", "live", 2)
    assert (own.step("plan").groups, own.step("process").partial_kwargs["retries"]) == (3, 0)
    assert default.step("plan").groups == 8


@pytest.mark.parametrize("wrong", [{"task_args": {"proces": {}}}, {"chunk_size": 1}])
def test_a_misspelt_argument_is_an_error(s3: S3, wrong: dict[str, Any]) -> None:
    with dag("wrong"), pytest.raises((TypeError, ValueError), match=r"proces|chunk_size"):
        dispatch(s3, **wrong)


@pytest.mark.long
@pytest.mark.timeout(1200)  # 10,000 requests to a server that shares the machine
def test_a_thousand_chunks_need_at_most_70_task_instances(run_dag: Run, s3: S3) -> None:
    data = source(s3, rows=2_500)
    with dag("thousand") as it:
        dispatch(s3, chunk_bytes=len(data) // 1_000, groups=None, chunks_in_flight=4)
    ran = run_dag(it)
    assert ran.state == "success"
    assert ran.returned("dispatch.merge")["chunks"] >= 990
    assert len(ran.states) <= 70
    assert s3.get("out/people.jsonl") == data
