"""Messages that are hidden from others, by the receipts that they were given with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chunkwise.core.storage.failures import reason

#: SQS: messages of one call, API reference of ReceiveMessage and DeleteMessageBatch
CALL_MESSAGES: Final = 10


@dataclass(slots=True)
class Told:
    """What SQS said to calls about messages.

    :param receipts: of the messages that they were about.
    :param done: it did it.
    :param refused: it will not, however often it is asked: the receipt is no longer good.
    :param failed: it did not.
    """

    receipts: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    whys: set[str] = field(default_factory=set)

    def add(self, other: Told) -> None:
        """What it said to another call."""
        self.receipts |= other.receipts
        self.done += other.done
        self.refused += other.refused
        self.failed += other.failed
        self.whys |= other.whys

    @property
    def why(self) -> str:
        """Codes and reasons."""
        return ", ".join(sorted(self.whys))


class HeldMessages:
    """The messages of one drain. One thread may hide them again while another one receives and deletes.

    Calls are made ten at a time, and without a lock: a message that was deleted meanwhile is left out of the
    calls that follow. What fails is told, not raised.

    :param client: boto3 SQS client.
    :param queue_url: of the queue.
    :param clock: seconds.
    """

    def __init__(self, client: Any, queue_url: str, clock: Callable[[], float]) -> None:
        self._client = client
        self._url = queue_url
        self._clock = clock
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def ids(self) -> list[str]:
        """Of all that are held."""
        with self._lock:
            return list(self._held)

    def hold(self, name: str, receipt: str) -> bool:
        """Whether a message is new here. Of one that is held, only the new receipt is good from now on."""
        with self._lock:
            is_new = name not in self._held
            self._held[name] = _Held(receipt=receipt, since=self._clock())
        return is_new

    def forget(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._held.clear()

    def delete(self, names: Sequence[str]) -> Told:
        """Delete messages. What was deleted, or cannot be, is held no more."""
        every = Told()
        for told in self._in_tens(names, self._delete, leaving=True):
            with self._lock:
                for name in (*told.done, *told.refused):
                    self._held.pop(name, None)
            every.add(told)
        return every

    def hide(self, names: Sequence[str], seconds: int) -> Iterator[Told]:
        """Hide messages from now on, ten with each step; for 0 seconds: show them."""
        yield from self._in_tens(names, lambda entries: self._hide(entries, seconds))

    def renew(self, seconds: int, older: float, end: threading.Event) -> tuple[int, str]:
        """Hide again what was hidden some time ago.

        :param seconds: for how long.
        :param older: it was hidden so many seconds ago.
        :param end: the rest need not be hidden.
        :return: how many could not be hidden that are still held, and why.
        """
        due = self._clock() - older
        with self._lock:
            names = [name for name, held in self._held.items() if held.since <= due]
        undone, whys = 0, Told()
        since = self._clock()
        for told in self.hide(names, seconds):
            with self._lock:
                for name in told.done:
                    if name in self._held:
                        self._held[name].since = since
                missed = sum(self._is_missed(name, told) for name in (*told.refused, *told.failed))
            if missed:
                undone += missed
                whys.add(told)
            if end.is_set():
                break
            since = self._clock()
        return undone, whys.why

    def _is_missed(self, name: str, told: Told) -> bool:
        """SQS knows no receipt of what was deleted, and has given a new one to what it delivered again."""
        held = self._held.get(name)
        return held is not None and not held.leaving and held.receipt == told.receipts[name]

    def _in_tens(
        self,
        names: Sequence[str],
        call: Callable[[list[dict[str, Any]]], dict[str, Any]],
        *,
        leaving: bool = False,
    ) -> Iterator[Told]:
        for start in range(0, len(names), CALL_MESSAGES):
            told = Told()
            with self._lock:
                for name in names[start : start + CALL_MESSAGES]:
                    held = self._held.get(name)
                    if held is not None:
                        told.receipts[name] = held.receipt
                        held.leaving = held.leaving or leaving
            some = list(told.receipts)
            if not some:
                continue
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
