"""Tell the processors and the driver of a dispatch to end, and take it back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from chunkwise.core.dispatch.model import Cancelled
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ObjectExists
from chunkwise.core.storage.objects import Listed

_SIGNAL: Final = re.compile(r"/chunk_([0-9]{4})?\.(?:([^./]+)\.)?cancelled$")


class Signal(NamedTuple):
    """That there is a mark, among the states, so that the LIST of a poll shows it to who drives.

    :param key: of it.
    :param group: that was cancelled; ``None``: the whole dispatch.
    :param run: whose task was killed; ``None``: a person wants the group itself to end.
    """

    key: str
    group: int | None
    run: str | None


def cancel(staging: Staging, *, by: str, group: int | None = None, run: str | None = None) -> None:
    """Mark a dispatch as cancelled. What is done stays done; who works on a chunk ends when he sees the mark.

    Who drives it through functions ends at the next poll. But a mark that only tells of the end of one run is
    taken back by who drives the group all the same: it may come late, after the next run has begun.

    :param by: who did it, for whoever finds the mark.
    :param group: only this group of it.
    :param run: name of the run that has ended; ``None``: no run is to go on.
    """
    for key, mark in marks(staging, by=by, group=group, run=run):
        try:
            staging.put_new(key, mark)
        except ObjectExists:
            continue


def marks(
    staging: Staging, *, by: str, group: int | None, run: str | None
) -> tuple[tuple[str, Cancelled], tuple[str, Cancelled]]:
    """What is to be written where, in this order: for those who process, and for those who drive."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    mark = Cancelled(by=by, cancelled_at=now, group=group)
    of = ("" if group is None else f"{group:04d}") + ("" if run is None else f".{run}")
    return (staging.cancelled_key(group), mark), (f"{staging.state_prefix}chunk_{of}.cancelled", mark)


def signals(listed: Iterable[Listed]) -> Iterator[Signal]:
    """Those that a listing of the states shows."""
    for item in listed:
        if item.key.endswith(".cancelled") and (match := _SIGNAL.search(item.key)):
            yield Signal(item.key, None if match[1] is None else int(match[1]), match[2])


def go_on(staging: Staging, *, group: int | None = None) -> None:
    """Take the mark away, and that of the whole dispatch: somebody wants the work to be done.

    :param group: only of this group; ``None``: of all of them.
    """
    prefixes = [f"{staging.state_prefix}chunk_."]
    if group is None:
        keys = [item.key for item in staging.list(f"{staging.prefix}cancelled.")]
        prefixes = [f"{staging.state_prefix}chunk_"]
    else:
        keys = [staging.cancelled_key(), staging.cancelled_key(group)]
        prefixes.append(f"{staging.state_prefix}chunk_{group:04d}.")
    # the signals first: as long as a mark is found, a second call finds what this one left
    found = [signal.key for prefix in prefixes for signal in signals(staging.list(prefix))]
    staging.delete(*found, *keys)
