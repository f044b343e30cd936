"""A queue into a table, by the operator in somebody else's DAG."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset, AssetAlias

from chunkwise.operators.delta import SqsToDeltaOperator
from tests.support.airflow import Ran
from tests.support.delta import Lake, lake
from tests.support.dispatch import Run, dag
from tests.support.sqs import Queue, queue

__all__ = ["lake", "queue"]


def run(run_dag: Run, lake: Lake, queue: Queue, **options: Any) -> Ran:
    given = {"sqs_queue": queue.url, "table_uri": lake.uri, "wait_time_seconds": 1}
    with dag() as it:
        SqsToDeltaOperator(**{"task_id": "drain", **given, **options})
    return run_dag(it)


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    parameters = inspect.signature(SqsToDeltaOperator.__init__).parameters
    own = set(SqsToDeltaOperator.template_fields) & set(parameters)
    assert own == {
        "sqs_queue",
        "table_uri",
        "schema",
        "partition",
        "partition_types",
        "bad_queue",
        "quarantine_uri",
        "s3_extra_args",
    }
    for name in own:
        value = object()
        given = {"task_id": "t", "sqs_queue": "q", "table_uri": "s3://b/t", name: value}
        assert getattr(SqsToDeltaOperator(**given), name) is value


def test_messages_become_rows_and_events(run_dag: Run, lake: Lake, queue: Queue) -> None:
    queue.send('{"id":1}', '{"id":2}')
    asset = Asset("drained_orders", uri=f"{lake.uri}/as_asset")
    ran = run(run_dag, lake, queue, max_messages=2, outlets=[asset, AssetAlias("tables")])
    receipt = ran.returned("drain")
    assert (receipt["version"], receipt["rows"], receipt["deleted"]) == (0, 2, 2)
    assert ran.events[asset.uri] == [receipt]
    assert [(one["version"], one["rows"]) for one in ran.events[lake.uri]] == [(0, 2)]
    assert [row["id"] for row in lake.rows("id")] == [1, 2]
    assert lake.actions("commitInfo", 0)[0]["airflow"]["task_id"] == "drain"
    assert queue.counts() == (0, 0)


def test_an_empty_queue_skips(run_dag: Run, lake: Lake, queue: Queue) -> None:
    ran = run(run_dag, lake, queue)
    assert (ran.states["drain"], ran.returned("drain")["messages"], lake.versions) == ("skipped", 0, [])


def test_a_queue_of_bad_messages_alone_fails_and_says_where_they_are(lake: Lake, queue: Queue) -> None:
    queue.send("bad", "worse")
    place = f"s3://{lake.s3.bucket}/aside"

    class Ti:
        dag_id = task_id = run_id = "x"
        map_index, try_number = -1, 1

        def xcom_push(self, **_: Any) -> None:
            """Nobody looks."""

    operator = SqsToDeltaOperator(
        task_id="t",
        sqs_queue=queue.url,
        table_uri=lake.uri,
        max_messages=2,
        on_bad_message="quarantine",
        quarantine_uri=place,
    )
    with pytest.raises(AirflowFailException, match=f"all 2 were bad.*{place}/"):
        operator.execute({"ti": Ti()})
    assert (queue.counts(), lake.versions) == ((0, 0), [])


def test_a_bad_message_fails_the_task_and_comes_back(run_dag: Run, lake: Lake, queue: Queue) -> None:
    queue.send('{"id":1}', "no json")
    assert run(run_dag, lake, queue, max_messages=2).states["drain"] == "failed"
    assert queue.counts() == (2, 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_bad_message": "moev"}, "on_bad_message"),
        ({"on_bad_message": "quarantine"}, "quarantine_uri"),
        ({"sqs_queue": "no name"}, "sqs_queue"),
        ({"table_uri": "lake/orders"}, "table_uri"),
        ({"max_seconds": 0}, "max_seconds"),
        ({"max_messages": "5"}, "max_messages is '5'"),
        ({"sqs_queue": None}, "sqs_queue is None"),
    ],
    ids=["word", "no place", "queue", "table", "no time", "text", "no queue"],
)
def test_parameters_that_cannot_work_fail_at_once(lake: Lake, options: dict[str, Any], text: str) -> None:
    given = {"sqs_queue": "https://sqs/q", "table_uri": lake.uri, **options}

    class Ti:
        dag_id = task_id = run_id = "x"

    with pytest.raises(AirflowFailException, match=text):
        SqsToDeltaOperator(task_id="t", **given).execute({"ti": Ti()})
