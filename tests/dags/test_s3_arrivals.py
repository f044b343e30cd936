"""The example DAGs of arrivals: from a notification to a processed file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chunkwise.operators import s3_reconcile
from dev.localstack import LocalStack
from tests.support.airflow import Ran, load_dag
from tests.support.files import READERS, as_jsonl, people
from tests.transfers.support import keys

Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def connected(localstack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", localstack.connection)


def arrive(localstack: LocalStack, bucket: str, key: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a file; what the watcher makes of its notification."""
    answer = localstack.client("s3").put_object(Bucket=bucket, Key=key, Body=as_jsonl(rows))
    return {
        "bucket": bucket,
        "key": key,
        "event": "ObjectCreated:Put",
        "etag": answer["ETag"].strip('"'),
        "sequencer": "01",
    }


def notify(asset: str, *batches: list[dict[str, Any]]) -> None:
    """Store events of the watcher, as the triggerer does."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        number = session.scalar(select(AssetModel.id).where(AssetModel.name == asset))
        for batch in batches:
            extra = {"from_trigger": True, "payload": {"objects": batch}}
            session.add(AssetEvent(asset_id=number, extra=extra))


def made_known(*dags: Any) -> None:
    """Put the DAGs of the examples into the database, as the DAG processor would."""
    from tests.support import airflow

    for dag in dags:
        airflow._make_known(dag)


def test_each_file_that_arrives_is_processed(
    airflow_db: None, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    """Into one object each, also when it is told of twice."""
    route = load_dag("on_s3_arrival.py", "route_s3_arrivals")
    process = load_dag("on_s3_arrival.py", "on_s3_arrival")
    made_known(route, process)
    rows = {"landing/a b.jsonl": people(40), "landing/day=1/c.jsonl": people(3)}
    events = [arrive(localstack, ls_bucket, key, found) for key, found in rows.items()]
    notify("s3_arrivals", events, events[:1])
    ran = run_dag(route, consume=True)
    assert ran.returned("route.route[0]") == {"objects": 2, "partitions": 2}
    s3 = localstack.client("s3")
    for key, found in rows.items():
        ran = run_dag(process, consume=True, partition=f"s3://{ls_bucket}/{key}")
        assert ran.state == "success", ran.states
        target = key.replace("landing/", "processed/")
        assert ran.returned("report") == f"s3://{ls_bucket}/{target}: {len(found)} rows in 1 chunks"
        assert READERS["jsonl"](s3.get_object(Bucket=ls_bucket, Key=target)["Body"].read()) == found
    again = run_dag(process, consume=True, partition=f"s3://{ls_bucket}/landing/a b.jsonl")
    assert again.state == "success", again.states
    assert keys(localstack, ls_bucket) == sorted([*rows, "processed/a b.jsonl", "processed/day=1/c.jsonl"])


def test_a_file_that_is_removed_before_its_run_is_passed_over(
    airflow_db: None, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    process = load_dag("on_s3_arrival.py", "on_s3_arrival")
    made_known(process)
    came = arrive(localstack, ls_bucket, "landing/a.jsonl", people(3))
    went = {**came, "event": "ObjectRemoved:Delete", "sequencer": "02"}
    key = f"s3://{ls_bucket}/landing/a.jsonl"
    with create_session() as session:
        number = session.scalar(select(AssetModel.id).where(AssetModel.name == "s3_files"))
        extra = {"partitions": {key: [came, went]}}
        session.add(AssetEvent(asset_id=number, extra=extra, partition_key=key))
    ran = run_dag(process, consume=True, partition=key)
    assert ran.states["file"] == "skipped", ran.states
    assert "failed" not in ran.states.values(), ran.states
    assert keys(localstack, ls_bucket) == ["landing/a.jsonl"]


def test_a_file_that_is_gone_is_passed_over_though_nobody_told(
    airflow_db: None, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    process = load_dag("on_s3_arrival.py", "on_s3_arrival")
    made_known(process)
    came = arrive(localstack, ls_bucket, "landing/gone.jsonl", people(3))
    localstack.client("s3").delete_object(Bucket=ls_bucket, Key="landing/gone.jsonl")
    key = f"s3://{ls_bucket}/landing/gone.jsonl"
    with create_session() as session:
        number = session.scalar(select(AssetModel.id).where(AssetModel.name == "s3_files"))
        session.add(AssetEvent(asset_id=number, extra={"partitions": {key: [came]}}, partition_key=key))
    ran = run_dag(process, consume=True, partition=key)
    assert ran.states["file"] == "skipped", ran.states
    assert "failed" not in ran.states.values(), ran.states
    assert keys(localstack, ls_bucket) == []


def test_what_no_notification_told_of_goes_the_same_way(
    airflow_db: None,
    run_dag: Run,
    localstack: LocalStack,
    ls_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    route = load_dag("on_s3_arrival.py", "route_s3_arrivals")
    reconcile = load_dag("reconcile_s3_arrivals.py", "reconcile_s3_arrivals")
    made_known(route, reconcile)
    reconcile.get_task("reconcile").grace_minutes = 0
    monkeypatch.setattr(s3_reconcile, "_SETTLED", s3_reconcile.timedelta())
    arrive(localstack, ls_bucket, "landing/lost.jsonl", people(3))
    arrive(localstack, ls_bucket, "landing/_SUCCESS", [])
    ran = run_dag(reconcile)
    assert ran.returned("reconcile")["sent"] == 1
    ran = run_dag(route, consume=True)
    assert ran.state == "success"
    assert f"s3://{ls_bucket}/landing/lost.jsonl" in _partitions("s3_files")


def _partitions(asset: str) -> set[str]:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        number = select(AssetModel.id).where(AssetModel.name == asset).scalar_subquery()
        return set(session.scalars(select(AssetEvent.partition_key).where(AssetEvent.asset_id == number)))
