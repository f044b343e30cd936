"""Asynchronous clients, made without a pause of the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks import base_aws
from botocore.loaders import JSONFileLoader, Loader

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
    monkeypatch.setattr(JSONFileLoader, "load_file", noted)

    hook = AwsBaseHook(aws_conn_id=None, region_name="us-east-1", client_type=service)

    async def make() -> str:
        async with await async_client(hook) as client:
            client.get_paginator("list_objects_v2" if service == "s3" else "list_functions")
            return str(client.meta.service_model.service_name)

    assert asyncio.run(make()) == service
    assert len(readers) > 0
    assert [path for thread, path in readers if thread == threading.get_ident()] == []
