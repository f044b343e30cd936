"""Which messages a table has already, although they are still in the queue.

A drain writes down whose rows it is about to commit, and forgets that when the messages are deleted. What is
left was written by a drain that died: if its file is in the table, its messages must not become rows again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.delta.places import OWN, Table
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import DeleteFailed
from chunkwise.core.storage import objects
from chunkwise.core.units import MiB

#: SQS keeps no message for longer than 14 days (SetQueueAttributes, MessageRetentionPeriod)
_KEPT: Final = timedelta(days=15)
_LARGEST: Final = 64 * MiB


class Note(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one drain is about to commit.

    :param path: of its file in the table.
    :param messages: ids of those whose rows are in it.
    """

    path: str
    messages: list[str]


class Notes:
    """The notes of all drains into a table.

    :param client: boto3 S3 client.
    :param name: of the drain.
    """

    def __init__(self, client: Any, table: Table, name: str, extra_args: Mapping[str, Any] | None) -> None:
        self._client = client
        self._bucket = table.bucket
        self._front = table.key(OWN, "drains") + "/"
        self._key = f"{self._front}{name}.json"
        self._extra_args = extra_args

    def write(self, path: str, messages: Collection[str]) -> None:
        """Write down what is to be committed."""
        body = msgspec.json.encode(Note(path=path, messages=list(messages)))
        objects.put_new(self._client, self._bucket, self._key, body, extra_args=self._extra_args)

    def forget(self) -> None:
        """The messages are deleted, or nothing was committed."""
        with suppress(DeleteFailed):  # it does no harm, and goes with its age
            objects.delete(self._client, self._bucket, self._key, extra_args=self._extra_args)

    def committed(self, state: TableState) -> frozenset[str]:
        """Messages whose rows are in the table, by the notes of other drains; old notes are removed.

        :raises LogDamaged: a note cannot be read.
        :raises ReadFailed: S3 refuses.
        """
        found: set[str] = set()
        old = []
        limit = datetime.now(UTC) - _KEPT
        for one in objects.list_objects(self._client, self._bucket, self._front, extra_args=self._extra_args):
            if one.key == self._key:
                continue
            if one.last_modified < limit:
                old.append(one.key)
                continue
            small = objects.get(
                self._client, self._bucket, one.key, max_bytes=_LARGEST, extra_args=self._extra_args
            )
            if small is None:
                continue  # its drain has just ended
            note = decoding.decode(small.body, Note)
            if state.ledger.get(note.path) is not None:
                found.update(note.messages)
        if old:
            with suppress(DeleteFailed):
                objects.delete_all(self._client, self._bucket, old, extra_args=self._extra_args)
        return frozenset(found)
