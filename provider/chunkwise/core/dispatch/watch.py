"""The staging directory over an asynchronous client, for whoever waits in an event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.model import Plan
from chunkwise.core.dispatch.staging import Staging, decode
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.failures import BODY_ERRORS, CALL_ERRORS, code_of, is_passing, status_of
from chunkwise.core.storage.listing import read_quickly
from chunkwise.core.storage.objects import Listed

log = logging.getLogger(__name__)

#: looks in a row that may fail for a reason that passes
_FAILED_LOOKS: Final = 5

#: requests of one dispatch under way at once: a store that does not answer holds up no other dispatch
OF_ONE: Final = 8
#: requests under way at once, and listings, of all dispatches in one event loop
_OF_ALL: Final = 16
_LISTINGS: Final = 4

T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gates:
    """How much all dispatches of one event loop may have under way.

    A request costs the loop a millisecond or two, and those that are answered in the same moment cost it
    that one after the other, in which it does nothing else: a bound for each dispatch would be none.

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
    """The pages of a listing, of which few are under way at once in an event loop.

    :param client: aiobotocore S3 client.
    :param arguments: of ListObjectsV2.
    """
    pages = aiter(client.get_paginator("list_objects_v2").paginate(**arguments))
    while True:
        async with gates().listings:
            page = await anext(pages, None)
        if page is None:
            return
        yield page


class States:
    """What a waiting party reads and writes of a dispatch.

    :param client: aiobotocore S3 client; it serves all calls.
    :param staging: of the dispatch; only its keys are used, never its client.
    """

    def __init__(self, client: Any, staging: Staging) -> None:
        self.staging = staging
        self._client = client
        self._arguments = CallArguments(client, staging.extra_args)
        self._in_flight = asyncio.Semaphore(OF_ONE)
        read_quickly(client)

    async def plan(self) -> Plan | None:
        """The plan, if there is one."""
        # many boundaries take a moment to decode
        return await self.get(self.staging.plan_key, Plan)

    async def look(self, board: Board, *, rows: bool) -> list[Listed]:
        """List the states once, and give them to the board.

        :param rows: whether to read the done records that are new.
        :return: what was listed.
        """
        listed: list[Listed] = []
        now = datetime.now(UTC)
        arguments = self._arguments.of("ListObjectsV2")
        async for page in listing_pages(
            self._client, Bucket=self.staging.bucket, Prefix=self.staging.state_prefix, **arguments
        ):
            now = _time_of(page) or now
            listed += [
                Listed(
                    key=item["Key"],
                    size=item["Size"],
                    etag=item["ETag"],
                    last_modified=item["LastModified"],
                )
                for item in page.get("Contents", ())
            ]
        board.take(listed, now)
        if rows:
            keys = board.unread
            for key, body in zip(keys, await asyncio.gather(*map(self._body, keys)), strict=True):
                if body is not None:
                    board.read(key, body)
        return listed

    async def get(self, key: str, kind: type[T]) -> T | None:
        """A value, or ``None``.

        :raises ProofFailed: it is not of the form that it must have.
        """
        body = await self._body(key)
        name = f"s3://{self.staging.bucket}/{key}"
        return None if body is None else await asyncio.to_thread(decode, body, kind, name)

    async def put_new(self, key: str, value: Any) -> bool:
        """Write a value where none stands; whether none stood there."""
        async with self._in_flight, gates().requests:
            try:
                await self._client.put_object(
                    Bucket=self.staging.bucket,
                    Key=key,
                    Body=msgspec.json.encode(value),
                    IfNoneMatch="*",
                    **self._arguments.of("PutObject"),
                )
            except CALL_ERRORS as error:
                if status_of(error) == 412 or code_of(error) == "ConditionalRequestConflict":
                    return False
                raise
        return True

    async def touch(self, key: str) -> None:
        """Write an empty object, of which only the time counts."""
        async with self._in_flight, gates().requests:
            await self._client.put_object(
                Bucket=self.staging.bucket, Key=key, Body=b"", **self._arguments.of("PutObject")
            )

    async def delete(self, key: str) -> None:
        """Delete; what is not there is fine."""
        async with self._in_flight, gates().requests:
            await self._client.delete_object(
                Bucket=self.staging.bucket, Key=key, **self._arguments.of("DeleteObject")
            )

    async def _body(self, key: str) -> bytes | None:
        async with self._in_flight, gates().requests:
            try:
                answer = await self._client.get_object(
                    Bucket=self.staging.bucket, Key=key, **self._arguments.of("GetObject")
                )
            except CALL_ERRORS as error:
                if status_of(error) == 404:
                    return None
                raise
            async with answer["Body"] as stream:
                body: bytes = await stream.read()
                return body


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


def _time_of(page: Mapping[str, Any]) -> datetime | None:
    """S3's time, from the header of its answer."""
    text = page.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
