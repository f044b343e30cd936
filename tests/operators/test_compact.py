"""Small Parquet files become few, by the operator in somebody else's DAG."""

from __future__ import annotations

import inspect
import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset, AssetAlias

from chunkwise.core.storage import lease as leasing
from chunkwise.operators.compact import ParquetCompactOperator
from tests.core.compact.folder import Folder, ids
from tests.support.airflow import Ran, load_dag
from tests.support.airflow_env import EXAMPLES_BUCKET
from tests.support.delta import Lake, lake
from tests.support.dispatch import Run, dag, use
from tests.support.faults import FOREVER, Faults
from tests.support.kills import expire_leases
from tests.support.s3 import S3

__all__ = ["lake"]


def run(run_dag: Run, **options: Any) -> Ran:
    with dag() as it:
        ParquetCompactOperator(**{"task_id": "compact", **options})
    return run_dag(it)


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    names = set(inspect.signature(ParquetCompactOperator.__init__).parameters)
    own = set(ParquetCompactOperator.template_fields) & names
    assert own == {
        "prefix_uri", "table_uri", "partition", "output_uri", "pattern", "preview", "s3_extra_args"
    }  # fmt: skip
    for name in own:
        value = object()
        assert getattr(ParquetCompactOperator(**{"task_id": "t", name: value}), name) is value


def test_every_parameter_is_a_keyword_that_can_be_mapped_over() -> None:
    parameters = inspect.signature(ParquetCompactOperator.__init__).parameters
    own = [name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    assert len(own) == len(parameters) - 2
    for number, name in enumerate(own):
        with dag(f"mapped_{number}"):
            ParquetCompactOperator.partial(task_id="t").expand(**{name: [1, 2]})


def test_files_of_a_prefix_become_one_and_that_is_told(run_dag: Run, s3: S3) -> None:
    folder = Folder(s3)
    for number in range(3):
        folder.put(f"ds=1/{number}.parquet", ids(5, number * 5))
    uri, watcher = f"s3://{s3.bucket}/in", Asset("compacted", uri=f"s3://{s3.bucket}/whole")
    looked = run(run_dag, prefix_uri=uri, sources="delete", preview="True", outlets=[AssetAlias("changed")])
    assert looked.returned("compact")["files_after"] == 1
    assert looked.events == {}
    assert len(folder.names()) == 3
    ran = run(run_dag, prefix_uri=uri, sources="delete", outlets=[watcher, AssetAlias("changed")])
    receipt = ran.returned("compact")
    assert (receipt["files_before"], receipt["files_after"], receipt["rows"]) == (3, 1, 15)
    assert ran.events[watcher.uri] == [receipt]
    (event,) = ran.events[uri]
    assert event.items() >= {"version": None, "rows": 0, "files_added": 1, "files_removed": 3}.items()
    assert [row["id"] for row in folder.rows()] == list(range(15))
    again = run(run_dag, prefix_uri=uri, sources="delete", outlets=[AssetAlias("changed")])
    assert again.returned("compact")["outputs"] == []
    assert again.events == {}


def test_a_table_gets_a_version_and_a_checkpoint_when_it_is_due(run_dag: Run, lake: Lake) -> None:
    for number in range(3):
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}))
    receipt = run(run_dag, table_uri=lake.uri, checkpoint_every=3).returned("compact")
    assert (receipt["version"], receipt["committed"], receipt["files_after"]) == (3, True, 1)
    assert lake.actions("commitInfo", 3)[0]["airflow"]["task_id"] == "compact"
    assert lake.s3.has(lake.table.key("_delta_log", f"{3:020d}.checkpoint.parquet"))
    assert lake.rows("id") == [{"id": 0}, {"id": 1}, {"id": 2}]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "give either prefix_uri or table_uri"),
        ({"prefix_uri": "s3://b/p", "table_uri": "s3://b/t"}, "give either prefix_uri or table_uri"),
        ({"table_uri": "s3://b/t", "sources": "delete"}, "sources is for prefixes"),
        ({"prefix_uri": "s3://b/p", "partition": {"a": "1"}}, "partition is for tables"),
        ({"prefix_uri": "p", "sources": "delete"}, "prefix_uri is 'p'"),
        ({"prefix_uri": "s3://b/p"}, "would be there twice"),
        ({"prefix_uri": "s3://b/p", "preview": "perhaps"}, "preview is 'perhaps'"),
        ({"prefix_uri": "s3://b/p", "target_bytes": 0}, "target_bytes is 0"),
        ({"table_uri": "t"}, "table_uri is 't'"),
        ({"table_uri": "s3://{bucket}/none"}, "there is no Delta table"),
    ],
    ids=["none", "both", "sources", "partition", "uri", "keep", "preview", "target", "table", "missing"],
)
def test_what_no_retry_can_mend_fails_at_once(s3: S3, options: dict[str, Any], text: str) -> None:
    options = {n: v.format(bucket=s3.bucket) if isinstance(v, str) else v for n, v in options.items()}
    operator = ParquetCompactOperator(task_id="compact", **options)
    context: Any = {"ti": SimpleNamespace(dag_id="d", task_id="compact", run_id="r"), "outlet_events": {}}
    with pytest.raises(AirflowFailException, match=re.escape(text)):
        operator.execute(context)


def test_what_may_pass_is_left_to_the_retry(
    run_dag: Run, s3: S3, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease could not be given back, either."""
    monkeypatch.setattr(leasing, "_POLL", 0.2)
    folder = Folder(s3)
    for number in range(2):
        folder.put(f"{number}.parquet", ids(5))
    faults.fail("DeleteObject", status=403, times=FOREVER)
    uri = f"s3://{s3.bucket}/in"
    assert run(run_dag, prefix_uri=uri, sources="delete").states == {"compact": "failed"}
    assert len(folder.rows()) == 20
    faults.clear()
    expire_leases(s3)
    receipt = run(run_dag, prefix_uri=uri, sources="delete").returned("compact")
    assert (receipt["files_deleted"], receipt["outputs"]) == (2, [])
    assert len(folder.rows()) == 10


def test_the_example_compacts_a_day_and_a_table(
    run_dag: Run, moto_s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = S3(moto_s3, EXAMPLES_BUCKET)
    s3.create()
    use(monkeypatch, moto_s3)
    try:
        folder, table = Folder(s3, "landing/events/"), Lake(s3, "tables/orders")
        for number in range(2):
            folder.put(f"ds=2024-01-01/{number}.parquet", ids(3))
            folder.put(f"ds=2024-01-02/{number}.parquet", ids(3))
            table.append(table.put(f"{number}.parquet", {"id": [number]}))
        ran = run_dag(load_dag("compact_parquet.py", "compact_parquet"), conf={"day": "2024-01-01"})
        assert ran.states == {"landed_events": "success", "orders": "success"}
        assert [
            len([n for n in folder.names() if n.startswith(f"ds=2024-01-0{day}/")]) for day in (1, 2)
        ] == [1, 2]
        assert ran.events[f"s3://{EXAMPLES_BUCKET}/tables/orders"][0]["version"] == 2
        assert table.rows("id") == [{"id": 0}, {"id": 1}]
    finally:
        s3.remove()
