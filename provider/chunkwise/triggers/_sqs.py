"""The connection of a trigger to its queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from chunkwise._aws import AwsBaseHook, async_client
from chunkwise.core.events.inbox import Inbox, Poison
from chunkwise.core.events.sharing import Connected
from chunkwise.core.queue.names import identity
from chunkwise.core.storage.failures import reason

log = logging.getLogger(__name__)

#: between two tries to connect, the last one for ever
_PAUSES: Final = (1.0, 5.0, 15.0, 60.0)
#: what triggers on one queue may disagree on, apart from its messages that nobody can read
_HOW: Final = ("visibility_timeout", "wait_time_seconds", "batch_messages", "max_in_flight")


class SqsConnection:
    """An inbox with a client of its own, made from the arguments of a trigger.

    :param kwargs: of :class:`~chunkwise.triggers.s3_event.S3EventTrigger`, as it serialises them.
    """

    def __init__(self, kwargs: Mapping[str, Any]) -> None:
        self._kwargs = kwargs
        self._stack = AsyncExitStack()
        self._inbox: Inbox | None = None
        self._queue: Hashable = None

    async def open(self) -> Inbox:
        """Connect, however often that fails before: a trigger that ends is started again at once."""
        failures = 0
        while True:
            try:
                return await self._open()
            except Exception as error:
                await self._stack.aclose()
                seconds = _PAUSES[min(failures, len(_PAUSES) - 1)]
                failures += 1
                log.error(
                    "no connection to queue %s: %s; next try in %.0f s",
                    self._kwargs["sqs_queue"].rpartition("/")[2],
                    reason(error),
                    seconds,
                )
                await asyncio.sleep(seconds)

    async def _open(self) -> Inbox:
        given = self._kwargs
        hook = AwsBaseHook(
            client_type="sqs",
            aws_conn_id=given["aws_conn_id"],
            region_name=given["region_name"],
            verify=given["verify"],
            config=given["botocore_config"],
        )
        client = await self._stack.enter_async_context(await async_client(hook))
        url = await _url(client, given["sqs_queue"])
        self._queue = identity(client, url)
        inbox = Inbox(
            client,
            url,
            visibility_seconds=given["visibility_timeout"],
            wait_seconds=given["wait_time_seconds"],
            batch_messages=given["batch_messages"],
            in_flight=given["max_in_flight"],
            poison=await self._poison(client),
        )
        self._stack.push_async_callback(inbox.aclose)
        self._inbox = inbox
        return inbox

    async def _poison(self, client: Any) -> Poison:
        given = self._kwargs
        if given["on_poison"] == "redrive":
            return Poison()
        queue = given["poison_queue"] and await _url(client, given["poison_queue"])
        if queue and identity(client, queue) == self._queue:
            log.error(
                "poison_queue is queue %s itself, in which messages would go round for ever: those that "
                "nobody can read are left to its redrive policy",
                queue.rpartition("/")[2],
            )
            return Poison()
        return Poison(action=given["on_poison"], queue=queue, receives=given["poison_receives"])

    def connected(self) -> Connected:
        """The open connection, for those who share it."""
        assert self._inbox is not None
        return Connected(
            queue=self._queue,
            inbox=self._inbox,
            settings={name: repr(self._kwargs[name]) for name in _HOW},
            close=self.aclose,
        )

    async def aclose(self) -> None:
        """Give back what is held, and close the client."""
        await self._stack.aclose()


async def _url(client: Any, queue: str) -> str:
    """The URL of a queue that may be given by its name."""
    if "://" in queue:
        return queue
    return str((await client.get_queue_url(QueueName=queue))["QueueUrl"])
