"""Read the log of a table: from the newest snapshot on, or from its beginning or a checkpoint of Delta."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from chunkwise.core.delta import snapshots
from chunkwise.core.delta.places import LOG, Table
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import LogDamaged, UnsupportedTable
from chunkwise.core.storage import objects
from chunkwise.core.storage.objects import Listed, Small
from chunkwise.core.units import MiB

log = logging.getLogger(__name__)

#: a commit of 100,000 files with statistics has some 50 MB
_LARGEST_COMMIT: Final = 512 * MiB
_COMMIT: Final = re.compile(r"(\d{20})\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet")
_NEWER_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint\.[0-9a-f-]{36}\.(?:json|parquet)")
_READERS: Final = 8
#: log entries that are read one by one rather than from a checkpoint
_SHORT: Final = 100
_ROUNDS: Final = 5


def version_of(name: str) -> int | None:
    """The version of a log entry by its name; ``None``: it is none."""
    match = _COMMIT.fullmatch(name)
    return None if match is None else int(match[1])


def entry_of(
    client: Any, table: Table, version: int, *, extra_args: Mapping[str, Any] | None = None
) -> Small | None:
    """The log entry of a version; ``None``: it is not there, or no more.

    :raises ReadFailed: S3 refuses, or failed at every attempt.
    """
    key = table.commit_key(version)
    return objects.get(client, table.bucket, key, max_bytes=_LARGEST_COMMIT, extra_args=extra_args)


def actions_of(
    client: Any, table: Table, version: int, *, extra_args: Mapping[str, Any] | None = None
) -> list[dict[str, Any]] | None:
    """What a version did; ``None``: its entry is gone, or cannot be read.

    :raises ReadFailed: see :func:`entry_of`.
    """
    found = entry_of(client, table, version, extra_args=extra_args)
    if found is None:
        return None
    try:
        return [msgspec.json.decode(line) for line in found.body.splitlines() if line.strip()]
    except msgspec.MsgspecError:
        return None


def load(client: Any, table: Table, *, extra_args: Mapping[str, Any] | None = None) -> TableState:
    """The table as it is now; version -1 if there is none.

    Two listings, one snapshot and the log entries behind it.

    :raises LogDamaged: the log has a gap, or what it has cannot be read.
    :raises UnsupportedTable: it has a checkpoint of a kind that only newer protocols have.
    :raises ReadFailed: S3 refuses, or failed at every attempt.
    """
    for _ in range(_ROUNDS):
        keys = snapshots.list_snapshots(client, table, extra_args)
        if not keys:
            return _from_log(client, table, [], extra_args)
        found = snapshots.read(client, table, keys[-1], extra_args)
        if found is None:
            if keys[-1] not in snapshots.list_snapshots(client, table, extra_args):
                continue  # somebody was faster, and has written newer ones
            return _from_log(client, table, keys, extra_args)
        state, etag = found
        state.snapshots = keys
        entries = _entries(client, table, state, state.version, extra_args)
        if state.version in entries and entries[state.version].etag == etag:
            _fold(client, table, state, entries, extra_args)
            return state
        anew = _from_log(client, table, keys, extra_args)
        if (
            state.version not in entries
            and anew.version > state.version
            and anew.metadata.get("id") == state.metadata.get("id")
        ):
            # the log was cleaned beyond the snapshot: what that knew is still true
            anew.ledger.adopt(state.ledger)
        else:
            log.warning(
                "The ledger of %s is of another log than the one that stands there: it is made anew",
                table.uri,
            )
        return anew
    raise LogDamaged(f"the snapshots of {table.uri} vanish as fast as they are listed")


def load_whole(
    client: Any, table: Table, state: TableState, *, extra_args: Mapping[str, Any] | None = None
) -> None:
    """The same into a state of another kind, which the snapshots know nothing of: from the log alone.

    :param state: empty; its version is still -1 if there is no table.
    :raises LogDamaged: see :func:`load`, and the following two.
    """
    _read_log(client, table, state, extra_args)


def catch_up(
    client: Any, table: Table, state: TableState, *, extra_args: Mapping[str, Any] | None = None
) -> None:
    """Fold what others have committed since."""
    entries = _entries(client, table, state, state.version + 1, extra_args)
    _fold(client, table, state, entries, extra_args)


def level(
    client: Any,
    table: Table,
    one: TableState,
    other: TableState,
    *,
    extra_args: Mapping[str, Any] | None = None,
) -> None:
    """Bring two states to one version: each was read at its own moment."""
    while one.version != other.version:
        behind = one if one.version < other.version else other
        catch_up(client, table, behind, extra_args=extra_args)


def _entries(
    client: Any, table: Table, state: TableState, version: int, extra_args: Mapping[str, Any] | None
) -> dict[int, Listed]:
    """The log entries from a version on; the state is told of checkpoints among them."""
    front = table.key(LOG) + "/"
    found: dict[int, Listed] = {}
    # a key is behind its own front
    after = f"{front}{max(0, version):020d}"
    for one in objects.list_objects(client, table.bucket, front, start_after=after, extra_args=extra_args):
        name = one.key[len(front) :]
        if match := _COMMIT.fullmatch(name):
            found[int(match[1])] = one
        elif match := _CHECKPOINT.fullmatch(name) or _NEWER_CHECKPOINT.fullmatch(name):
            state.checkpoint = max(state.checkpoint, int(match[1]))
    return found


def _fold(
    client: Any,
    table: Table,
    state: TableState,
    entries: Mapping[int, Listed],
    extra_args: Mapping[str, Any] | None,
) -> None:
    versions = sorted(version for version in entries if version > state.version)

    def read(version: int) -> bytes:
        found = entry_of(client, table, version, extra_args=extra_args)
        if found is None:
            raise LogDamaged(f"version {version} of {table.uri} vanished while the log was read")
        return found.body

    if len(versions) < 2:
        for version in versions:
            state.fold(version, read(version))
        return
    with ThreadPoolExecutor(min(_READERS, len(versions)), thread_name_prefix="chunkwise-log") as pool:
        for version, body in zip(versions, pool.map(read, versions)):
            state.fold(version, body)


def _from_log(client: Any, table: Table, keys: list[str], extra_args: Mapping[str, Any] | None) -> TableState:
    """Without a snapshot."""
    state = TableState(table.uri)
    state.snapshots = keys
    _read_log(client, table, state, extra_args)
    return state


def _read_log(client: Any, table: Table, state: TableState, extra_args: Mapping[str, Any] | None) -> None:
    """From version 0, or from the newest whole checkpoint where log entries are gone."""
    front = table.key(LOG) + "/"
    commits: dict[int, Listed] = {}
    parts: dict[int, dict[int, str]] = {}
    totals: dict[int, int] = {}
    newer = -1
    for one in objects.list_objects(client, table.bucket, front, extra_args=extra_args):
        name = one.key[len(front) :]
        if match := _COMMIT.fullmatch(name):
            commits[int(match[1])] = one
        elif match := _CHECKPOINT.fullmatch(name):
            version = int(match[1])
            parts.setdefault(version, {})[int(match[2] or 1)] = one.key
            totals[version] = int(match[3] or 1)
        elif match := _NEWER_CHECKPOINT.fullmatch(name):
            newer = max(newer, int(match[1]))
    state.checkpoint = max([state.checkpoint, newer, *parts])
    whole = [version for version, found in parts.items() if len(found) >= totals[version]]
    # a checkpoint forgets files that were removed long ago: the log is better where it is short and whole
    if whole and (0 not in commits or max(whole) > _SHORT):
        from chunkwise.core.delta import checkpoint_reader

        version = max(whole)
        checkpoint_reader.fold(client, table, state, version, sorted(parts[version].values()), extra_args)
    elif newer >= 0 and 0 not in commits:
        raise UnsupportedTable(f"{table.uri} has checkpoints of Delta's second version, which are not read")
    _fold(client, table, state, commits, extra_args)
