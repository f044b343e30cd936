"""What is no argument is refused by its own name, before anything is read: no retry mends it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from chunkwise.core.arrival import Arrival, arrivals_of
from chunkwise.core.delta import Policy, Settings
from chunkwise.core.delta.from_queue import QueueSpec
from chunkwise.core.delta.loads import RowPolicy
from chunkwise.core.errors import ConfigError
from chunkwise.operators.delta import ReconcileDeltaOperator, S3JsonlToDeltaOperator, S3ParquetToDeltaOperator


@pytest.mark.parametrize(
    ("objects", "text"),
    [
        (None, "objects is None"),
        (5, "objects is 5"),
        ("x", "this str is not"),
        ([None], "this NoneType is not"),
        ([{"key": "x"}], "this dict is not"),
    ],
    ids=str,
)
def test_objects_that_are_none_are_named(objects: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        arrivals_of(objects)
    assert caught.value.parameters == ("objects",)


def test_one_object_and_many_are_taken_alike() -> None:
    one = Arrival(bucket="b", key="k")
    for given in ("s3://b/k", {"bucket": "b", "key": "k"}, one, ["s3://b/k"], iter([one])):
        assert arrivals_of(given) == [one]


@pytest.mark.parametrize("kind", [RowPolicy, QueueSpec], ids=["files", "queue"])
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"schema": "x"}, "schema must give a text for each name, and is of type str"),
        ({"schema": {"a": 5}}, "schema must give a text for each name, and gives 'a' a value of type int"),
        ({"partition": "x"}, "partition must give a value for each column, and is of type str"),
        ({"partition": {"ds": ["x"]}}, "gives 'ds' a value of type list"),
        ({"quarantine_uri": "x"}, "quarantine_uri is 'x': it must be s3://bucket/prefix"),
    ],
    ids=str,
)
def test_columns_and_places_of_rows_are_what_they_should_be(
    kind: Any, given: dict[str, Any], text: str
) -> None:
    more = {"queue": "https://q"} if kind is QueueSpec else {}
    with pytest.raises(ConfigError, match=re.escape(text)):
        kind(**more, **given)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Policy(partition_types="date"), "partition_types must give a text for each name"),
        (lambda: Policy(partition_types={"ds": 5}), "gives 'ds' a value of type int"),
        (lambda: Settings(concurrency=0), "concurrency is 0"),
        (lambda: Settings(attempts=0), "attempts is 0"),
        (lambda: Settings(quarantine_uri="s3:/x"), "quarantine_uri is 's3:/x'"),
    ],
    ids=["types", "type", "concurrency", "attempts", "quarantine"],
)
def test_settings_are_what_they_should_be(make: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        make()


@pytest.mark.parametrize(
    ("operator", "given", "text"),
    [
        (S3ParquetToDeltaOperator, {"objects": None}, "objects is None"),
        (S3ParquetToDeltaOperator, {"objects": [], "schema_policy": "bla"}, "schema_policy is 'bla'"),
        (S3ParquetToDeltaOperator, {"objects": [], "quarantine_uri": "x"}, "quarantine_uri is 'x'"),
        (S3ParquetToDeltaOperator, {"objects": [], "on_unproven": "x"}, "on_unproven is 'x'"),
        (S3ParquetToDeltaOperator, {"objects": [], "concurrency": 0}, "concurrency is 0"),
        (S3JsonlToDeltaOperator, {"objects": 5, "table_uri": "s3://b/t"}, "objects is 5"),
        (S3JsonlToDeltaOperator, {"objects": [], "table_uri": "s3://b/t", "schema": "x"}, "schema must give"),
        (ReconcileDeltaOperator, {"table_uri": "s3://b/t", "schema_policy": "x"}, "schema_policy is 'x'"),
        (ReconcileDeltaOperator, {"table_uri": None}, "table_uri is None"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_operators_refuse_such_arguments_without_a_retry(
    operator: Any, given: dict[str, Any], text: str
) -> None:
    ti = SimpleNamespace(dag_id="d", task_id="t", run_id="r")
    with pytest.raises(AirflowFailException, match=re.escape(text)):
        operator(task_id="t", **given).execute({"ti": ti, "outlet_events": {}})
