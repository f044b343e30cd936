"""Object events out of an SQS queue, none of them lost on the way.

A message stays the queue's until whoever took its events says that they are safe. Whatever ends this process,
the message comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chunkwise.core.events.collapse import candidates
from chunkwise.core.events.holding import CALL_MESSAGES, Holding
from chunkwise.core.events.model import Ignored, ObjectCreated, ObjectRemoved, Rejected
from chunkwise.core.events.parse import parse
from chunkwise.core.storage.failures import is_passing, reason

log = logging.getLogger(__name__)

#: SQS: longest long poll, API reference of ReceiveMessage
MAX_WAIT_SECONDS: Final = 20
#: between two receives that failed, the last one for ever
_PAUSES: Final = (1.0, 2.0, 5.0, 15.0, 60.0)

OnPoison = Literal["redrive", "move", "delete"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Poison:
    """What becomes of messages that nobody can read.

    A message that can be read is never given up here, however often it has been received.

    :param action: ``"redrive"`` leaves them to the queue's redrive policy; ``"move"`` sends them to
        ``queue``; ``"delete"`` deletes them.
    :param queue: URL for ``"move"``.
    :param receives: how often a message is received before that.
    """

    action: OnPoison = "redrive"
    queue: str | None = None
    receives: int = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Messages that were received together.

    :param events: the last event of each object that they name; two, where it is uncertain whether a removal
        came after a creation.
    :param messages: ids of those that are hidden until :meth:`Inbox.done` or :meth:`Inbox.release`.
    """

    events: tuple[ObjectCreated | ObjectRemoved, ...]
    messages: tuple[str, ...]


class Inbox:
    """One consumer of a queue. Errors of SQS never end it: they are logged, and tried again with pauses.

    :param client: aiobotocore SQS client.
    :param queue_url: of the queue.
    :param visibility_seconds: for how long messages are hidden at a time; they come back so much later when
        this process is killed.
    :param wait_seconds: of a long poll.
    :param batch_messages: most messages of a batch; in a burst several receives make one batch.
    :param in_flight: most messages that are hidden at the same time, which bounds memory.
    :param poison: what becomes of messages that nobody can read.
    """

    def __init__(
        self,
        client: Any,
        queue_url: str,
        *,
        visibility_seconds: int = 60,
        wait_seconds: int = MAX_WAIT_SECONDS,
        batch_messages: int = 100,
        in_flight: int = 2_000,
        poison: Poison | None = None,
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        #: of the queue
        self.name = queue_url.rstrip("/").rpartition("/")[2]
        self._visibility = visibility_seconds
        self._wait = wait_seconds
        self._batch_messages = batch_messages
        self._limit = max(in_flight, CALL_MESSAGES)
        #: what becomes of messages that nobody can read
        self.poison = poison or Poison()
        self._holding = Holding(client, queue_url, visibility_seconds=visibility_seconds)

    @property
    def held(self) -> int:
        """Messages that are hidden now."""
        return len(self._holding)

    async def batches(self) -> AsyncIterator[Batch]:
        """Receive for ever. Messages without events are deleted, and make no batch."""
        self._holding.start()
        while True:
            await self._holding.at_most(self._limit - CALL_MESSAGES)
            batch = await self._receive()
            if batch.events:
                yield batch
            elif batch.messages:
                await self.done([batch])

    async def done(self, batches: Sequence[Batch]) -> None:
        """Delete messages: their events are safe."""
        await self._holding.delete([name for batch in batches for name in batch.messages])

    async def release(self, batches: Sequence[Batch]) -> None:
        """Show messages again at once: their events are not safe, and somebody may try again."""
        await self._holding.release([name for batch in batches for name in batch.messages])

    async def aclose(self) -> None:
        """Give back what is held."""
        await self._holding.aclose()

    async def _receive(self) -> Batch:
        """One long poll, and short ones after it for as long as they come back full."""
        events: list[ObjectCreated | ObjectRemoved] = []
        names: list[str] = []
        wait, failures = self._wait, 0
        while True:
            try:
                answer = await self._client.receive_message(
                    QueueUrl=self._queue_url,
                    MaxNumberOfMessages=CALL_MESSAGES,
                    WaitTimeSeconds=wait,
                    VisibilityTimeout=self._visibility,
                    MessageSystemAttributeNames=["ApproximateReceiveCount"],
                )
            except Exception as error:  # of the network, of SQS, of the body of an answer
                if names:
                    break  # what there is goes first
                await self._pause(failures, error)
                failures += 1
                continue
            messages = answer.get("Messages", [])
            for message in messages:
                events += await self._take(message, names)
            more = len(messages) == CALL_MESSAGES and len(names) + CALL_MESSAGES <= self._batch_messages
            if not more or self.held + CALL_MESSAGES > self._limit:
                break
            wait = 0
        return Batch(events=tuple(candidates(events)), messages=tuple(names))

    async def _take(
        self, message: dict[str, Any], names: list[str]
    ) -> Sequence[ObjectCreated | ObjectRemoved]:
        """The events of a message, which is held from now on."""
        name = str(message["MessageId"])
        found = parse(message.get("Body", ""), name=f"message {name}")
        events = [one for one in found if not isinstance(one, Rejected)]
        rejected = [one for one in found if isinstance(one, Rejected) and not isinstance(one, Ignored)]
        if rejected and not events:
            await self._refuse(message, rejected[0].reason)
            return ()
        if not self._holding.take(name, str(message["ReceiptHandle"])):
            return ()
        for one in rejected:
            log.warning("queue %s: message %s: %s; its other records count", self.name, name, one.reason)
        names.append(name)
        return events

    async def _refuse(self, message: dict[str, Any], why: str) -> None:
        """A message that nobody can read: it is not held."""
        receives = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        action = self.poison.action if receives >= self.poison.receives else "redrive"
        end = "left to the queue's redrive policy"
        try:
            if action == "move":
                await self._client.send_message(QueueUrl=self.poison.queue, MessageBody=message["Body"])
            if action != "redrive":
                await self._client.delete_message(
                    QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"]
                )
                end = "moved" if action == "move" else "deleted"
        except Exception as error:  # as above
            end = f"it could not be put away: {reason(error)}"
        log.warning("queue %s: %s, received %d times: %s", self.name, why, receives, end)

    async def _pause(self, failures: int, error: Exception) -> None:
        seconds = _PAUSES[min(failures, len(_PAUSES) - 1)]
        log.log(
            logging.WARNING if is_passing(error) else logging.ERROR,
            "queue %s: nothing could be received: %s; next try in %.0f s",
            self.name,
            reason(error),
            seconds,
        )
        await asyncio.sleep(seconds)
