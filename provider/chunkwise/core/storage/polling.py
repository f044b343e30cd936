"""Look again and again from an event loop: how much at once, and how often in vain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from chunkwise.core.storage.failures import BODY_ERRORS, is_passing

log = logging.getLogger(__name__)

#: looks in a row that may fail for a reason that passes
_FAILED_LOOKS: Final = 5
#: requests under way at once, and listings, in one event loop
_OF_ALL: Final = 8
_LISTINGS: Final = 1
#: a page that takes longer is waited for beside others
_ROOM_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """How much all who wait in one event loop may have under way.

    A request costs the loop a millisecond or two, and those that are answered in the same moment cost it
    that one after the other, in which it does nothing else: a bound for each dispatch or table would be none.

    :param requests: for small objects.
    :param invocations: of functions that are only to take the event.
    :param listings: pages of 1,000 objects.
    """

    requests: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_OF_ALL))
    invocations: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_OF_ALL))
    listings: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_LISTINGS))


_GATES: WeakKeyDictionary[asyncio.AbstractEventLoop, Gates] = WeakKeyDictionary()


def gates() -> Gates:
    """Those of the event loop that runs."""
    return _GATES.setdefault(asyncio.get_running_loop(), Gates())


async def listing_pages(client: Any, **arguments: Any) -> AsyncIterator[Mapping[str, Any]]:
    """The pages of a listing, one after the other with those of other listings in an event loop.

    Whoever waits long for a page makes room: a store that does not answer holds up no other for long.

    :param client: aiobotocore S3 client.
    :param arguments: of ListObjectsV2.
    """
    pages = aiter(client.get_paginator("list_objects_v2").paginate(**arguments))

    async def following() -> Mapping[str, Any] | None:
        page: Mapping[str, Any] | None = await anext(pages, None)
        return page

    while True:
        async with gates().listings:
            asked = asyncio.ensure_future(following())
            try:
                await asyncio.wait({asked}, timeout=_ROOM_SECONDS)
            except BaseException:
                asked.cancel()
                raise
        try:
            page = await asked
        finally:
            asked.cancel()
        if page is None:
            return
        yield page


class Patience:
    """How often in a row a look may fail for a reason that passes.

    :param name: of what is looked at.
    :param broken: what the client raises beside botocore's errors when the body of an answer breaks.
    """

    def __init__(self, name: str, broken: tuple[type[Exception], ...] = ()) -> None:
        self.errors: tuple[type[Exception], ...] = (*BODY_ERRORS, *broken)
        self._name = name
        self._broken = broken
        self._failed = 0

    def fine(self) -> None:
        """A look succeeded."""
        self._failed = 0

    def failed(self, error: Exception) -> None:
        """A look failed.

        :raises Exception: the error: it does not pass, or it was too many.
        """
        self._failed += 1
        passing = isinstance(error, self._broken) or is_passing(error)
        if self._failed >= _FAILED_LOOKS or not passing:
            raise error
        log.warning("%s did not answer (%s): trying again", self._name, type(error).__name__)
