"""Events that can be read, from a source that gives all of a time or none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ReadFailed
from chunkwise.core.events.reading import Span, read_apart

NOW = datetime(2023, 12, 21, tzinfo=UTC)
WEEK = Span(begin=NOW - timedelta(days=7), end=NOW)


class Source:
    """Refuses every list with an event in it that cannot be read, as Airflow does.

    :ivar refused: how often it has.
    """

    def __init__(self, events: dict[datetime, bool]) -> None:
        self.events = events
        self.refused = 0

    def read(self, span: Span) -> Sequence[datetime]:
        found = [time for time in self.events if span.begin <= time <= span.end]
        if not all(self.events[time] for time in found):
            self.refused += 1
            raise ReadFailed("no")
        return found


times = st.integers(0, 7 * 24 * 3600).map(lambda seconds: NOW - timedelta(seconds=seconds))


@given(events=st.dictionaries(times, st.booleans(), max_size=60))
def test_what_lies_apart_from_what_cannot_be_read_is_read_and_nothing_is_passed_over(events):
    source = Source(events)
    found, unread = read_apart(source.read, WEEK)
    silent = {time for time in events if any(span.begin <= time <= span.end for span in unread)}
    assert set(found) | silent == set(events)
    assert all(events[time] for time in found)
    assert {time for time, readable in events.items() if not readable} <= silent
    assert unread == sorted(unread)
    assert all(one.end < other.begin for one, other in pairwise(unread))
    assert source.refused <= 25, "each may be tried for half a minute"


def test_one_event_of_a_week_keeps_back_few_minutes():
    stuck = NOW - timedelta(hours=30)
    events = {NOW - timedelta(minutes=10 * number): True for number in range(900)} | {stuck: False}
    found, (span,) = read_apart(Source(events).read, WEEK)
    assert span.end - span.begin < timedelta(minutes=5)
    assert span.begin <= stuck <= span.end
    assert len(set(found)) >= 898


def test_a_source_that_gives_nothing_at_all_is_an_error():
    calls: list[Span] = []

    def broken(span: Span) -> Sequence[datetime]:
        calls.append(span)
        raise ReadFailed("no API")

    with pytest.raises(ReadFailed, match="no API"):
        read_apart(broken, WEEK)
    assert len(calls) == 2
