"""Messages of a queue, taken by one job within its bounds, and hidden from others until they are safe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal

from chunkwise.core.errors import ConfigError, QueueError
from chunkwise.core.storage.failures import CALL_ERRORS, is_passing, reason
from chunkwise.core.storage.retries import Retries

log = logging.getLogger(__name__)

#: SQS: messages of one call, API reference of ReceiveMessage and DeleteMessageBatch
CALL_MESSAGES: Final = 10
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
        if not 1 <= self.messages <= MAX_MESSAGES:
            raise ConfigError(
                f"max_messages is {self.messages}: it must be 1 to {MAX_MESSAGES}, because SQS hides no more"
            ).naming("max_messages")
        if self.bytes is not None and self.bytes < 1:
            raise ConfigError(f"max_bytes is {self.bytes}: it must be 1 or more").naming("max_bytes")
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
        if not 10 <= visibility_seconds <= MAX_VISIBILITY:
            raise ConfigError(
                f"visibility_timeout is {visibility_seconds}: it must be 10 to {MAX_VISIBILITY} seconds"
            ).naming("visibility_timeout")
        if not 1 <= wait_seconds <= MAX_WAIT:
            raise ConfigError(
                f"wait_time_seconds is {wait_seconds}: it must be 1 to {MAX_WAIT}; a shorter poll does not"
                " ask all servers of SQS, so that nothing would prove the queue empty"
            ).naming("wait_time_seconds")
        self._client = client
        self._url = queue_url
        self._name = queue_url.rpartition("/")[2]
        self._limits = limits or Limits()
        self._visibility = visibility_seconds
        self._wait = wait_seconds
        self._retries = retries
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()
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
        with self._lock:
            return list(self._held)

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
            every = _Told()
            for told in self._in_tens(left, self._delete, leaving=True):
                with self._lock:
                    for name in (*told.done, *told.refused):
                        self._held.pop(name, None)
                self.deleted += len(told.done)
                every.add(told)
            lost += len(every.refused)
            left = every.failed
            if not left:
                break
            failures += 1
            if not self._retries.wait(failures):
                log.error("queue %s: %d messages could not be deleted: %s", self._name, len(left), every.why)
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
        names = self.ids()
        for _ in self._in_tens(names, lambda entries: self._hide(entries, 0)):
            if self._clock() >= until:
                break
        self._held.clear()

    def __enter__(self) -> Drain:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- calls ----------------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Hide again what was hidden a third of the visibility time-out ago, whatever is deleted meanwhile."""
        due = self._clock() - self._visibility / 3
        with self._lock:
            names = [name for name, held in self._held.items() if held.since <= due]
        undone, whys = 0, set()
        since = self._clock()
        for told in self._in_tens(names, lambda entries: self._hide(entries, self._visibility)):
            with self._lock:
                for name in told.done:
                    if name in self._held:
                        self._held[name].since = since
                # SQS knows no receipt of what was deleted since, or has given a new one
                missed = [
                    name
                    for name in (*told.refused, *told.failed)
                    if (held := self._held.get(name)) is not None
                    and not held.leaving
                    and held.receipt == told.receipts[name]
                ]
            undone += len(missed)
            whys |= told.whys if missed else set()
            if self._end.is_set():
                break
            since = self._clock()
        if undone:
            log.warning(
                "queue %s: %d messages could not be hidden again: %s",
                self._name,
                undone,
                ", ".join(sorted(whys)),
            )

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
        """Whether a message is new here. Of one that is held, only the new receipt is good from now on."""
        name = str(message["MessageId"])
        with self._lock:
            is_new = name not in self._held
            self._held[name] = _Held(receipt=str(message["ReceiptHandle"]), since=self._clock())
        if not is_new:
            self.redelivered += 1
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="chunkwise-hide-messages", daemon=True)
            self._keeper.start()
        return is_new

    def _in_tens(
        self,
        names: Sequence[str],
        call: Callable[[list[dict[str, Any]]], dict[str, Any]],
        *,
        leaving: bool = False,
    ) -> Iterator[_Told]:
        """Make a call for messages that are still held, ten at a time. What fails is told, not raised."""
        for start in range(0, len(names), CALL_MESSAGES):
            told = _Told()
            with self._lock:
                for name in names[start : start + CALL_MESSAGES]:
                    held = self._held.get(name)
                    if held is not None:
                        told.receipts[name] = held.receipt
                        held.leaving = held.leaving or leaving
            if not told.receipts:
                continue
            some = list(told.receipts)
            entries = [{"Id": str(at), "ReceiptHandle": told.receipts[name]} for at, name in enumerate(some)]
            try:
                answer = call(entries)
            except Exception as error:  # of the network, of SQS, of the body of an answer
                told.failed += some
                told.whys.add(reason(error))
            else:
                told.done += [some[int(one["Id"])] for one in answer.get("Successful", ())]
                for one in answer.get("Failed", ()):
                    (told.refused if one.get("SenderFault") else told.failed).append(some[int(one["Id"])])
                    told.whys.add(str(one.get("Code")))
            yield told

    def _delete(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        return dict(self._client.delete_message_batch(QueueUrl=self._url, Entries=entries))

    def _hide(self, entries: list[dict[str, Any]], seconds: int) -> dict[str, Any]:
        return dict(
            self._client.change_message_visibility_batch(
                QueueUrl=self._url, Entries=[{**entry, "VisibilityTimeout": seconds} for entry in entries]
            )
        )


@dataclass(slots=True)
class _Held:
    """A message that is hidden.

    :param since: when it was hidden last.
    :param leaving: SQS was asked to delete it.
    """

    receipt: str
    since: float
    leaving: bool = False


@dataclass(slots=True)
class _Told:
    """What SQS said to a call about messages.

    :param receipts: of the messages that it was about.
    :param done: it did it.
    :param refused: it will not, however often it is asked: the receipt is no longer good.
    :param failed: it did not.
    """

    receipts: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    whys: set[str] = field(default_factory=set)

    def add(self, other: _Told) -> None:
        """What it said to another call."""
        self.refused += other.refused
        self.failed += other.failed
        self.whys |= other.whys

    @property
    def why(self) -> str:
        """Codes and reasons."""
        return ", ".join(sorted(self.whys))
