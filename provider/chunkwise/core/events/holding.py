"""Messages of an SQS queue that are hidden from other consumers until they are deleted or given back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.storage.failures import reason

log = logging.getLogger(__name__)

#: SQS: messages of one call, API reference of ReceiveMessage and DeleteMessageBatch
CALL_MESSAGES: Final = 10
#: a consumer that ends gives back what it holds within this time, or leaves it to the visibility time-out
_FAREWELL_SECONDS: Final = 5.0


class Holding:
    """What one consumer has received and not yet deleted or given back.

    Hidden messages are hidden again before that runs out. One that is done but cannot be deleted stays
    hidden, and deleting is tried again, rather than handing out the same events anew. Nothing here raises
    because of SQS.

    :param client: aiobotocore SQS client.
    :param queue_url: of the queue.
    :param visibility_seconds: for how long messages are hidden at a time.
    :param clock: seconds.
    """

    def __init__(
        self,
        client: Any,
        queue_url: str,
        *,
        visibility_seconds: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._name = queue_url.rpartition("/")[2]
        self._visibility = visibility_seconds
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._less = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._held)

    def start(self) -> None:
        """Hide messages again from now on, in a task of its own."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"keep messages of {self._name}")

    def take(self, message_id: str, receipt: str) -> bool:
        """Hold a message that was received just now.

        :return: whether it is new here. One that is held already was shown too soon: its new receipt is the
            only one that can hide or delete it from now on.
        """
        held = self._held.get(message_id)
        self._held[message_id] = _Held(
            receipt=receipt, since=self._clock(), done=held is not None and held.done
        )
        return held is None

    async def at_most(self, number: int) -> None:
        """Wait until no more than so many messages are held."""
        while len(self._held) > number:
            self._less.clear()
            await self._less.wait()

    async def delete(self, message_ids: Sequence[str]) -> None:
        """Delete messages, now or as soon as SQS does it."""
        for name in message_ids:
            if name in self._held:
                self._held[name].done = True
        await self._delete(message_ids)

    async def release(self, message_ids: Sequence[str]) -> None:
        """Show messages at once, to whoever receives next."""
        await self._change(message_ids, 0)
        self._forget(message_ids)

    async def aclose(self) -> None:
        """Give back what is held, without waiting long for it."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._delete(self._done())
                await self._change(list(self._held), 0)
        self._held.clear()

    def _done(self) -> list[str]:
        return [name for name, held in self._held.items() if held.done]

    async def renew(self) -> None:
        """Delete what could not be deleted before; hide again what was hidden a third of the time ago."""
        await self._delete(self._done())
        due = self._clock() - self._visibility / 3
        await self._change([name for name, held in self._held.items() if held.since <= due], self._visibility)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._visibility / 6)
            await self.renew()

    async def _delete(self, names: Sequence[str]) -> None:
        async def call(entries: list[dict[str, Any]]) -> dict[str, Any]:
            answer: dict[str, Any] = await self._client.delete_message_batch(
                QueueUrl=self._queue_url, Entries=entries
            )
            self._forget(names[int(entry["Id"])] for entry in answer.get("Successful", []))
            return answer

        await self._ten_at_a_time(names, call, "deleted")

    async def _change(self, names: Sequence[str], seconds: int) -> None:
        async def call(entries: list[dict[str, Any]]) -> dict[str, Any]:
            now = self._clock()
            answer: dict[str, Any] = await self._client.change_message_visibility_batch(
                QueueUrl=self._queue_url,
                Entries=[{**entry, "VisibilityTimeout": seconds} for entry in entries],
            )
            for entry in answer.get("Successful", []):
                if (held := self._held.get(names[int(entry["Id"])])) is not None:
                    held.since = now
            return answer

        await self._ten_at_a_time(names, call, "hidden again" if seconds else "given back")

    async def _ten_at_a_time(
        self,
        names: Sequence[str],
        call: Callable[[list[dict[str, Any]]], Coroutine[Any, Any, dict[str, Any]]],
        what: str,
    ) -> None:
        """Make a call for all messages that are held; what fails stays held."""
        for start in range(0, len(names), CALL_MESSAGES):
            entries = [
                {"Id": str(start + at), "ReceiptHandle": self._held[name].receipt}
                for at, name in enumerate(names[start : start + CALL_MESSAGES])
                if name in self._held
            ]
            if not entries:
                continue
            try:
                failed = (await call(entries)).get("Failed", [])
            except Exception as error:  # of the network, of SQS, of the body of an answer
                log.warning(
                    "queue %s: %d messages could not be %s: %s", self._name, len(entries), what, reason(error)
                )
                continue
            if failed:
                self._failed(names, failed, what)

    def _failed(self, names: Sequence[str], failed: Sequence[dict[str, Any]], what: str) -> None:
        """Some messages of a call failed. With a receipt that is no longer good a message comes again."""
        lost = [names[int(one["Id"])] for one in failed if one.get("SenderFault")]
        self._forget(lost)
        codes = ", ".join(sorted({str(one.get("Code")) for one in failed}))
        log.warning(
            "queue %s: %d messages could not be %s (%s); %d of them are no longer held here",
            self._name,
            len(failed),
            what,
            codes,
            len(lost),
        )

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self._held.pop(name, None)
        self._less.set()


@dataclass(slots=True)
class _Held:
    """A message that is hidden.

    :param since: when it was hidden last.
    :param done: whether it may be deleted.
    """

    receipt: str
    since: float
    done: bool = False
