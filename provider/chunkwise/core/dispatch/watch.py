"""The staging directory over an asynchronous client, for whoever waits in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import msgspec

from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.model import Plan
from chunkwise.core.dispatch.staging import Staging, decode
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.failures import CALL_ERRORS, code_of, status_of
from chunkwise.core.storage.listing import read_quickly
from chunkwise.core.storage.objects import Listed
from chunkwise.core.storage.polling import gates, listing_pages

#: requests of one dispatch under way at once: a store that does not answer holds up no other dispatch
OF_ONE: Final = 4

T = TypeVar("T", bound=msgspec.Struct)


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


def _time_of(page: Mapping[str, Any]) -> datetime | None:
    """S3's time, from the header of its answer."""
    text = page.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(text) if text else None
    except ValueError:
        return None
