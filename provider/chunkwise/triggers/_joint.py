"""What several triggers in one event loop use together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Joint(Generic[T]):
    """Things that the first user opens, and that are closed when the last one leaves."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}

    def __len__(self) -> int:
        """How many things are open."""
        return len(self._entries)

    @asynccontextmanager
    async def use(self, key: Hashable, make: Callable[[AsyncExitStack], Awaitable[T]]) -> AsyncIterator[T]:
        """Use a thing together with all that use it by this key in this event loop.

        :param key: what decides about it.
        :param make: makes it, if nobody has; what it enters into the stack is left after the last user.
        """
        whole = (id(asyncio.get_running_loop()), key)
        entry = self._entries.setdefault(whole, _Entry())
        entry.users += 1
        try:
            async with entry.lock:
                if not entry.made:
                    entry.thing = await make(entry.stack)
                    entry.made = True
            yield entry.thing
        finally:
            entry.users -= 1
            if not entry.users:
                del self._entries[whole]
                await entry.stack.aclose()


@dataclass
class _Entry:
    users: int = 0
    made: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    thing: Any = None
