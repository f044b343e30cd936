"""The fold of a log up to a version, as one small object of Chunkwise's own below ``_chunkwise/ledger/``.

With it a commit reads one snapshot and the few log entries behind it, however long the log is, and knows
every file that the table ever had, although log entries and vacuumed files are gone.

Only the writer of version v writes the snapshot of v, from what it has folded itself, so no two of them can
differ. The snapshot names the ETag of the log entry of its version: where that is no longer true, the log was
replaced (the table was made anew), and the snapshot is not believed.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.delta.ledger import LIMIT, Ledger
from chunkwise.core.delta.places import OWN, Table
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import ObjectExists, StorageError
from chunkwise.core.storage import objects
from chunkwise.core.units import GiB

log = logging.getLogger(__name__)

FOLDER: Final = f"{OWN}/ledger"
_SUFFIX: Final = ".ledger"
_FORMAT: Final = 1
#: a reader that has listed them may still be about to read an older one
_KEPT: Final = 3


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a snapshot; the records of the ledger follow it.

    :param format: of the object.
    :param version: of the table.
    :param commit: ETag of the log entry of this version.
    :param protocol: the action.
    :param metadata: the action.
    :param transactions: last version by app id.
    :param known_from: see :class:`~chunkwise.core.delta.state.TableState`.
    :param checkpoint: see there.
    """

    format: int
    version: int
    commit: str
    protocol: dict[str, Any]
    metadata: dict[str, Any]
    transactions: dict[str, int]
    known_from: int = 0
    checkpoint: int = -1


def list_snapshots(client: Any, table: Table, extra_args: Any = None) -> list[str]:
    """Keys of the snapshots of a table, the oldest first."""
    found = objects.list_objects(client, table.bucket, table.key(FOLDER) + "/", extra_args=extra_args)
    return [one.key for one in found if one.key.endswith(_SUFFIX)]


def read(client: Any, table: Table, key: str, extra_args: Any = None) -> tuple[TableState, str] | None:
    """The state in a snapshot, and the ETag of its version's log entry; ``None`` if it is gone or damaged."""
    found = objects.get(client, table.bucket, key, max_bytes=GiB, extra_args=extra_args)
    if found is None:
        return None
    line, _, records = found.body.partition(b"\n")
    try:
        head = decoding.decode(line, Head)
        ledger = Ledger(records)
    except (msgspec.MsgspecError, ValueError):
        log.warning("s3://%s/%s is damaged: the log is read instead", table.bucket, key)
        return None
    if head.format != _FORMAT:
        return None
    state = TableState(table.uri)
    state.version = state.snapshot = head.version
    state.protocol, state.metadata, state.transactions = head.protocol, head.metadata, dict(head.transactions)
    state.ledger, state.known_from, state.checkpoint = ledger, head.known_from, head.checkpoint
    return state, head.commit


def write(
    client: Any, table: Table, state: TableState, commit: str, *, limit: int = LIMIT, extra_args: Any = None
) -> None:
    """Write the snapshot of a version that this process has just committed, and delete old ones.

    :param commit: ETag of its log entry.
    :param limit: records that are kept at most.
    :raises StorageError: S3 refuses.
    """
    head = Head(
        format=_FORMAT,
        version=state.version,
        commit=commit,
        protocol=state.protocol,
        metadata=state.metadata,
        transactions=state.transactions,
        known_from=state.known_from,
        checkpoint=state.checkpoint,
    )
    records = state.ledger.folded(limit)
    body = msgspec.json.encode(head) + b"\n" + records
    key = table.key(FOLDER, f"{state.version:020d}{_SUFFIX}")
    arguments: dict[str, Any] = {"content_type": "application/octet-stream", "extra_args": extra_args}
    try:
        objects.put_new(client, table.bucket, key, body, **arguments)
    except ObjectExists:  # of a table that stood here before
        objects.delete(client, table.bucket, key, extra_args=extra_args)
        objects.put_new(client, table.bucket, key, body, **arguments)
    state.snapshot = state.version
    older = sorted(other for other in state.snapshots if other != key)[: 1 - _KEPT]
    state.snapshots = sorted({*state.snapshots, key} - set(older))
    try:
        objects.delete_all(client, table.bucket, older, extra_args=extra_args)
    except StorageError as error:
        log.warning("Old snapshots of %s stay: %s", table.uri, error)
