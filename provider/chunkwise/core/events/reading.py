"""Events of a span of time from a source that gives all of them or none."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from chunkwise.core.errors import ReadFailed

T = TypeVar("T")

#: each refusal may take a client half a minute of tries
_HALVINGS: Final = 12
#: a span that is not cut any more
_LEAST: Final = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, order=True, slots=True)
class Span:
    """A time from ``begin`` to ``end``, both of it."""

    begin: datetime
    end: datetime


def read_apart(read: Callable[[Span], Sequence[T]], whole: Span) -> tuple[list[T], list[Span]]:
    """What can be read of a span, and the parts of it that cannot, in order.

    A part that cannot be read is halved, the longest first, until the rest is short or enough has been tried.
    What lies where two parts meet may be read twice.

    :param read: all of a span.
    :raises ReadFailed: ``read`` does, also where there is nothing: it is not what lies in the span.
    """
    try:
        return list(read(whole)), []
    except ReadFailed:
        read(Span(begin=whole.begin - _LEAST, end=whole.begin - _LEAST))
    found: list[T] = []
    unread: list[Span] = []
    halvings = _HALVINGS
    refused = [(whole.begin - whole.end, whole)]
    while refused:
        _, span = heapq.heappop(refused)
        if not halvings or span.end - span.begin <= _LEAST:
            unread.append(span)
            continue
        halvings -= 1
        middle = span.begin + (span.end - span.begin) / 2
        for part in (Span(begin=span.begin, end=middle), Span(begin=middle, end=span.end)):
            try:
                found += read(part)
            except ReadFailed:
                heapq.heappush(refused, (part.begin - part.end, part))
    return found, _joined(unread)


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Neighbours as one."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.begin <= found[-1].end:
            found[-1] = Span(begin=found[-1].begin, end=max(span.end, found[-1].end))
        else:
            found.append(span)
    return found
