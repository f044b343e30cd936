"""One event per object, whatever came twice or out of order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.events.collapse import collapse
from chunkwise.core.events.model import ObjectCreated, ObjectEvent, ObjectRemoved

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
