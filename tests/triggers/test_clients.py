"""Asynchronous clients, made without a pause of the event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks import base_aws
from botocore.loaders import JSONFileLoader, Loader

from chunkwise import _aws
from chunkwise._aws import AwsBaseHook, async_client


@pytest.mark.parametrize("service", ["s3", "lambda"])
def test_the_event_loop_reads_no_model(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    readers: list[tuple[int, str]] = []
    load_file = JSONFileLoader.load_file

    def noted(self: JSONFileLoader, path: str) -> Any:
        data = load_file(self, path)
        if data is not None:
            readers.append((threading.get_ident(), path))
        return data

    monkeypatch.setattr(base_aws, "_loader", Loader())
    _aws._read_models.cache_clear()  # another loader has read none
    monkeypatch.setattr(JSONFileLoader, "load_file", noted)

    hook = AwsBaseHook(aws_conn_id=None, region_name="us-east-1", client_type=service)

    async def make() -> str:
        async with await async_client(hook) as client:
            client.get_paginator("list_objects_v2" if service == "s3" else "list_functions")
            return str(client.meta.service_model.service_name)

    assert asyncio.run(make()) == service
    assert len(readers) > 0
    assert [path for thread, path in readers if thread == threading.get_ident()] == []


def test_what_stays_in_memory_is_not_walked_by_every_collection() -> None:
    """A full collection that walks the models of botocore stops the event loop for 0.2 seconds."""
    hook = AwsBaseHook(aws_conn_id=None, region_name="us-east-1", client_type="sns")

    async def make() -> list[int]:
        found = [gc.get_freeze_count()]
        for _ in range(3):
            async with await async_client(hook):
                found.append(gc.get_freeze_count())
        return found

    before, first, *later = asyncio.run(make())
    assert first > before
    assert max(later) <= first  # once only: what is frozen is never collected
