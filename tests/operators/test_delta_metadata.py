"""What a Delta table is, as a task in somebody else's DAG."""

from __future__ import annotations

import inspect

import pytest

from chunkwise.core.delta.census import delta_metadata
from chunkwise.operators.delta import DeltaMetadataOperator
from tests.support.airflow import Ran
from tests.support.delta import Lake
from tests.support.dispatch import Run, dag
from tests.support.s3 import S3


def run(run_dag: Run, uri: str) -> Ran:
    with dag() as it:
        DeltaMetadataOperator(task_id="read", table_uri=uri, retries=3)
    return run_dag(it)


def test_it_returns_what_the_log_says(run_dag: Run, s3: S3) -> None:
    lake = Lake(s3)
    lake.append(lake.put("ds=2024-01-01/a.parquet", {"id": [1, 2]}))
    found = run(run_dag, lake.uri).returned("read")
    assert found == delta_metadata(s3.client, lake.table).to_json(most=500)
    assert (found["version"], found["files"], found["rows"]) == (0, 1, 2)
    assert found["metadata"]["partition_columns"] == ["ds"]
    assert found["protocol"] == {"minReaderVersion": 1, "minWriterVersion": 2}


def test_no_table_fails_at_once(run_dag: Run, s3: S3, capfd: pytest.CaptureFixture[str]) -> None:
    ran = run(run_dag, f"s3://{s3.bucket}/none")
    assert (ran.states["read"], ran.tries["read"]) == ("failed", 1)
    assert "there is no Delta table at" in "".join(capfd.readouterr())


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    own = set(DeltaMetadataOperator.template_fields) & set(
        inspect.signature(DeltaMetadataOperator.__init__).parameters
    )
    assert own == {"table_uri", "s3_extra_args"}
    for name in own:
        value = object()
        made = DeltaMetadataOperator(**{"task_id": "t", "table_uri": "s3://b/t", name: value})
        assert getattr(made, name) is value
    for name in own:
        with dag(f"mapped_{name}"):
            rest = {} if name == "table_uri" else {"table_uri": "s3://b/t"}
            DeltaMetadataOperator.partial(task_id="t", **rest).expand(**{name: ["a", "b"]})
