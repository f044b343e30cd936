"""Rows into a queue: as many in a message as go into one, and no message is left out quietly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from botocore.exceptions import ClientError

from chunkwise.core.errors import MessageTooLong, QueueError
from chunkwise.core.queue.held import CALL_MESSAGES
from chunkwise.core.storage.failures import CALL_ERRORS, is_passing, reason
from chunkwise.core.storage.retries import Retries
from chunkwise.core.units import KiB, MiB

#: SQS quotas: of a message, and of all messages of a batch together, since August 2025
MAX_MESSAGE: Final = MiB
MAX_BATCH: Final = MiB
#: rows are put together up to here, which queues with SQS's earlier limit take, too
FULL: Final = 256 * KiB
_RETRIES: Final = Retries(attempts=4)
#: how SQS names the limit of a queue: "Message must be shorter than 262144 bytes", "Batch requests cannot be
#: longer than 262144 bytes"
_LIMIT: Final = re.compile(r"(?:shorter|longer) than (\d+) bytes")


def messages(rows: Iterable[bytes], full: int = FULL) -> Iterator[bytes]:
    """Bodies of JSON Lines, in the order of the rows.

    :param rows: JSON texts of one line each, ``MAX_MESSAGE`` at most after :func:`sendable`.
    :param full: bytes up to which rows share a message.
    """
    some: list[bytes] = []
    size = 0
    for row in rows:
        if some and size + 1 + len(row) > full:
            yield b"\n".join(some)
            some, size = [], 0
        size += len(row) + (1 if some else 0)
        some.append(row)
    if some:
        yield b"\n".join(some)


def sendable(row: bytes) -> bytes:
    """A row without characters that SQS refuses: they are spelled with escapes, which means the same."""
    # API reference of SendMessage; in JSON they stand in strings only
    return row.replace(b"\xef\xbf\xbe", rb"\ufffe").replace(b"\xef\xbf\xbf", rb"\uffff")


def needs_spelling(rows: bytes | bytearray) -> bool:
    """Whether :func:`sendable` would change one of these rows."""
    return b"\xef\xbf\xbe" in rows or b"\xef\xbf\xbf" in rows


def send_rows(client: Any, queue_url: str, rows: Sequence[bytes], *, retries: Retries = _RETRIES) -> int:
    """Send all rows.

    :param client: boto3 SQS client.
    :param rows: JSON objects of one line each, as :func:`sendable` gives them.
    :return: how many messages they are.
    :raises MessageTooLong: a row is too long for this queue; none was sent, unless the queue's limit is below
        ``FULL``.
    :raises QueueError: not all could be sent; some may have been.
    """
    try:
        return _send_all(client, queue_url, rows, FULL, retries)
    except MessageTooLong as error:
        if error.limit >= FULL or any(len(row) > error.limit for row in rows):
            raise
        return _send_all(client, queue_url, rows, error.limit, retries)


def _send_all(client: Any, queue_url: str, rows: Sequence[bytes], full: int, retries: Retries) -> int:
    count = 0
    left: Iterable[bytes] = rows
    longest = max(range(len(rows)), key=lambda at: len(rows[at]), default=None)
    if longest is not None and len(rows[longest]) > full:
        # what a queue may refuse goes first, and alone: then nothing was sent before
        _send(client, queue_url, [rows[longest]], retries)
        count = 1
        left = (row for at, row in enumerate(rows) if at != longest)
    for batch in _batches(messages(left, full)):
        _send(client, queue_url, batch, retries)
        count += len(batch)
    return count


def _batches(bodies: Iterator[bytes]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for body in bodies:
        if some and (len(some) == CALL_MESSAGES or size + len(body) > MAX_BATCH):
            yield some
            some, size = [], 0
        some.append(body)
        size += len(body)
    if some:
        yield some


def _send(client: Any, queue_url: str, bodies: list[bytes], retries: Retries) -> None:
    name = queue_url.rpartition("/")[2]
    left = dict(enumerate(bodies))
    failures = 0
    while left:
        entries = [{"Id": str(at), "MessageBody": body.decode()} for at, body in left.items()]
        try:
            answer = client.send_message_batch(QueueUrl=queue_url, Entries=entries)
        except CALL_ERRORS as error:
            told = error.response.get("Error", {}) if isinstance(error, ClientError) else {}
            if len(left) > 1 and "BatchRequestTooLong" in str(told.get("Code")):
                for body in left.values():
                    _send(client, queue_url, [body], retries)
                return
            _check_length(name, [told])
            # what was not said to be sent is sent again: rows may come twice, and none is left out
            passing, why = is_passing(error), reason(error)
        else:
            for one in answer.get("Successful", ()):
                left.pop(int(one["Id"]), None)
            failed = answer.get("Failed", ())
            _check_length(name, failed)
            passing = not any(one.get("SenderFault") for one in failed)
            why = ", ".join(sorted({str(one.get("Code")) for one in failed})) or "no answer for some messages"
        if not left:
            return
        failures += 1
        if not passing or not retries.wait(failures):
            raise QueueError(
                f"queue {name}: {len(left)} of {len(bodies)} messages of a batch could not be sent: {why}",
                transient=passing,
            )


def _check_length(queue: str, errors: Iterable[Mapping[str, Any]]) -> None:
    """:raises MessageTooLong: that is what SQS says."""
    for error in errors:
        found = _LIMIT.search(str(error.get("Message")))
        if found:
            raise MessageTooLong(
                f"queue {queue} takes messages of {found[1]} bytes at most: raise its MaximumMessageSize",
                limit=int(found[1]),
            )
