"""What several triggers use together: opened by the first, closed by the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from chunkwise.triggers._joint import Joint


class Things:
    """Makes things, and counts those that are open."""

    def __init__(self, failures: int = 0) -> None:
        self.made = self.open = 0
        self._failures = failures

    @asynccontextmanager
    async def _thing(self, number: int) -> AsyncIterator[int]:
        self.open += 1
        try:
            yield number
        finally:
            await asyncio.sleep(0)
            self.open -= 1

    async def make(self, stack: AsyncExitStack) -> int:
        number = self.made = self.made + 1
        await asyncio.sleep(0)
        found = await stack.enter_async_context(self._thing(number))
        if self._failures:
            self._failures -= 1
            raise ConnectionError
        return found


async def used(joint: Joint[int], key: str, things: Things, until: asyncio.Event) -> int:
    async with joint.use(key, things.make) as found:
        await until.wait()
        return found


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_all_users_at_a_time_have_one_thing_and_later_ones_another() -> None:
    async def check() -> None:
        joint, things, until = Joint[int](), Things(), asyncio.Event()
        users = [asyncio.ensure_future(used(joint, key, things, until)) for key in "aabaa"]
        await settle()
        assert (len(joint), things.made, things.open) == (2, 2, 2)
        until.set()
        assert len(set(await asyncio.gather(*users))) == 2
        assert (len(joint), things.open) == (0, 0)
        await used(joint, "a", things, until)
        assert (things.made, things.open, len(joint)) == (3, 0, 0)

    asyncio.run(check())


def test_a_thing_stays_open_while_one_user_is_left_and_whoever_is_cancelled_leaves() -> None:
    async def check() -> None:
        joint, things, until = Joint[int](), Things(), asyncio.Event()
        users = [asyncio.ensure_future(used(joint, "a", things, until)) for _ in range(3)]
        await settle()
        for user in users[:2]:
            user.cancel()
        await asyncio.gather(*users[:2], return_exceptions=True)
        assert (len(joint), things.open) == (1, 1)
        until.set()
        await users[2]
        assert (len(joint), things.open) == (0, 0)

    asyncio.run(check())


def test_what_could_not_be_made_is_made_by_the_next_and_nothing_stays_open() -> None:
    async def check() -> None:
        joint, things, until = Joint[int](), Things(failures=1), asyncio.Event()
        users = [asyncio.ensure_future(used(joint, "a", things, until)) for _ in range(2)]
        with pytest.raises(ConnectionError):
            await users[0]
        until.set()
        await users[1]
        assert (things.made, things.open, len(joint)) == (2, 0, 0)

    asyncio.run(check())


def test_event_loops_share_nothing() -> None:
    joint, things = Joint[int](), Things()

    async def one() -> None:
        until = asyncio.Event()
        until.set()
        await used(joint, "a", things, until)

    for _ in range(2):
        asyncio.run(one())
    assert (things.made, things.open) == (2, 0)
