"""What a listing has that nobody was told of, however often and in whatever state one looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ReadFailed
from chunkwise.core.events.model import ObjectCreated
from chunkwise.core.events.reconcile import Bounds, Ledger, Told, dump, load, reconcile

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
    """Objects come, events are lost, runs die before their event is stored, the database forgets."""
    now, ledger = NOW, Ledger()
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
        now += HOUR
        since = ledger.read_until or NOW
        found = reconcile(
            listed, ledger, [event for event in database if event.time >= since], now=now, bounds=BOUNDS
        )
        ledger = load(dump(found.ledger), "s3://b/ledger")
        assert len(ledger.told) <= len(listed)
        if found.missing and data.draw(st.booleans(), label="the run lived"):
            database.append(Told(time=now, started=True, objects=found.missing))
            for one in found.missing:
                times_told[one.key] = times_told.get(one.key, 0) + 1
        if ledger.read_until and data.draw(st.booleans(), label="the database was cleaned"):
            database = [event for event in database if event.time >= ledger.read_until]
    now += HOUR
    since = ledger.read_until or NOW
    found = reconcile(
        listed, ledger, [event for event in database if event.time >= since], now=now, bounds=BOUNDS
    )
    for one in found.missing:
        times_told[one.key] = times_told.get(one.key, 0) + 1
    assert times_told == {one.key: 1 for one in listed}


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"no", "is not a ledger"), (b'{"x": 1}', "is not a ledger"), (b'{"version": 2}', "newer Chunkwise")],
)
def test_what_is_no_ledger_is_said_so(body, says):
    with pytest.raises(ReadFailed, match=says) as failed:
        load(body, "s3://b/ledger")
    assert not failed.value.transient
