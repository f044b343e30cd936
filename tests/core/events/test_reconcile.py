"""What a listing has that nobody was told of, however often and in whatever state one looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ReadFailed
from chunkwise.core.events.model import ObjectCreated
from chunkwise.core.events.reading import Span
from chunkwise.core.events.reconcile import Bounds, Ledger, Told, dump, events_since, load, reconcile

NOW = datetime(2023, 12, 21, tzinfo=UTC)
BOUNDS = Bounds(
    window=timedelta(days=7), grace=timedelta(minutes=15), patience=timedelta(hours=6), limit=1000
)
HOUR = timedelta(hours=1)


def stored(key: str, *, age: timedelta = HOUR, etag: str | None = "e") -> ObjectCreated:
    return ObjectCreated(bucket="b", key=key, event="ObjectCreated:Listed", etag=etag, time=NOW - age, size=1)


def told(*objects: ObjectCreated, ago: timedelta = HOUR, started: bool = True) -> Told:
    return Told(time=NOW - ago, started=started, objects=objects)


def missing(listed, events=(), ledger: Ledger | None = None, now: datetime = NOW) -> list[str]:
    found = reconcile(listed, ledger or Ledger(), events, now=now, bounds=BOUNDS)
    return [one.key for one in found.missing]


def test_what_no_event_names_is_missing():
    assert missing([stored("a"), stored("b")], [told(stored("a"))]) == ["b"]


def test_another_state_of_an_object_is_another_arrival():
    assert missing([stored("a", etag="2")], [told(stored("a", etag="1"))]) == ["a"]


def test_an_event_without_an_etag_tells_of_any_state():
    assert missing([stored("a", etag="2")], [told(stored("a", etag=None))]) == []


def test_what_has_only_just_arrived_and_what_is_old_is_not_looked_at():
    young, old = stored("a", age=timedelta(minutes=5)), stored("b", age=timedelta(days=8))
    assert missing([young, old]) == []
    assert missing([young], now=NOW + HOUR) == ["a"]


def test_an_event_that_started_nothing_is_waited_for_and_then_repeated():
    """As of a paused DAG."""
    pending = told(stored("a"), ago=HOUR, started=False)
    assert missing([stored("a")], [pending]) == []
    assert missing([stored("a")], [pending], now=NOW + timedelta(hours=7)) == ["a"]


def test_what_the_ledger_has_need_not_be_told_by_an_event():
    first = reconcile([stored("a")], Ledger(), [told(stored("a"))], now=NOW, bounds=BOUNDS)
    assert missing([stored("a")], ledger=first.ledger) == []


def test_sent_is_not_told_until_its_event_is_read():
    """A task that died after it wrote the ledger has sent nothing."""
    first = reconcile([stored("a")], Ledger(), [], now=NOW, bounds=BOUNDS)
    assert [one.key for one in first.missing] == ["a"]
    assert missing([stored("a")], ledger=first.ledger) == ["a"]
    assert missing([stored("a")], [told(stored("a"))], ledger=first.ledger) == []


def test_no_more_than_the_limit_is_sent_the_oldest_first():
    listed = [stored(str(number), age=HOUR * (number + 1)) for number in range(5)]
    bounds = Bounds(window=BOUNDS.window, grace=BOUNDS.grace, patience=BOUNDS.patience, limit=2)
    found = reconcile(listed, Ledger(), [], now=NOW, bounds=bounds)
    assert ([one.key for one in found.missing], found.left, found.looked_at) == (["4", "3"], 3, 5)


def test_events_are_read_again_only_from_the_first_that_is_open():
    done = [told(stored("a"), ago=HOUR * 3), told(stored("b"), ago=HOUR)]
    found = reconcile([stored("a"), stored("b")], Ledger(), done, now=NOW, bounds=BOUNDS)
    assert found.ledger.read_until == NOW - HOUR
    waiting = told(stored("c"), ago=HOUR * 2, started=False)
    found = reconcile([stored("c")], Ledger(), [*done, waiting], now=NOW, bounds=BOUNDS)
    assert found.ledger.read_until == NOW - HOUR * 2
    again = reconcile([], found.ledger, [], now=NOW, bounds=BOUNDS)
    assert again.ledger.read_until == NOW - HOUR * 2


def at_a_time(number: int) -> Bounds:
    return Bounds(window=BOUNDS.window, grace=BOUNDS.grace, patience=BOUNDS.patience, limit=number)


def test_none_leaves_the_window_untold_however_long_it_takes():
    """After an outage of more objects than the looks of a window can send."""
    listed = [stored(f"{number:03}") for number in range(240)]
    ledger, database, sent, now, most = Ledger(), [], [], NOW, 0
    for _ in range(241):
        now += HOUR
        found = reconcile(listed, ledger, database[-1:], now=now, bounds=at_a_time(1))
        if found.missing:
            database.append(Told(time=now, started=True, objects=found.missing))
        sent += [one.key for one in found.missing]
        ledger = load(dump(found.ledger), "s3://b/ledger")
        most = max(most, found.overdue)
    assert sent == [one.key for one in listed], "the oldest first, each once"
    assert most == 240 - 7 * 24 + 1
    assert (found.waiting, found.left, found.overdue, ledger.untold_since) == (0, 0, 0, None)
    assert missing(listed, ledger=ledger, now=now) == []


def test_what_waits_for_the_run_of_a_paused_dag_stays_in_the_window():
    pending = told(stored("a"), ago=HOUR, started=False)
    first = reconcile([stored("a")], Ledger(), [pending], now=NOW, bounds=BOUNDS)
    assert (first.waiting, first.missing) == (1, ())
    later = NOW + timedelta(days=30)
    found = reconcile([stored("a"), stored("b", age=2 * HOUR)], first.ledger, [], now=later, bounds=BOUNDS)
    assert [one.key for one in found.missing] == ["a"], "b was written before anything that is not told of"
    assert found.overdue == 1


def span(begin: timedelta, end: timedelta) -> Span:
    return Span(begin=NOW - begin, end=NOW - end)


def test_what_an_event_that_cannot_be_read_may_name_waits_and_all_else_is_sent():
    unread = [span(HOUR, HOUR * 0.75)]
    listed = [
        stored("older", age=HOUR * 1.5),
        stored("shortly before", age=HOUR * 1.2),
        stored("in it", age=HOUR * 0.9),
        stored("after it", age=HOUR * 0.5),
    ]
    found = reconcile(listed, Ledger(), [], now=NOW, bounds=BOUNDS, unread=unread)
    assert ([one.key for one in found.missing], found.waiting) == (["older", "after it"], 2)
    assert found.ledger.read_until == NOW - HOUR, "it is asked for again"
    assert found.ledger.untold_since == NOW - HOUR * 1.5
    patience_ends = NOW + timedelta(hours=6)
    found = reconcile(listed, Ledger(), [], now=patience_ends, bounds=BOUNDS, unread=unread)
    assert (len(found.missing), found.waiting, found.ledger.read_until) == (4, 0, None)


def test_what_was_sent_is_not_sent_again_while_its_event_cannot_be_read():
    listed = [stored("a", age=HOUR * 9)]
    first = reconcile(listed, Ledger(), [], now=NOW, bounds=BOUNDS)
    unread = [Span(begin=NOW, end=NOW + timedelta(minutes=1))]
    again = load(dump(first.ledger), "s3://b/ledger")
    for hours in range(1, 6):
        found = reconcile(listed, again, [], now=NOW + HOUR * hours, bounds=BOUNDS, unread=unread)
        again = found.ledger
        assert (found.missing, found.waiting) == ((), 1)
    assert missing(listed, ledger=again, now=NOW + HOUR) == ["a"], "it can be read, and is not there"
    assert missing(listed, ledger=again, now=NOW + HOUR * 7) == ["a"]


@given(
    objects=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from("12"), st.floats(0, 240)),
        max_size=12,
        unique_by=lambda one: one[0],
    ),
    events=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from("12"), st.floats(0, 100), st.booleans()),
        max_size=12,
    ),
)
def test_against_the_definition(objects, events):
    """Missing is what lies there for longer than the grace, and no event of its state tells of."""
    listed = [stored(key, etag=etag, age=HOUR * hours) for key, etag, hours in objects]
    all_told = [
        told(stored(key, etag=etag), ago=HOUR * ago, started=started) for key, etag, ago, started in events
    ]
    expected = {
        key
        for key, etag, hours in objects
        if 0.25 <= hours <= 7 * 24
        and not any((name, tag) == (key, etag) and (started or ago < 6) for name, tag, ago, started in events)
    }
    assert set(missing(listed, all_told)) == expected


@given(data=st.data())
def test_over_many_looks_everything_is_told_once_and_the_ledger_stays_small(data):
    """Objects come, events are lost, runs die before their event is stored, the database forgets, and looks
    are so far apart that what is left over leaves the window."""
    now, ledger = NOW, Ledger()
    bounds = at_a_time(data.draw(st.sampled_from([1, 2, 1000])))
    listed: list[ObjectCreated] = []
    database: list[Told] = []
    times_told: dict[str, int] = {}
    for look in range(data.draw(st.integers(2, 8))):
        for number in range(data.draw(st.integers(0, 3))):
            one = ObjectCreated(
                bucket="b", key=f"{look}.{number}", event="ObjectCreated:Listed", etag="e", time=now
            )
            listed.append(one)
            if data.draw(st.booleans(), label="its event came"):
                database.append(Told(time=now, started=True, objects=[one]))
                times_told[one.key] = times_told.get(one.key, 0) + 1
        # what comes between two looks is seen within the window of the next one
        now += HOUR * data.draw(st.sampled_from([1, 24, 6 * 24]))
        since = events_since(ledger, now, bounds)
        found = reconcile(
            listed, ledger, [event for event in database if event.time >= since], now=now, bounds=bounds
        )
        ledger = load(dump(found.ledger), "s3://b/ledger")
        assert len(ledger.told) <= len(listed)
        if found.missing and data.draw(st.booleans(), label="the run lived"):
            database.append(Told(time=now, started=True, objects=found.missing))
            for one in found.missing:
                times_told[one.key] = times_told.get(one.key, 0) + 1
        if ledger.read_until and data.draw(st.booleans(), label="the database was cleaned"):
            database = [event for event in database if event.time >= ledger.read_until]
    found = None
    while found is None or found.missing:
        now += HOUR
        since = events_since(ledger, now, bounds)
        events = [event for event in database if event.time >= since]
        found = reconcile(listed, ledger, events, now=now, bounds=bounds)
        ledger = found.ledger
        database.append(Told(time=now, started=True, objects=found.missing))
        for one in found.missing:
            times_told[one.key] = times_told.get(one.key, 0) + 1
    assert (found.left, found.waiting, found.overdue) == (0, 0, 0)
    assert times_told == {one.key: 1 for one in listed}


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"no", "is not a ledger"), (b'{"x": 1}', "is not a ledger"), (b'{"version": 2}', "newer Chunkwise")],
)
def test_what_is_no_ledger_is_said_so(body, says):
    with pytest.raises(ReadFailed, match=says) as failed:
        load(body, "s3://b/ledger")
    assert not failed.value.transient
