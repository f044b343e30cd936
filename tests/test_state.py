"""What Airflow's stores keep for an ingest, and what happens where they do not answer."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import Any

import pytest
from airflow.sdk import Asset
from pydantic import JsonValue, TypeAdapter

from chunkwise.state import PreviousReceipt, TaskStateStore, task_state


class Store(dict[str, Any]):
    """A store as Airflow's accessor shows it, as strict with its values."""

    def set(self, key: str, value: Any) -> None:
        self[key] = TypeAdapter(JsonValue).validate_python(value, strict=True)

    def delete(self, key: str) -> None:
        self.pop(key, None)


class Unwell:
    """A store whose server does not answer."""

    def get(self, *_arguments: Any) -> Any:
        raise RuntimeError("no answer")

    set = delete = get


def test_a_value_is_kept_and_forgotten() -> None:
    store = Store(other=1)
    state = task_state({"task_state_store": store})
    assert state is not None
    assert state.get() is None
    state.set({"page": 7})
    assert TaskStateStore(store).get() == {"page": 7}
    state.clear()
    assert store == {"other": 1}


def test_tuples_and_mappings_are_kept_as_lists_and_objects() -> None:
    store = Store()
    TaskStateStore(store).set({"parts": ((1, "etag"),), "counters": MappingProxyType({"pages": 7})})
    assert TaskStateStore(store).get() == {"parts": [[1, "etag"]], "counters": {"pages": 7}}


def test_below_airflow_3_3_there_is_no_store() -> None:
    assert task_state({}) is None


def test_a_value_of_another_kind_is_none() -> None:
    store = Store()
    store.set("chunkwise_ingest", "text")
    assert TaskStateStore(store).get() is None


def test_a_value_that_cannot_be_kept_does_not_cost_the_run(caplog: pytest.LogCaptureFixture) -> None:
    state = TaskStateStore(Unwell())
    with caplog.at_level(logging.WARNING):
        state.set({"page": 7})
        state.clear()
    assert len(caplog.records) == 2
    with pytest.raises(RuntimeError):
        state.get()


def test_the_receipt_of_an_asset_is_kept_in_short() -> None:
    asset = Asset("variants")
    stores = {asset: Store()}
    receipt = {
        "uri": "s3://lake/x",
        "records": 3,
        "bytes": 1,
        "uncompressed_bytes": 2,
        "profile": {"mean": 1},
        "etag": "x",
    }
    previous = PreviousReceipt.of({"asset_state_store": stores}, [asset])
    assert previous.get() is None
    previous.set(receipt)
    assert previous.get() == {name: value for name, value in receipt.items() if name != "etag"}


def test_without_an_asset_or_its_store_nothing_is_compared(caplog: pytest.LogCaptureFixture) -> None:
    for context in ({}, {"asset_state_store": {Asset("variants"): Unwell()}}):
        previous = PreviousReceipt.of(context, [Asset("variants")])
        with caplog.at_level(logging.WARNING):
            previous.set(
                {"profile": {"mean": 1}, "uri": None, "records": 0, "bytes": 0, "uncompressed_bytes": 0}
            )
            assert previous.get() is None
    assert len(caplog.records) == 2
