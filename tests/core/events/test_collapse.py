"""One event per object, whatever came twice or out of order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.events.collapse import candidates, collapse
from chunkwise.core.events.model import ObjectCreated, ObjectEvent, ObjectRemoved, event_of

START = datetime(2023, 12, 21, tzinfo=UTC)


def event(key: str, order: int, *, digits: int = 16, removed: bool = False, late: float = 0.0) -> ObjectEvent:
    kind = ObjectRemoved if removed else ObjectCreated
    return kind(
        bucket="b",
        key=key,
        event="ObjectRemoved:Delete" if removed else "ObjectCreated:Put",
        etag=None if removed else f"etag{order}",
        sequencer=f"{order:0{digits}X}",
        time=START + timedelta(seconds=late),
    )


@st.composite
def histories(draw):
    """What happened to some keys, and how it was delivered: at least once each, in any order."""
    happened = [
        event(key, number, removed=draw(st.booleans()), late=draw(st.floats(-5, 5)))
        for key in draw(st.lists(st.sampled_from("abc"), unique=True))
        for number in range(1, draw(st.integers(1, 5)) + 1)
    ]
    copies = [one for one in happened for _ in range(draw(st.integers(1, 3)))]
    return happened, draw(st.permutations(copies))


@given(history=histories())
def test_the_last_event_of_each_key_is_kept_however_they_were_delivered(history):
    happened, delivered = history
    last = {one.key: one for one in happened}  # clocks may lie: the sequencer does not
    assert {one.key: one for one in collapse(delivered)} == last
    assert len(collapse(delivered)) == len(last)


@given(history=histories(), data=st.data())
def test_collapsing_in_pieces_is_collapsing_at_once(history, data):
    _, delivered = history
    cut = data.draw(st.integers(0, len(delivered)))
    pieces = [*collapse(delivered[:cut]), *collapse(delivered[cut:])]
    assert set(collapse(pieces)) == set(collapse(delivered))


def test_keys_stay_in_the_order_in_which_they_came():
    found = collapse([event("b", 1), event("a", 1), event("b", 2), event("c", 1)])
    assert [one.key for one in found] == ["b", "a", "c"]


def test_the_same_key_in_two_buckets_is_two_objects():
    assert len(collapse([event("a", 1), replace(event("a", 2), bucket="other")])) == 2


@pytest.mark.parametrize("swap", [False, True])
def test_sequencers_of_different_lengths_decide_nothing_and_the_later_time_does(swap):
    earlier = event("a", 0xFF, digits=2, late=0)
    later = event("a", 0x01, digits=16, late=9)
    (found,) = collapse([later, earlier] if swap else [earlier, later])
    assert found.etag == later.etag
    assert found.uncertain


def test_upper_and_lower_case_are_the_same_digits():
    (found,) = collapse([replace(event("a", 0xB), sequencer="0b"), replace(event("a", 0xA), sequencer="0A")])
    assert found.sequencer == "0b"
    assert not found.uncertain


def test_a_duplicate_without_sequencer_is_no_doubt():
    """As an emulator sends them, and lifecycle rules."""
    one = ObjectCreated(bucket="b", key="k", event="ObjectCreated:Put", etag="e", size=1, time=START)
    assert collapse([one, one]) == [one]


@pytest.mark.parametrize("sequencer", [None, "", "not hexadecimal"])
def test_two_states_without_a_usable_sequencer_are_uncertain(sequencer):
    one = ObjectCreated(
        bucket="b", key="k", event="ObjectCreated:Put", etag="1", sequencer=sequencer, time=START
    )
    two = ObjectCreated(bucket="b", key="k", event="ObjectCreated:Put", etag="2", sequencer=sequencer)
    (found,) = collapse([one, two])
    assert (found.etag, found.uncertain) == ("1", True)


@given(
    delivered=st.lists(
        st.builds(
            ObjectCreated,
            bucket=st.just("b"),
            key=st.just("k"),
            event=st.just("ObjectCreated:Put"),
            etag=st.sampled_from(["1", "2"]),
            sequencer=st.sampled_from([None, "0A", "0B", "00C", "x"]),
            time=st.sampled_from([None, START, START + timedelta(seconds=1)]),
        ),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_the_order_of_delivery_never_decides(delivered, data):
    assert collapse(data.draw(st.permutations(delivered))) == collapse(delivered)


# --- versions ---------------------------------------------------------------------------------------------


class Bucket:
    """What S3 keeps of one key, by the S3 User Guide ("Deleting object versions from a versioning-enabled
    bucket" and its neighbours), and the events that it sends.

    :ivar stack: versions and delete markers, the last one shown; ``"null"`` is written without versioning.
    :ivar restored: whether something is shown again because what hid it was deleted for good.
    """

    def __init__(self) -> None:
        self.versioning = "off"
        self.stack: list[tuple[str, bool]] = []
        self.events: list[ObjectEvent] = []
        self.restored = False

    def put(self) -> None:
        self._write(marker=False)

    def delete(self) -> None:
        if self.versioning == "off":
            if self.stack:
                self.stack = []
                self._say("ObjectRemoved:Delete", "null")
            return
        self._write(marker=True)

    def delete_version(self, number: int) -> None:
        if not self.stack:
            return
        name, _ = self.stack.pop(number % len(self.stack))
        self.restored |= number % (len(self.stack) + 1) == len(self.stack)
        self._say("ObjectRemoved:Delete" if number % 2 else "LifecycleExpiration:Delete", name)

    @property
    def shown(self) -> str | None:
        """The version that the key shows."""
        return self.stack[-1][0] if self.stack and not self.stack[-1][1] else None

    def _write(self, *, marker: bool) -> None:
        name = f"v{len(self.events)}" if self.versioning == "on" else "null"
        self.stack = [one for one in self.stack if one[0] != name] + [(name, marker)]
        self._say("ObjectRemoved:DeleteMarkerCreated" if marker else "ObjectCreated:Put", name)

    def _say(self, what: str, name: str) -> None:
        number = len(self.events) + 1
        found = event_of(
            "b",
            "k",
            what,
            version_id=name,
            etag=f"e{number}" if what.startswith("ObjectCreated") else None,
            sequencer=f"{number:016X}",
            time=f"2023-12-21T10:00:{number:02}Z",
        )
        assert found is not None
        self.events.append(found)

    def creation(self) -> ObjectEvent:
        """The event that tells of what the key shows."""
        wanted = None if self.shown == "null" else self.shown
        return [one for one in self.events if isinstance(one, ObjectCreated) and one.version_id == wanted][-1]


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    """A key of a bucket whose versioning is off, and then on and suspended in turn."""
    bucket = Bucket()
    begins = draw(st.sampled_from([[], ["on"], ["put", "on"], ["put", "on", "put", "suspended"]]))
    steps = st.sampled_from(["put", "put", "delete", "version", "version", "on", "suspended"])
    for step in [*begins, *draw(st.lists(steps, max_size=7))]:
        if step in ("on", "suspended"):
            if step == "on" or bucket.versioning == "on":
                bucket.versioning = step
        elif step == "version":
            bucket.delete_version(draw(st.integers(0, 9)))
        else:
            getattr(bucket, step)()
    return bucket


@given(bucket=buckets(), data=st.data())
def test_what_a_versioned_bucket_shows_is_told_and_what_it_does_not_show_is_removed(bucket, data):
    delivered = data.draw(st.permutations([*bucket.events, *bucket.events[::2]]))
    found = collapse(delivered)
    assert candidates(delivered) == found, "nothing is uncertain"
    assert [isinstance(one, ObjectCreated) for one in found] == (
        [bucket.shown is not None] if delivered else []
    )
    if bucket.shown is not None:
        assert found == [bucket.creation()]


def blurred(event: ObjectEvent, how: str) -> ObjectEvent:
    """As it comes from an emulator, a lifecycle rule or a listing."""
    if how == "other length":
        return replace(event, sequencer=(event.sequencer or "").removeprefix("00"))
    changes: dict[str, Any] = {"bare": {"sequencer": None}, "listed": {"sequencer": None, "time": START}}
    return replace(event, **changes.get(how, {}))


@given(bucket=buckets(), data=st.data())
def test_whatever_the_order_is_worth_an_object_that_is_there_is_told(bucket, data):
    hows = st.sampled_from(["as it is", "other length", "bare", "listed"])
    delivered = data.draw(st.permutations([blurred(one, data.draw(hows)) for one in bucket.events]))
    if bucket.shown is not None:
        (found,) = collapse(delivered)
        assert isinstance(found, ObjectCreated)
        assert [type(one) for one in candidates(delivered)][:1] == [ObjectCreated]


@given(bucket=buckets(), data=st.data())
def test_an_object_that_is_there_is_told_in_pieces_and_of_some_of_its_events_too(bucket, data):
    """Unless it is shown again, which S3 does not tell."""
    if bucket.shown is None or bucket.restored:
        return
    creation = bucket.creation()
    others = [one for one in bucket.events if one is not creation and data.draw(st.booleans())]
    delivered = data.draw(st.permutations([creation, *others]))
    cut = data.draw(st.integers(0, len(delivered)))
    pieces = [*candidates(delivered[:cut]), *candidates(delivered[cut:])]
    assert collapse(delivered) == collapse(pieces) == [creation]


def removed(version: str | None, order: int, **members: Any) -> ObjectEvent:
    return replace(event("a", order, removed=True), version_id=version, **members)


def written(version: str | None, order: int) -> ObjectEvent:
    return replace(event("a", order), version_id=version)


@pytest.mark.parametrize("name", ["ObjectRemoved:Delete", "LifecycleExpiration:Delete"])
@pytest.mark.parametrize("version", ["v1", None], ids=["an old version", "the one before versions"])
def test_deleting_another_version_for_good_says_nothing_about_the_object(name, version):
    new = written("v2", 1)
    assert collapse([new, removed(version, 2, event=name)]) == [new]


def test_deleting_the_very_version_removes_it_in_any_order():
    """A version is never written again."""
    gone = removed("v2", 2)
    assert collapse([gone, written("v2", 1)]) == [gone]
    assert collapse([replace(gone, sequencer=None), written("v2", 1)]) == [replace(gone, sequencer=None)]
    assert collapse([written("v1", 0), written("v2", 1), gone]) == [written("v1", 0)]


def test_a_delete_marker_hides_what_came_before_and_not_when_it_is_deleted():
    marker = removed("m", 2, event="ObjectRemoved:DeleteMarkerCreated")
    assert collapse([written("v1", 1), marker, removed("v0", 3)]) == [marker]
    assert collapse([written("v1", 1), marker, removed("m", 3)]) == [written("v1", 1)]


@pytest.mark.parametrize(
    "changes",
    [{"sequencer": "62E1"}, {"sequencer": None}, {"time": START + timedelta(seconds=0.4)}],
    ids=["same time", "no sequencer", "a listing in whole seconds"],
)
def test_a_removal_that_may_have_come_first_does_not_keep_an_arrival_back(changes):
    """Whoever wants removals only is told of it as well."""
    new, gone = written(None, 2), removed(None, 1)
    gone = replace(gone, **changes)
    if "time" in changes:
        new = replace(new, sequencer=None, event="ObjectCreated:Listed")
    for delivered in ([new, gone], [gone, new]):
        assert collapse(delivered) == [replace(new, uncertain=True)]
        assert candidates(delivered) == [replace(new, uncertain=True), replace(gone, uncertain=True)]


def test_what_was_uncertain_in_a_part_stays_so():
    new = replace(written(None, 1), uncertain=True)
    assert collapse([new, removed(None, 2)]) == [new]
    assert collapse([removed("m", 2, event="ObjectRemoved:DeleteMarkerCreated"), new]) == [new]
