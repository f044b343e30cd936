"""The operators of exports of RDS, each alone in somebody else's DAG."""

from __future__ import annotations

import inspect
import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset, AssetAlias

from chunkwise.core.rds_export import look
from chunkwise.core.rds_export.completeness import looking
from chunkwise.operators.rds_export import RdsExportToDeltaOperator, RelayoutRdsExportOperator
from tests.support.airflow import Ran
from tests.support.delta import Lake
from tests.support.dispatch import Run, dag
from tests.support.faults import FOREVER, Faults
from tests.support.rds_export import EXPORT, RdsApi, put_export, shop
from tests.support.s3 import S3

OPERATORS = {
    RelayoutRdsExportOperator: {"export", "target_uri", "tables", "ds", "s3_extra_args"},
    RdsExportToDeltaOperator: {"table", "partition_types", "s3_extra_args"},
}
FIRST = {RelayoutRdsExportOperator: "export", RdsExportToDeltaOperator: "table"}
EVERY = pytest.mark.parametrize("operator", list(OPERATORS), ids=lambda one: one.__name__)


@pytest.fixture
def export(s3: S3, rds: RdsApi) -> dict[str, Any]:
    """What the sensor returns."""
    put_export(s3, shop())
    rds.add(s3.bucket)
    found = look(looking(EXPORT), rds=rds.client, s3=s3.client)
    assert found.report is not None
    return found.report.to_json()


def relayouted(run_dag: Run, s3: S3, export: dict[str, Any], **options: Any) -> dict[str, Any]:
    with dag("relayout") as it:
        RelayoutRdsExportOperator(
            **{"task_id": "relayout", "export": export, "target_uri": f"s3://{s3.bucket}/lake", **options}
        )
    ran = run_dag(it)
    assert ran.state == "success"
    returned: dict[str, Any] = ran.returned("relayout")
    return returned


def commit(run_dag: Run, table: dict[str, Any], **options: Any) -> Ran:
    with dag("commit") as it:
        RdsExportToDeltaOperator(**{"task_id": "commit", "table": table, **options})
    return run_dag(it)


@EVERY
def test_template_fields_are_parameters_that_are_kept_as_they_were_given(operator: Any) -> None:
    names = set(inspect.signature(operator.__init__).parameters)
    own = set(operator.template_fields) & names
    assert own == OPERATORS[operator]
    for name in own:
        value = object()
        assert getattr(operator(**{"task_id": "t", FIRST[operator]: {}, name: value}), name) is value


@EVERY
def test_every_parameter_is_a_keyword_that_can_be_mapped_over(operator: Any) -> None:
    parameters = inspect.signature(operator.__init__).parameters
    own = [name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY]
    assert len(own) == len(parameters) - 2  # self and kwargs
    for number, name in enumerate(own):
        rest = {} if name == FIRST[operator] else {FIRST[operator]: {}}
        with dag(f"mapped_{number}"):
            operator.partial(task_id="t", **rest).expand(**{name: [1, 2]})


def test_an_export_is_copied_and_each_table_committed_with_an_event(
    run_dag: Run, s3: S3, export: dict[str, Any]
) -> None:
    returned = relayouted(run_dag, s3, export, table_path="{database}/{schema}/{table}")
    assert (returned["export"], returned["ds"]) == (EXPORT, "2024-03-01")
    assert returned["counts"] == {
        "tables": 4,
        "files": 7,
        "bytes": export["counts"]["bytes"],
        "copied": 7,
    }
    table = next(one for one in returned["tables"] if one["name"] == "shop.public.orders")
    assert table["partition"] == {"ds": "2024-03-01"}
    fixed = Asset("exported_orders", uri=f"s3://{s3.bucket}/orders")
    ran = commit(run_dag, table, outlets=[fixed, AssetAlias("exported")])
    receipt = ran.returned("commit")
    lake = Lake(s3, "lake/shop/public/orders")
    assert receipt == {
        "table": "shop.public.orders",
        "export": EXPORT,
        "partition": {"ds": "2024-03-01"},
        "uri": lake.uri,
        "version": 0,
        "committed": True,
        "created": True,
        "files": 5,
        "bytes": table["bytes"],
        "counts": {"added": 5},
        "rows": 7,
        "new_columns": [],
        "new_columns_total": 0,
    }
    assert ran.events[fixed.uri] == [receipt]
    (event,) = ran.events[lake.uri]
    assert event.items() >= {"operation": "replace", "version": 0, "files": 5, "export": EXPORT}.items()
    assert [row["id"] for row in lake.rows("id")] == [1, 2, 3, 4, 5, 6, 7]
    assert lake.actions("commitInfo", 0)[0]["airflow"]["task_id"] == "commit"

    # as when the first try died after its commit: the table is complete, and somebody waits to hear it
    again = commit(run_dag, table, outlets=[AssetAlias("exported")])
    assert again.returned("commit")["counts"] == {"duplicate": 5}
    assert [event["committed"] for event in again.events[lake.uri]] == [False]
    assert lake.versions == [0]


