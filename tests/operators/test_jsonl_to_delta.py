"""Files of JSON into a table, by the operator in somebody else's DAG."""

from __future__ import annotations

import inspect
from typing import Any

from airflow.sdk import Asset, AssetAlias

from chunkwise.operators.delta import S3JsonlToDeltaOperator
from tests.support.airflow import Ran
from tests.support.delta import Lake, lake
from tests.support.dispatch import Run, dag

__all__ = ["lake"]


def run(run_dag: Run, **options: Any) -> Ran:
    with dag() as it:
        S3JsonlToDeltaOperator(**{"task_id": "load", **options})
    return run_dag(it)


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    parameters = inspect.signature(S3JsonlToDeltaOperator.__init__).parameters
    own = set(S3JsonlToDeltaOperator.template_fields) & set(parameters)
    assert own == {
        "objects",
        "table_uri",
        "schema",
        "partition",
        "partition_types",
        "quarantine_uri",
        "s3_extra_args",
    }
    for name in own:
        value = object()
        given = {"task_id": "t", "objects": [], "table_uri": "s3://b/t", name: value}
        assert getattr(S3JsonlToDeltaOperator(**given), name) is value


def test_what_arrived_is_loaded_once_and_told(run_dag: Run, lake: Lake) -> None:
    lake.s3.put("in/f.jsonl", b'{"id":1}\n{"id":2}\n')
    asset = Asset("loaded_orders", uri=lake.uri)
    given = {
        "objects": [{"bucket": lake.s3.bucket, "key": "in/f.jsonl"}],
        "table_uri": lake.uri,
        "partition": {"ds": "2024-01-01"},
        "partition_types": {"ds": "date"},
    }
    ran = run(run_dag, **given, outlets=[asset])
    receipt = ran.returned("load")
    assert (receipt["version"], receipt["rows"], receipt["counts"]) == (0, 2, {"added": 1})
    assert ran.events[asset.uri] == [receipt]
    assert [(row["id"], str(row["ds"])) for row in lake.rows("id")] == [(1, "2024-01-01"), (2, "2024-01-01")]
    again = run(run_dag, **given, outlets=[AssetAlias("tables")])
    assert again.returned("load")["counts"] == {"replay": 1}
    assert again.events == {}


def test_a_bad_file_fails_the_task_after_the_others_were_committed(run_dag: Run, lake: Lake) -> None:
    lake.s3.put("in/bad.jsonl", b'{"id":')
    lake.s3.put("in/good.jsonl", b'{"id":1}')
    objects = [f"s3://{lake.s3.bucket}/in/{name}.jsonl" for name in ("bad", "good")]
    ran = run(run_dag, objects=objects, table_uri=lake.uri, schema={"id": "int64"})
    assert ran.states["load"] == "failed"
    assert lake.rows("id") == [{"id": 1}]
