"""One event per object: duplicates and what came out of order are told by the sequencer.

S3 delivers each event at least once, in any order. Its ``sequencer`` is a hexadecimal number, larger in
a later event of the same key. The pages of AWS disagree on which side a shorter one is to be padded, so only
sequencers of one length are compared. Where they decide nothing, neither does the time, which a listing knows
in seconds, and of a multipart upload from its beginning: a creation that may be the last word is told, and
marked as uncertain, for only the object itself can tell.

A deletion for good (``:Delete``) removes the version that it names and no other one, were it the object or a
delete marker; without a version it removes what was written without one, as in a bucket without versions.
Only a delete marker hides all that was written before it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from chunkwise.core.events.model import ObjectCreated, ObjectEvent, ObjectRemoved

E = TypeVar("E", bound=ObjectCreated | ObjectRemoved)

_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)
_HEX: Final = frozenset("0123456789ABCDEF")


def collapse(events: Iterable[E]) -> list[E]:
    """The last event of each key, in the order in which the keys first came up.

    The result does not depend on the order of the events of one key. An object that is there is never told as
    removed if its creation is among the events. One whose creation was left out of an earlier result, because
    a later version or a delete marker hid it, is not told of when that is deleted for good: S3 does not tell
    of it either. An event is uncertain if another one that differs may be the last one.
    """
    return [found[0] for found in _by_key(events)]


def candidates(events: Iterable[E]) -> list[E]:
    """As :func:`collapse`, for those who want only some kinds of events.

    Where a creation is told in spite of a removal that may have come after it, the removal follows.
    """
    return [one for found in _by_key(events) for one in found]


def state(event: ObjectEvent) -> Hashable:
    """What two events have in common that tell of the same object."""
    return type(event), event.version_id, event.etag, event.size


def _by_key(events: Iterable[E]) -> list[list[E]]:
    by_key: dict[tuple[str, str], list[E]] = {}
    for event in events:
        by_key.setdefault((event.bucket, event.key), []).append(event)
    return [found if len(found) == 1 else _lasts(found) for found in by_key.values()]


def _lasts(events: Sequence[E]) -> list[E]:
    """The last of the events of one key; if that is uncertain, and a creation, the last removal as well."""
    deletions = [event for event in events if _deletes_for_good(event)]
    there, doubtful = _survivors(events, deletions)
    latest: dict[int, str] = {}
    for event in there:
        digits = _digits(event)
        latest[len(digits)] = max(digits, latest.get(len(digits), ""))
    possible = [event for event in there if _digits(event) == latest[len(_digits(event))]] + doubtful
    kinds: dict[bool, list[E]] = {True: [], False: []}
    for event in possible:
        kinds[isinstance(event, ObjectCreated)].append(event)
    created, removed = kinds[True], kinds[False]
    if not created:
        return [_last(removed or deletions)]
    last = _last(created)
    if doubtful:  # one of these may have removed it
        removed += [event for event in deletions if event.version_id is None]
    if removed or doubtful:
        last = replace(last, uncertain=True)
    return [last, *([replace(_last(removed), uncertain=True)] if removed else [])]


def _survivors(events: Sequence[E], deletions: Sequence[E]) -> tuple[list[E], list[E]]:
    """What was written, delete markers included, and not deleted for good; and that which may have been."""
    gone = {event.version_id for event in deletions} - {None}
    # without a version there may be several deletions, of what was written anew each time
    until: dict[int, str] = {}
    for event in deletions:
        if event.version_id is None:
            digits = _digits(event)
            until[len(digits)] = max(digits, until.get(len(digits), ""))
    there: list[E] = []
    doubtful: list[E] = []
    for event in events:
        if _deletes_for_good(event) or (event.version_id in gone and not event.uncertain):
            continue
        if event.uncertain:
            doubtful.append(event)  # it stands for others that may be the last one
        elif event.version_id is not None or not until:
            there.append(event)
        else:
            digits = _digits(event)
            comparable = until.get(len(digits), "") if digits else ""
            if comparable > digits:
                continue
            others = until.keys() - {len(digits)} if digits else until.keys()
            (doubtful if others or comparable == digits else there).append(event)
    return there, doubtful


def _deletes_for_good(event: ObjectEvent) -> bool:
    return isinstance(event, ObjectRemoved) and not event.marker


def _last(events: Sequence[E]) -> E:
    """The last of some events of one key."""
    by_length: dict[int, list[E]] = {}
    for event in events:
        by_length.setdefault(len(_digits(event)), []).append(event)
    # within one length the sequencer decides; those that have none are of length 0 and all equal in it
    lasts = [max(group, key=lambda event: (_digits(event), *_by_time(event))) for group in by_length.values()]
    last = max(lasts, key=_by_time)
    rivals = [*lasts, *by_length.get(0, ())]
    uncertain = last.uncertain or any(state(rival) != state(last) for rival in rivals)
    return replace(last, uncertain=uncertain) if uncertain != last.uncertain else last


def _digits(event: ObjectEvent) -> str:
    """The sequencer, comparable as a text; empty where there is none."""
    digits = (event.sequencer or "").upper()
    return digits if _HEX.issuperset(digits) else ""


def _by_time(event: ObjectEvent) -> tuple[Any, ...]:
    """By time; what follows only makes the choice the same every time."""
    return (
        event.time or _BEFORE_ALL,
        _digits(event),
        event.sequencer or "",
        event.event,
        event.version_id or "",
        event.etag or "",
        -1 if event.size is None else event.size,
        event.uncertain,
    )
