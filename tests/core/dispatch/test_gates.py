"""What all dispatches of one event loop have under way together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from chunkwise.core.dispatch.model import Invoked
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.dispatch.watch import States
from chunkwise.core.storage import polling
from chunkwise.core.storage.polling import gates

MARK = Invoked(attempt="a-1", function="f", invoked_at="2024-01-01T00:00:00Z")


class Store:
    """An S3 client that answers when it is told to, and counts what is under way."""

    def __init__(self, shared: Store | None = None) -> None:
        self.open = asyncio.Event()
        self.now = self.most = 0
        self.shared = shared
        operation = SimpleNamespace(input_shape=SimpleNamespace(members={}))
        model = SimpleNamespace(operation_model=lambda _: operation)
        events = SimpleNamespace(register=lambda *_, **__: None)
        self.meta = SimpleNamespace(service_model=model, events=events)

    async def put_object(self, **_: Any) -> None:
        for store in filter(None, (self, self.shared)):
            store.now += 1
            store.most = max(store.most, store.now)
        await self.open.wait()
        await asyncio.sleep(0)
        for store in filter(None, (self, self.shared)):
            store.now -= 1


def marks(store: Store, name: str, number: int) -> list[asyncio.Task[bool]]:
    states = States(store, Staging(store, "bucket", f"{name}.dispatch/"))
    return [asyncio.ensure_future(states.put_new(f"{name}/{n}", MARK)) for n in range(number)]


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_twenty_dispatches_have_no_more_under_way_than_one_bound_for_all() -> None:
    async def check() -> tuple[int, int]:
        total = Store()
        stores = [Store(total) for _ in range(20)]
        work = [task for n, store in enumerate(stores) for task in marks(store, f"d{n}", 50)]
        for store in stores:
            store.open.set()
        assert all(await asyncio.gather(*work))
        return total.most, total.now

    assert asyncio.run(check()) == (8, 0)


def test_a_store_that_does_not_answer_holds_up_no_other_dispatch() -> None:
    async def check() -> None:
        silent, well = Store(), Store()
        waiting = marks(silent, "silent", 100)
        await settle()
        assert silent.now == 4
        well.open.set()
        assert all(await asyncio.gather(*marks(well, "well", 100)))
        assert not any(task.done() for task in waiting)
        silent.open.set()
        assert all(await asyncio.gather(*waiting))

    asyncio.run(check())


class Listings:
    """An S3 client that lists one page when it is told to, and counts what is under way."""

    now = most = 0

    def __init__(self) -> None:
        self.open = asyncio.Event()

    def get_paginator(self, _: str) -> Listings:
        return self

    async def paginate(self, **_: Any) -> AsyncIterator[dict[str, Any]]:
        Listings.now += 1
        Listings.most = max(Listings.most, Listings.now)
        try:
            await self.open.wait()
            await asyncio.sleep(0)
        finally:
            Listings.now -= 1
        yield {"KeyCount": 0}


async def listed(client: Listings) -> int:
    return len([page async for page in polling.listing_pages(client)])


def test_pages_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listings, "most", 0)

    async def check() -> list[int]:
        clients = [Listings() for _ in range(10)]
        for client in clients:
            client.open.set()
        return await asyncio.gather(*map(listed, clients))

    assert asyncio.run(check()) == [1] * 10
    assert (Listings.most, Listings.now) == (1, 0)


def test_a_listing_that_is_not_answered_makes_room_and_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(polling, "_ROOM_SECONDS", 0.01)

    async def check() -> None:
        silent, well = Listings(), Listings()
        waiting = [asyncio.ensure_future(listed(silent)) for _ in range(3)]
        await settle()
        well.open.set()
        assert await listed(well) == 1
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        silent.open.set()
        assert await asyncio.gather(*waiting[1:]) == [1, 1]
        assert Listings.now == 0

    asyncio.run(check())


def test_each_event_loop_has_bounds_of_its_own() -> None:
    async def found() -> Any:
        assert gates() is gates()
        return gates()

    assert asyncio.run(found()) is not asyncio.run(found())
