"""What the drivers of one dispatch in one process share: a listing per poll, and the limit."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import Final, Protocol

from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.cancel import Signal, signals
from chunkwise.core.dispatch.limit import QUIET_SECONDS, Demand, at_work, places
from chunkwise.core.dispatch.model import Limit, Plan
from chunkwise.core.dispatch.watch import OF_ONE, States
from chunkwise.core.storage.objects import Listed

log = logging.getLogger(__name__)

#: invocations under way at once, of one dispatch
AT_ONCE: Final = OF_ONE

_WAITING: Final = re.compile(r"/chunk_([0-9]{4})\.[^./]+\.waiting$")


class Driver(Protocol):
    """Who drives a group in this process.

    :param group: number.
    :param held: attempts of it that may still report, also those that no listing shows yet.
    """

    group: int
    held: int


class Watch:
    """One listing per poll, one board, the limit.

    **Limit.** Groups that nobody drives hold no share of it: not begun, failed, or waiting for a retry. A
    group is known to be driven by its driver in this process, by its attempts in flight, and by its records
    of the last ``quiet_seconds``; in its first ``quiet_seconds`` a watch takes all groups for driven. A
    driver that is held back and that nobody could notice leaves a mark that it waits, so that the others make
    room as their chunks end. Drivers in one process never have more in flight than the limit. Drivers in
    several processes may, if one takes up a group that was quiet while the others hand over in the same
    moment: by its share at most, until their next chunks end.

    :param states: of the dispatch.
    :param board: that is kept up to date.
    :param limit: chunks in flight, unless the dispatch's own limit is set.
    :param at_once: invocations under way at once.
    :param quiet_seconds: after which a group that nobody sees to move counts no longer; several polls.
    """

    def __init__(
        self,
        states: States,
        board: Board,
        plan: Plan,
        limit: int,
        *,
        at_once: int = AT_ONCE,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self.states = states
        self.board = board
        self.plan = plan
        self.invoking = asyncio.Semaphore(at_once)
        self.drivers: list[Driver] = []
        self.signals: list[Signal] = []
        self._own_limit = limit
        self._limit: tuple[str, int] | None = None
        self._quiet = quiet_seconds
        self._demands: dict[int, Demand] = {}
        self._began: float | None = None
        self._looked: float | None = None
        self._lock = asyncio.Lock()

    @property
    def limit(self) -> int:
        """Chunks of the dispatch that may be in flight."""
        return self._own_limit if self._limit is None else self._limit[1]

    async def look(self, max_age: float) -> None:
        """Look at the states, unless somebody did so less than ``max_age`` seconds ago."""
        loop = asyncio.get_running_loop()
        asked = loop.time()  # whoever waits for a listing that takes long must not begin the next one
        async with self._lock:
            if self._looked is not None and asked - self._looked < max_age:
                return
            began = loop.time()
            self._began = began if self._began is None else self._began
            listed = await self.states.look(self.board, rows=False)
            found = next((item for item in listed if item.key == self.states.staging.limit_key), None)
            if found is None:
                self._limit = None
            elif self._limit is None or self._limit[0] != found.etag:
                limit = await self.states.get(found.key, Limit)
                if limit is not None:
                    self._limit = found.etag, limit.chunks_in_flight
                    log.info("%s: %d chunks in flight from now on", self.states.staging.uri, self.limit)
            self.signals = list(signals(listed))
            self._demands = self._demanded(listed)
            self._looked = began

    def places(self, driver: Driver, need: int) -> int:
        """How many chunks more a driver may hand over now.

        :param need: chunks that are in flight or should be.
        """
        demands = dict(self._demands)
        for other in self.drivers:
            found = demands[other.group]
            if other.held > found.in_flight:  # it handed over since the listing
                demands[other.group] = Demand(need=found.need, in_flight=other.held, seen=found.seen)
        counted: set[int] = {other.group for other in self.drivers}
        if self._is_young:
            counted.update(demands)
        counted |= at_work(demands, self._now, self._quiet)
        return places(demands, counted, self.limit, driver.group, need=need, in_flight=driver.held)

    def is_unnoticed(self, group: int) -> bool:
        """Whether drivers elsewhere may not know, or soon no longer, that somebody drives a group."""
        return group not in at_work(self._demands, self._now, self._quiet / 2)

    @property
    def _is_young(self) -> bool:
        return self._began is None or asyncio.get_running_loop().time() - self._began < self._quiet

    @property
    def _now(self) -> float:
        return self.board.now.timestamp()

    def _demanded(self, listed: Iterable[Listed]) -> dict[int, Demand]:
        groups = self.plan.groups
        need, in_flight = [0] * groups, [0] * groups
        seen: dict[int, float] = {}

        def saw(group: int, when: float) -> None:
            seen[group] = max(when, seen.get(group, when))

        for chunk in range(self.plan.chunks):
            group = chunk % groups
            need[group] += self.board.state(chunk) not in ("done", "doubtful")
            in_flight[group] += self.board.holds_a_place(chunk)
            latest = self.board.seen(chunk)
            if latest is not None:
                saw(group, latest.timestamp())
        for item in listed:
            if item.key.endswith(".waiting") and (match := _WAITING.search(item.key)):
                saw(int(match[1]) % groups, item.last_modified.timestamp())
        return {
            group: Demand(need=need[group], in_flight=in_flight[group], seen=seen.get(group))
            for group in range(groups)
        }


def waiting_key(states: States, chunk: int, attempt: str) -> str:
    """Of the mark that an attempt waits for its turn: only its time counts, and only for a while."""
    return f"{states.staging.state_prefix}chunk_{chunk:04d}.{attempt}.waiting"
