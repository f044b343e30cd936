"""What the operators of Delta tables let be done beside their commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chunkwise._aws import S3Hook
    from chunkwise.core.delta import Maintenance


def maintenance_of(hook: S3Hook, every: int, extra_args: Mapping[str, Any] | None) -> Maintenance:
    """Snapshots of the ledger, and checkpoints by deltalake.

    :param hook: of the task; deltalake gets its connection.
    :param every: commits between two of them; 0: no checkpoints.
    :param extra_args: as for ``put_object``.
    """
    # here, not above: DAGs are parsed often
    from chunkwise.core.delta import Maintenance, checkpointer, storage_options

    if not every:
        return Maintenance()
    return Maintenance(
        every=every,
        # when it is due, not now: credentials expire
        checkpointer=checkpointer(
            lambda: storage_options(
                hook.conn,
                hook.get_credentials(region_name=hook.conn_region_name),
                extra_args=extra_args,
            )
        ),
    )
