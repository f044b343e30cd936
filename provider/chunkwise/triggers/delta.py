"""Wait for a version, files or rows of a Delta table in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

# aiohttp's own errors come from the body of an answer: everything before it is botocore's
from aiohttp import ClientError as BrokenAnswer
from airflow.triggers.base import TriggerEvent

from chunkwise._aws import S3Hook, async_client
from chunkwise.core.errors import ChunkwiseError, StorageError
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.listing import read_quickly
from chunkwise.core.storage.polling import Patience, listing_pages
from chunkwise.triggers._aws import AwsTrigger

if TYPE_CHECKING:
    from chunkwise.core.delta.watch import TableWatch


class DeltaTableTrigger(AwsTrigger):
    """Poll the log of a Delta table until the table is as is waited for.

    It only looks: it may run twice or start again at any time without harm. One client serves all its polls;
    a poll is one LIST of what the log has new. Where a condition needs more than the version, new log entries
    are read in a thread, each once. It yields one event: ``{"status": "done", "seen": {...}}``, or
    ``{"status": "error", "error": ..., "message": ...}`` with the name of one of Chunkwise's errors.

    A poll that fails for a reason that may pass (no connection, throttling, 5xx) is tried again with the next
    one, five times in a row at most; any other failure ends the trigger, and so the try of its task.

    :param table_uri: ``s3://bucket/prefix``.
    :param condition: parameters of :class:`~chunkwise.core.delta.watch.Condition`.
    :param extra_args: more arguments of the S3 calls.
    :param poll_interval: seconds between two polls.
    :param connection: see :class:`~chunkwise.triggers._aws.AwsTrigger`.
    """

    def __init__(
        self,
        *,
        table_uri: str,
        condition: Mapping[str, Any],
        extra_args: Mapping[str, Any] | None = None,
        poll_interval: float = 30.0,
        **connection: Any,
    ) -> None:
        super().__init__(**connection)
        self.table_uri = table_uri
        self.condition = dict(condition)
        self.extra_args = dict(extra_args or {})
        self.poll_interval = poll_interval

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, and yield once."""
        async with await async_client(self._hook()) as client:
            yield await self._wait(client)

    async def _wait(self, client: Any) -> TriggerEvent:
        read_quickly(client)
        watch = await asyncio.to_thread(self._watch)
        patience = Patience(self.table_uri, broken=(BrokenAnswer, StorageError))
        reader: Any = None
        while True:
            try:
                if watch.take(await self._list(client, watch)):
                    # a log may have much to read and to decode
                    reader = reader or await asyncio.to_thread(lambda: self._hook().conn)
                    await asyncio.to_thread(watch.read, reader)
                if watch.is_fulfilled:
                    return TriggerEvent({"status": "done", "seen": watch.seen.to_json()})
            except ChunkwiseError as error:
                if not error.transient:
                    return TriggerEvent(
                        {"status": "error", "error": type(error).__name__, "message": str(error)}
                    )
                patience.failed(error)
            except patience.errors as error:
                patience.failed(error)
            else:
                patience.fine()
                self.log.info("%s", watch.seen.line)
            await asyncio.sleep(self.poll_interval)

    def _watch(self) -> TableWatch:
        # here, not above: it imports pyarrow, which takes a moment
        from chunkwise.core.delta.places import Table
        from chunkwise.core.delta.watch import Condition, TableWatch

        return TableWatch(
            Table.at(self.table_uri), Condition.of(**self.condition), extra_args=self.extra_args
        )

    async def _list(self, client: Any, watch: TableWatch) -> list[tuple[str, str]]:
        arguments = CallArguments(client, watch.extra_args or {}).of("ListObjectsV2")
        pages = listing_pages(
            client, Bucket=watch.table.bucket, Prefix=watch.prefix, StartAfter=watch.start_after, **arguments
        )
        return [(item["Key"], item["ETag"]) async for page in pages for item in page.get("Contents", ())]

    def _hook(self) -> S3Hook:
        return S3Hook(**self.connection())
