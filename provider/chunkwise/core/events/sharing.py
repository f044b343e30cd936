"""One consumer of a queue for everybody in a process who wants its events, however each of them names it.

What one consumer has received, another one does not see: two of them on a queue would each delete what the
other one waits for. Which queue a name stands for is known only when somebody has connected. As long as
anybody is on the way to a queue of that name, a consumer hands nothing out: what nobody wants is deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakKeyDictionary

from chunkwise.core.events.inbox import Batch, Inbox, Poison

log = logging.getLogger(__name__)

#: whoever needs longer to connect is waited for no more, and misses what nobody else wants meanwhile
_COMING_SECONDS: Final = 300.0
#: who is on the way to a queue, in each event loop
_COMING: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, set[_Coming]]] = WeakKeyDictionary()
#: the consumers of each event loop, by queue
_SHARED: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Shared]]] = WeakKeyDictionary()


@dataclass(eq=False, kw_only=True, slots=True)
class _Coming:
    """Somebody who connects to a queue.

    :param queue: its name, without what only a connection tells.
    :param who: for a log line.
    :param until: when it is waited for no more, on the clock of the event loop.
    """

    queue: str
    who: str
    until: float
    here: asyncio.Event = field(default_factory=asyncio.Event)


@contextmanager
def coming(queue: str, who: str) -> Iterator[None]:
    """Let consumers of queues of this name wait while somebody connects and joins, in the block.

    They wait for 5 minutes at most, and then log that.

    :param queue: name or URL.
    :param who: is coming, for a log line.
    """
    loop = asyncio.get_running_loop()
    all_coming = _COMING.setdefault(loop, set())
    one = _Coming(queue=queue.rstrip("/").rpartition("/")[2], who=who, until=loop.time() + _COMING_SECONDS)
    all_coming.add(one)
    try:
        yield
    finally:
        all_coming.discard(one)
        one.here.set()


async def _everybody_here(queue: str) -> None:
    """Wait for who is on the way to queues of this name."""
    all_coming = _COMING.get(asyncio.get_running_loop(), set())
    while found := [one for one in all_coming if one.queue == queue]:
        one = found[0]
        try:
            async with asyncio.timeout_at(one.until):
                await one.here.wait()
        except TimeoutError:
            all_coming.discard(one)
            log.warning(
                "queue %s: %s could not connect for %.0f s, and is waited for no more: until it has, "
                "messages that nobody else wants are deleted",
                queue,
                one.who,
                _COMING_SECONDS,
            )


@dataclass(eq=False, kw_only=True, slots=True)
class Connected:
    """A queue that somebody has connected to.

    :param queue: what identifies it, the same for each of its names.
    :param inbox: that nothing was received with so far.
    :param settings: how it is to be read, as text by name; for log lines.
    :param close: gives back what is held, and closes the client.
    """

    queue: Hashable
    inbox: Inbox
    settings: Mapping[str, str]
    close: Callable[[], Awaitable[None]]


class Member:
    """Somebody who gets every batch of a queue from now on."""

    def __init__(self, shared: _Shared, connected: Connected) -> None:
        self._shared = shared
        self._connected = connected
        self._batches: asyncio.Queue[Batch | Exception] = asyncio.Queue()

    @classmethod
    def join(cls, connected: Connected, *, after: float = 0.0) -> Member:
        """Join those who read the queue, or be the first of them.

        Where they disagree on how it is read, the first one is followed, and that is logged; but if they
        disagree on what becomes of messages that nobody can read, nothing does, which loses none.

        :param after: seconds after which the first one begins to receive, so that others can join.
        """
        all_shared = _SHARED.setdefault(asyncio.get_running_loop(), {})
        shared = all_shared.get(connected.queue)
        if shared is None:
            shared = all_shared[connected.queue] = _Shared(connected)
            shared.begin(after, all_shared)
        else:
            shared.compare(connected)
        member = cls(shared, connected)
        shared.members.add(member)
        return member

    async def batches(self) -> AsyncIterator[Batch]:
        """Batches, for ever."""
        while True:
            found = await self._batches.get()
            if isinstance(found, Exception):
                raise found
            yield found

    async def done(self, batches: Sequence[Batch]) -> None:
        """Their events are safe here: once they are with everybody, their messages are deleted."""
        await self._shared.settle(self, batches, safe=True)

    async def release(self, batches: Sequence[Batch]) -> None:
        """Their events are not safe here: once everybody has had them, their messages are shown again."""
        await self._shared.settle(self, batches, safe=False)

    async def leave(self) -> None:
        """Leave, and give back what is not done. The last one closes the consumer."""
        await self._shared.leave(self)
        if self._shared.connected is not self._connected:
            await self._connected.close()

    def give(self, found: Batch | Exception) -> None:
        """Hand out a batch, or why there will be no more."""
        self._batches.put_nowait(found)


@dataclass(slots=True)
class _Open:
    """A batch that not everybody is done with."""

    batch: Batch
    waiting: set[Member]
    safe: bool = True


class _Shared:
    """The consumer, with those who share it."""

    def __init__(self, connected: Connected) -> None:
        self.connected = connected
        self.members: set[Member] = set()
        self._open: dict[str, _Open] = {}
        self._pump: asyncio.Task[None] | None = None
        self._all: dict[Hashable, _Shared] = {}

    def begin(self, after: float, all_shared: dict[Hashable, _Shared]) -> None:
        """Receive from now on, in a task of its own."""
        self._all = all_shared
        self._pump = asyncio.create_task(self._run(after), name=f"receive from {self.connected.queue}")

    def compare(self, other: Connected) -> None:
        """Say how two disagree."""
        ours, theirs = self.connected, other
        differ = [
            f"{name} is {ours.settings[name]} and {value}"
            for name, value in theirs.settings.items()
            if ours.settings[name] != value
        ]
        if differ:
            log.warning(
                "triggers on queue %s disagree on how it is read: %s; the first one is followed",
                ours.inbox.name,
                "; ".join(differ),
            )
        one, another = ours.inbox.poison, theirs.inbox.poison
        if one != another:
            ours.inbox.poison = Poison()
            log.error(
                "triggers on queue %s disagree on messages that nobody can read (%s after %d receives, and "
                "%s after %d): such messages are left to the queue's redrive policy; give all of these "
                "triggers the same on_poison",
                ours.inbox.name,
                one.action,
                one.receives,
                another.action,
                another.receives,
            )

    async def settle(self, member: Member, batches: Sequence[Batch], *, safe: bool) -> None:
        """One of the members is done with batches, in one way or the other."""
        done: list[Batch] = []
        released: list[Batch] = []
        for batch in batches:
            name = batch.messages[0]
            found = self._open.get(name)
            if found is None or member not in found.waiting:
                continue
            found.waiting.discard(member)
            found.safe &= safe
            if not found.waiting:
                del self._open[name]
                (done if found.safe else released).append(batch)
        await self.connected.inbox.done(done)
        await self.connected.inbox.release(released)

    async def leave(self, member: Member) -> None:
        """One of the members leaves."""
        self.members.discard(member)
        if self.members:
            left = [found.batch for found in self._open.values() if member in found.waiting]
            await self.settle(member, left, safe=False)
            return
        self._forget()  # before anything is awaited: who joins from now on connects anew
        if self._pump is not None:
            self._pump.cancel()
            with suppress(asyncio.CancelledError):
                await self._pump
        await self.connected.close()

    def _forget(self) -> None:
        if self._all.get(self.connected.queue) is self:
            del self._all[self.connected.queue]

    async def _run(self, after: float) -> None:
        try:
            await asyncio.sleep(after)
            name = self.connected.inbox.name
            await _everybody_here(name)  # before it hides messages from whoever else reads the queue
            async for batch in self.connected.inbox.batches():
                await _everybody_here(name)
                self._open[batch.messages[0]] = _Open(batch, set(self.members))
                for member in self.members:
                    member.give(batch)
        except Exception as error:  # else everybody would wait for ever
            self._forget()
            for member in self.members:
                member.give(error)
