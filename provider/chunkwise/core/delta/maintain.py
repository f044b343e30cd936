"""What is done beside the commits, from one place: snapshots of the ledger, and Delta's checkpoints.

Only the writer of version v does what is due at v, so that two writers never write the same checkpoint (Delta
does not protect it). What fails here fails no commit: the next one that is due makes up for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.delta import snapshots
from chunkwise.core.delta.ledger import LIMIT
from chunkwise.core.delta.places import Table
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import ConfigError, StorageError

log = logging.getLogger(__name__)

EVERY: Final = 10
#: commits between two snapshots at most: what happens to the log while there is none cannot be proven later
_SNAPSHOTS: Final = 10

#: gets the URI of a table and a version
Checkpointer = Callable[[str, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Maintenance:
    """What is done beside the commits.

    :param every: commits between two checkpoints, 10 to 20 where many write. Snapshots are as frequent, and
        are written every 10 commits at least.
    :param checkpointer: writes a checkpoint of Delta; ``None``: nobody here does, and other readers read the
        whole log.
    :param ledger_limit: files that the ledger keeps at most.
    """

    every: int = EVERY
    checkpointer: Checkpointer | None = None
    ledger_limit: int = LIMIT

    def __post_init__(self) -> None:
        for name in ("every", "ledger_limit"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be 1 or more")

    def is_snapshot_due(self, state: TableState) -> bool:
        """Whether the version that was just committed is one for a snapshot."""
        if state.version == 0:
            return False
        every = min(self.every, _SNAPSHOTS)
        last = -1 if state.snapshot is None else state.snapshot
        return (
            state.version % every == 0
            # twice: whoever should have done it may have been killed, or has not finished yet
            or state.version - max(last, 0) >= 2 * every
            # somebody else has written a checkpoint: the log before it may be cleaned away
            or state.checkpoint > last
        )

    def is_checkpoint_due(self, state: TableState) -> bool:
        """The same for a checkpoint, at a version that has a snapshot."""
        return state.version % self.every == 0 or state.version - max(state.checkpoint, 0) >= 2 * self.every


def maintain(
    client: Any,
    table: Table,
    state: TableState,
    commit: str,
    maintenance: Maintenance,
    *,
    extra_args: Mapping[str, Any] | None = None,
) -> bool:
    """Do what is due after a commit of this process; whether it was.

    :param state: with the commit folded.
    :param commit: ETag of the commit.
    """
    if not maintenance.is_snapshot_due(state):
        return False
    try:
        # first: what a checkpoint lets others clean away must be in it
        snapshots.write(client, table, state, commit, limit=maintenance.ledger_limit, extra_args=extra_args)
    except StorageError as error:
        log.warning("The snapshot of version %d of %s was not written: %s", state.version, table.uri, error)
        return False
    if maintenance.checkpointer is not None and maintenance.is_checkpoint_due(state):
        try:
            maintenance.checkpointer(table.uri, state.version)
            state.checkpoint = state.version
        except Exception as error:  # deltalake raises what it likes, and the commit is done
            log.warning(
                "The checkpoint of version %d of %s was not written: %s",
                state.version,
                table.uri,
                type(error).__name__,
            )
    return True
