"""Tell the processors of a dispatch to end, and take it back."""

from __future__ import annotations

from datetime import UTC, datetime

from chunkwise.core.dispatch.model import Cancelled
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ObjectExists


def cancel(staging: Staging, *, by: str, group: int | None = None) -> None:
    """Mark a dispatch as cancelled. What is done stays done; who works on a chunk ends when he sees the mark.

    :param by: who did it, for whoever finds the mark.
    :param group: only this group of it.
    """
    mark = Cancelled(by=by, cancelled_at=datetime.now(UTC).isoformat(timespec="milliseconds"), group=group)
    try:
        staging.put_new(staging.cancelled_key(group), mark)
    except ObjectExists:
        return


def go_on(staging: Staging, *, group: int | None = None) -> None:
    """Take the mark away, and that of the whole dispatch: somebody wants the work to be done.

    :param group: only of this group; ``None``: of all of them.
    """
    if group is None:
        keys = [item.key for item in staging.list(f"{staging.prefix}cancelled.")]
    else:
        keys = [staging.cancelled_key(), staging.cancelled_key(group)]
    staging.delete(*keys)
