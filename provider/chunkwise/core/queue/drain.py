"""Messages of a queue, taken by one job within its bounds, and hidden from others until they are safe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

from chunkwise.core.choices import check_number
from chunkwise.core.errors import ConfigError, QueueError
from chunkwise.core.queue.held import CALL_MESSAGES, HeldMessages
from chunkwise.core.storage.failures import CALL_ERRORS, is_passing, reason
from chunkwise.core.storage.retries import Retries

log = logging.getLogger(__name__)

#: SQS: longest long poll, API reference of ReceiveMessage
MAX_WAIT: Final = 20
#: SQS: a message cannot be hidden for longer than 12 hours, API reference of ChangeMessageVisibility
MAX_VISIBILITY: Final = 43_200
#: SQS quotas: a standard queue has at most 120,000 messages in flight, for all of its consumers
MAX_MESSAGES: Final = 100_000
#: giving back what is held takes this long at most; the rest comes back when its visibility time-out ends
_FAREWELL_SECONDS: Final = 10.0
_RETRIES: Final = Retries()

Ended = Literal["empty", "max_messages", "max_bytes", "max_seconds"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received.

    :param id: which it keeps however often it is delivered.
    :param body: its text.
    :param receives: how often it has been received, this time included.
    """

    id: str
    body: str
    receives: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When a drain ends, even if the queue is not empty.

    :param messages: at most; each costs about 1 kB of memory until it is deleted.
    :param bytes: of bodies; the call that goes beyond is the last one.
    :param seconds: after which nothing more is received.
    """

    messages: int = 20_000
    bytes: int | None = None
    seconds: float = 600.0

    def __post_init__(self) -> None:
        check_number("max_messages", self.messages, 1, MAX_MESSAGES, why=", because SQS hides no more")
        if self.bytes is not None:
            check_number("max_bytes", self.bytes, 1)
        check_number("max_seconds", self.seconds, 0, whole=False)
        if not 0 < self.seconds <= MAX_VISIBILITY / 2:
            raise ConfigError(
                f"max_seconds is {self.seconds}: it must be more than 0, and {MAX_VISIBILITY // 2} at most:"
                " SQS hides no message for longer than 12 hours"
            ).naming("max_seconds")


class Drain:
    """One pass over a queue. Leaving it gives back whatever was not deleted.

    What was received is hidden again, in a thread of its own, before its visibility time-out ends. A message
    that is delivered a second time meanwhile is not handed out again.

    :param client: boto3 SQS client.
    :param queue_url: of the queue.
    :param limits: when it ends.
    :param visibility_seconds: for how long messages are hidden at a time; after a kill they come back so much
        later.
    :param wait_seconds: of a long poll; a queue that has nothing for so long counts as empty.
    :param retries: of a call that failed in a way that may pass.
    :param clock: seconds.
    :raises ConfigError: the numbers cannot work.
    """

    def __init__(
        self,
        client: Any,
        queue_url: str,
        *,
        limits: Limits | None = None,
        visibility_seconds: int = 300,
        wait_seconds: int = 5,
        retries: Retries = _RETRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_number("visibility_timeout", visibility_seconds, 10, MAX_VISIBILITY, why=" seconds")
        check_number(
            "wait_time_seconds",
            wait_seconds,
            1,
            MAX_WAIT,
            why="; a shorter poll does not ask all servers of SQS: nothing would prove the queue empty",
        )
        self._client = client
        self._url = queue_url
        self._name = queue_url.rstrip("/").rpartition("/")[2]
        self._limits = limits or Limits()
        self._visibility = visibility_seconds
        self._wait = wait_seconds
        self._retries = retries
        self._clock = clock
        self._held = HeldMessages(client, queue_url, clock)
        self._end = threading.Event()
        self._keeper: threading.Thread | None = None
        #: messages received, each counted once
        self.messages = 0
        #: bytes of their bodies
        self.bytes = 0
        #: deliveries of a message that was held already
        self.redelivered = 0
        #: messages deleted
        self.deleted = 0
        #: why nothing more was received, once :meth:`receive` is through
        self.ended: Ended | None = None

    def __len__(self) -> int:
        """Messages that are held."""
        return len(self._held)

    def ids(self) -> list[str]:
        """Of the messages that are held."""
        return self._held.ids()

    def receive(self) -> Iterator[Message]:
        """The messages, until the queue is empty or a limit is reached.

        :raises QueueError: SQS refuses, or failed at every attempt.
        """
        until = self._clock() + self._limits.seconds
        while True:
            self.ended = self._why_end(until)
            if self.ended is not None:
                return
            found = self._receive()
            if not found:
                self.ended = "empty"
                return
            new = [message for message in found if self._hold(message)]
            for message in new:
                self.messages += 1
                body = str(message.get("Body", ""))
                self.bytes += len(body.encode())
                receives = message.get("Attributes", {}).get("ApproximateReceiveCount", 1)
                yield Message(str(message["MessageId"]), body, int(receives))

    def delete(self, ids: Sequence[str] | None = None) -> int:
        """Delete messages: what they became is safe.

        What SQS does not delete is asked for again. What it will not delete comes again, which is said in the
        log and is no error: the job that made it safe is done.

        :param ids: of messages that are held; default: all that are.
        :return: how many of them were not deleted.
        """
        left = self.ids() if ids is None else list(ids)
        lost = failures = 0
        while left:
            told = self._held.delete(left)
            self.deleted += len(told.done)
            lost += len(told.refused)
            left = told.failed
            if not left:
                break
            failures += 1
            if not self._retries.wait(failures):
                log.error("queue %s: %d messages could not be deleted: %s", self._name, len(left), told.why)
                return lost + len(left)
        if lost:
            log.warning("queue %s: %d messages were shown again before they were deleted", self._name, lost)
        return lost

    def close(self) -> None:
        """Show what is held to others, at once as far as that takes a few seconds only."""
        self._end.set()
        if self._keeper is not None:
            self._keeper.join()
        until = self._clock() + _FAREWELL_SECONDS
        for _ in self._held.hide(self.ids(), 0):
            if self._clock() >= until:
                break
        self._held.forget()

    def __enter__(self) -> Drain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- calls ----------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Hide again what was hidden a third of the visibility time-out ago, and is still held."""
        undone, why = self._held.renew(self._visibility, self._visibility / 3, self._end)
        if undone:
            log.warning("queue %s: %d messages could not be hidden again: %s", self._name, undone, why)

    def _keep(self) -> None:
        while not self._end.wait(self._visibility / 6):
            try:
                self.renew()
            except Exception as error:  # without this thread every message would come again
                log.error("queue %s: messages could not be hidden again: %s", self._name, reason(error))

    def _why_end(self, until: float) -> Ended | None:
        if self.messages >= self._limits.messages:
            return "max_messages"
        if self._limits.bytes is not None and self.bytes >= self._limits.bytes:
            return "max_bytes"
        return "max_seconds" if self._clock() >= until else None

    def _receive(self) -> list[dict[str, Any]]:
        failures = 0
        while True:
            try:
                answer = self._client.receive_message(
                    QueueUrl=self._url,
                    MaxNumberOfMessages=min(CALL_MESSAGES, self._limits.messages - self.messages),
                    WaitTimeSeconds=self._wait,
                    VisibilityTimeout=self._visibility,
                    MessageSystemAttributeNames=["ApproximateReceiveCount"],
                )
            except CALL_ERRORS as error:
                failures += 1
                if not is_passing(error) or not self._retries.wait(failures):
                    raise QueueError(
                        f"queue {self._name}: nothing could be received: {reason(error)}",
                        transient=is_passing(error),
                    ) from error
                continue
            return list(answer.get("Messages", ()))

    def _hold(self, message: dict[str, Any]) -> bool:
        """Whether a message is new here."""
        is_new = self._held.hold(str(message["MessageId"]), str(message["ReceiptHandle"]))
        if not is_new:
            self.redelivered += 1
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="chunkwise-hide-messages", daemon=True)
            self._keeper.start()
        return is_new
