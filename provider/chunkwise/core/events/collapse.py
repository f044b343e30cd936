"""One event per object: duplicates and what came out of order are told by the sequencer.

S3 delivers each event at least once, in any order. Its ``sequencer`` is a hexadecimal number, larger in
a later event of the same key. The pages of AWS disagree on which side a shorter one is to be padded, so only
sequencers of one length are compared; where that decides nothing the later time does, and the event is marked
as uncertain: only the object itself can tell.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from chunkwise.core.events.model import ObjectCreated, ObjectEvent, ObjectRemoved

E = TypeVar("E", bound=ObjectCreated | ObjectRemoved)

_BEFORE_ALL: Final = datetime.min.replace(tzinfo=UTC)
_HEX: Final = frozenset("0123456789ABCDEF")


def collapse(events: Iterable[E]) -> list[E]:
    """The last event of each key, in the order in which the keys first came up.

    The result does not depend on the order of the events of one key. An event that is in it is uncertain if
    two events of its key differ, and cannot be ordered by their sequencers.
    """
    by_key: dict[tuple[str, str], list[E]] = {}
    for event in events:
        by_key.setdefault((event.bucket, event.key), []).append(event)
    return [_last(found) for found in by_key.values()]


def state(event: ObjectEvent) -> Hashable:
    """What two events have in common that tell of the same object."""
    return type(event), event.version_id, event.etag, event.size


def _last(events: list[E]) -> E:
    """The last of the events of one key."""
    if len(events) == 1:
        return events[0]
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
