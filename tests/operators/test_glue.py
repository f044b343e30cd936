"""Delta tables in the Glue catalog, as a task in somebody else's DAG."""

from __future__ import annotations

import inspect
import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset, AssetAlias

from chunkwise.core.errors import CatalogError
from chunkwise.operators.delta import DeltaToGlueOperator
from tests.support.airflow import Ran
from tests.support.delta import Lake
from tests.support.dispatch import Run, dag, use
from tests.support.glue import GlueServer
from tests.support.s3 import S3

GIVEN = {"task_id": "t", "table_uri": "s3://b/t", "database": "d"}


@pytest.fixture
def lake(s3: S3) -> Lake:
    return Lake(s3)


@pytest.fixture(autouse=True)
def catalog(aws_default: None, glue: GlueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default connection leads through the layer of the catalog, S3 included."""
    use(monkeypatch, glue.endpoint)


def run(run_dag: Run, glue: GlueServer, lake: Lake, **options: Any) -> Ran:
    with dag() as it:
        DeltaToGlueOperator(
            **{"task_id": "sync", "table_uri": lake.uri, "database": glue.database, **options}
        )
    return run_dag(it)


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    names = set(inspect.signature(DeltaToGlueOperator.__init__).parameters)
    own = set(DeltaToGlueOperator.template_fields) & names
    assert own == {"table_uri", "database", "table", "catalog_id", "s3_extra_args"}
    for name in own:
        value = object()
        assert getattr(DeltaToGlueOperator(**{**GIVEN, name: value}), name) is value


def test_every_parameter_is_a_keyword_that_can_be_mapped_over() -> None:
    parameters = inspect.signature(DeltaToGlueOperator.__init__).parameters
    own = [name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    assert set(parameters) - set(own) == {"self", "kwargs"}
    for number, name in enumerate(own):
        rest = {key: value for key, value in GIVEN.items() if key != name}
        with dag(f"mapped_{number}"):
            DeltaToGlueOperator.partial(**rest).expand(**{name: ["a", "b"]})


def test_a_table_comes_into_the_catalog_and_follows_its_schema(
    run_dag: Run, glue: GlueServer, lake: Lake
) -> None:
    """Outlets hear of it: an asset each time, an alias when something changed."""
    watcher = Asset("catalog", uri="s3://catalog/of/tables")
    outlets = [watcher, AssetAlias("catalogued")]
    lake.append(lake.put("ds=2024-01-01/a.parquet", {"id": [1]}))
    ran = run(run_dag, glue, lake, outlets=outlets)
    receipt = ran.returned("sync")
    assert (receipt["action"], receipt["table"], receipt["database_created"]) == ("created", "orders", True)
    assert receipt["columns_added"] == ["id", "ds"]
    assert ran.events == {watcher.uri: [receipt], lake.uri: [receipt]}

    lake.append(lake.put("ds=2024-01-02/b.parquet", {"id": [2], "name": ["x"]}), schema="add_columns")
    ran = run(run_dag, glue, lake, outlets=outlets)
    receipt = ran.returned("sync")
    assert (receipt["action"], receipt["columns_added"]) == ("updated", ["name"])
    assert ran.events == {watcher.uri: [receipt], lake.uri: [receipt]}
    assert glue.columns("orders") == [("id", "bigint"), ("ds", "string"), ("name", "string")]

    ran = run(run_dag, glue, lake, outlets=outlets)
    assert ran.returned("sync")["action"] == "unchanged"
    assert list(ran.events) == [watcher.uri]


def test_to_compare_only_writes_and_tells_nothing(run_dag: Run, glue: GlueServer, lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    ran = run(run_dag, glue, lake, compare_only=True, outlets=[AssetAlias("catalogued")])
    assert ran.returned("sync")["action"] == "created"
    assert ran.events == {}
    assert set(glue.calls) == {"GetTable", "GetDatabase"}
    assert not glue.has_database()


def test_the_permissions_that_are_named_are_those_that_are_needed(
    run_dag: Run, glue: GlueServer, lake: Lake
) -> None:
    run_twice = [{"compare_only": True}, {}, {}]
    lake.append(lake.put("a.parquet", {"id": [1]}))
    for options in run_twice:
        run(run_dag, glue, lake, **options)
        lake.append(
            lake.put(f"{len(lake.versions)}.parquet", {f"c{len(lake.versions)}": [1]}), schema="add_columns"
        )
    named = re.findall(r"``glue:(\w+)``", DeltaToGlueOperator.__doc__ or "")
    assert set(glue.calls) == set(named)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"table_uri": "lake"}, "table_uri is 'lake'"),
        ({"database": ""}, "database is ''"),
        ({"on_foreign": "overwrite"}, "on_foreign is 'overwrite': choose one of 'fail', 'replace'"),
        ({"create_database": False}, "there is no database"),
        ({}, "CatalogConflict: "),
        ({"table_uri": "s3://{bucket}/none", "table": "none"}, "TableNotFound: there is no Delta table at"),
    ],
    ids=["uri", "database", "word", "no-database", "foreign", "no-table"],
)
def test_what_no_retry_can_mend_fails_at_once(
    glue: GlueServer, lake: Lake, options: dict[str, Any], text: str
) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    if not options:
        glue.create_database()
        glue.create("orders", Parameters={"table_type": "ICEBERG"})
    arguments = {"task_id": "sync", "table_uri": lake.uri, "database": glue.database, **options}
    arguments["table_uri"] = arguments["table_uri"].format(bucket=lake.s3.bucket)
    context: Any = {"ti": SimpleNamespace(dag_id="d", task_id="sync", run_id="r"), "outlet_events": {}}
    with pytest.raises(AirflowFailException, match=re.escape(text)):
        DeltaToGlueOperator(**arguments).execute(context)


def test_what_may_pass_is_left_to_airflow_s_retries(glue: GlueServer, lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    glue.fail("GetTable", "InternalServiceException", status=500, times=20)
    context: Any = {"ti": SimpleNamespace(dag_id="d", task_id="sync", run_id="r"), "outlet_events": {}}
    task = DeltaToGlueOperator(task_id="sync", table_uri=lake.uri, database=glue.database)
    with pytest.raises(CatalogError, match="InternalServiceException"):
        task.execute(context)
