"""Wait for the parts of a dispatch in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

# aiohttp's own errors come from the body of an answer: everything before it is botocore's
from aiohttp import ClientError as BrokenAnswer
from airflow.triggers.base import TriggerEvent

from chunkwise._aws import S3Hook, async_client
from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.dispatch.watch import States
from chunkwise.core.storage.polling import Patience
from chunkwise.triggers._aws import AwsTrigger


class DispatchPartsTrigger(AwsTrigger):
    """Poll the states of a dispatch until every chunk has reported, or too many have failed or are lost.

    It only looks: it may run twice or start again at any time without harm. One client serves all its polls;
    a poll is one LIST per 1,000 chunks, and one GET for each chunk that became done since the last one if
    rows are counted. Times are compared with S3's clock. It yields one event, ``{"status": ..., "counts":
    ...}``, where the status is ``"done"``, ``"failed"``, or ``"missing"`` for a staging directory without a
    plan.

    A poll that fails for a reason that may pass (no connection, throttling, 5xx) is tried again with the next
    one, five times in a row at most; any other failure ends the trigger, and so the try of its task.

    :param bucket: of the staging directory.
    :param prefix: of the staging directory.
    :param extra_args: more arguments of the S3 calls on what lies there.
    :param tolerated_count: chunks that may fail or be lost while the others are still waited for.
    :param tolerated_share: the same as a share of all chunks; the larger of both counts.
    :param count_rows: whether done records are read, for the number of rows.
    :param poll_interval: seconds between two polls.
    :param connection: see :class:`~chunkwise.triggers._aws.AwsTrigger`.
    """

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str,
        extra_args: Mapping[str, Any] | None = None,
        tolerated_count: int = 0,
        tolerated_share: float = 0.0,
        count_rows: bool = True,
        poll_interval: float = 10.0,
        **connection: Any,
    ) -> None:
        super().__init__(**connection)
        self.bucket = bucket
        self.prefix = prefix
        self.extra_args = dict(extra_args or {})
        self.tolerated_count = tolerated_count
        self.tolerated_share = tolerated_share
        self.count_rows = count_rows
        self.poll_interval = poll_interval

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, and yield once."""
        async with await async_client(S3Hook(**self.connection())) as client:
            yield await self._wait(client)

    async def _wait(self, client: Any) -> TriggerEvent:
        staging = Staging(client, self.bucket, self.prefix, self.extra_args)
        states = States(client, staging)
        patience = Patience(staging.uri, broken=(BrokenAnswer,))
        board: Board | None = None
        while True:
            try:
                if board is None:
                    plan = await states.plan()
                    if plan is None:
                        return TriggerEvent({"status": "missing", "counts": {}})
                    # formats are imported here, and some of them take a moment
                    board = await asyncio.to_thread(Board, plan)
                await states.look(board, rows=self.count_rows)
            except patience.errors as error:
                patience.failed(error)
            else:
                patience.fine()
                self.log.info("%s: %s", staging.uri, board.line())
                verdict = board.verdict(self.tolerated_count, self.tolerated_share)
                if verdict != "waiting":
                    return TriggerEvent({"status": verdict, "counts": board.counts.to_json()})
            await asyncio.sleep(self.poll_interval)