@pytest.mark.long
def test_some_tables_of_another_day(run_dag: Run, s3: S3, export: dict[str, Any]) -> None:
    names = ["crm.public.orders", "shop.public.customers"]
    returned = relayouted(
        run_dag, s3, export, tables=names, ds="{{ 'day' ~ 1 }}", partition_column="of", copies_in_flight=1
    )
    assert [one["name"] for one in returned["tables"]] == names
    commit(run_dag, returned["tables"][0])
    assert Lake(s3, "lake/crm/public.orders").rows() == [
        {"id": 100, "note": "order 100", "amount": 150.0, "of": "day1"}
    ]
    assert commit(
        run_dag, returned["tables"][1], partition_types={"of": "string"}, checkpoint_every=0
    ).returned("commit")["created"]


@pytest.mark.long
def test_without_a_target_the_folders_of_the_export_are_tables(
    run_dag: Run, s3: S3, export: dict[str, Any]
) -> None:
    returned = relayouted(run_dag, s3, export, target_uri=None)
    assert returned["counts"]["copied"] == 0
    table = next(one for one in returned["tables"] if one["name"] == "crm.public.orders")
    receipt = commit(run_dag, table).returned("commit")
    assert receipt["uri"] == f"s3://{s3.bucket}/exports/{EXPORT}/crm/public.orders"
    assert [row["id"] for row in Lake(s3, f"exports/{EXPORT}/crm/public.orders").rows("id")] == [100]


def context() -> Any:
    return {"ti": SimpleNamespace(dag_id="d", task_id="t", run_id="r"), "outlet_events": {}}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"export": {"uri": "s3://b/k"}}, "export is not what it should be"),
        ({"target_uri": "lake"}, "target_uri is 'lake'"),
        ({"tables": ["shop.public.nothing"]}, "tables has 'shop.public.nothing'"),
        ({"table_path": "{table}"}, "puts crm.public.orders and shop.public.orders in one place"),
        ({"copies_in_flight": -1}, "copies_in_flight is -1"),
    ],
    ids=["export", "target", "table", "path", "bound"],
)
def test_relayouts_that_no_retry_can_mend_fail_at_once(
    s3: S3, export: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    arguments = {"task_id": "t", "export": export, "target_uri": f"s3://{s3.bucket}/lake", **options}
    with pytest.raises(AirflowFailException, match=re.escape(text)):
        RelayoutRdsExportOperator(**arguments).execute(context())
    assert not any(key.startswith("lake/") for key in s3.keys())  # noqa: SIM118 - a method of the handle


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"table": {}}, "table is not what it should be"),
        ({"schema_policy": "add"}, "schema_policy is 'add'"),
        ({"partition_types": {"ds": "float"}}, "partition_types has 'float' for 'ds'"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
    ],
    ids=["table", "policy", "type", "bound"],
)
def test_commits_that_no_retry_can_mend_fail_at_once(
    run_dag: Run, s3: S3, export: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    returned = relayouted(run_dag, s3, export, tables="crm.public.orders")
    arguments = {"task_id": "t", "table": returned["tables"][0], **options}
    with pytest.raises(AirflowFailException, match=re.escape(text)):
        RdsExportToDeltaOperator(**arguments).execute(context())


@pytest.mark.long
def test_a_copy_that_s3_does_not_make_is_made_by_the_retry(
    run_dag: Run, s3: S3, export: dict[str, Any], faults: Faults
) -> None:
    faults.fail("CopyObject", status=503, times=FOREVER)
    with dag("relayout") as it:
        RelayoutRdsExportOperator(
            task_id="relayout",
            export=export,
            target_uri=f"s3://{s3.bucket}/lake",
            tables=["crm.public.orders"],
            retries=0,
            botocore_config={"retries": {"total_max_attempts": 1}},
        )
    assert run_dag(it).states == {"relayout": "failed"}
    faults.clear()
    assert run_dag(it).returned("relayout")["counts"]["copied"] == 1
