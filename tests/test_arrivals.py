"""All objects of all events of a run, each once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.sdk import Asset
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.arrivals import ObjectCreated, ObjectRemoved, s3_objects
from chunkwise.core.errors import ArrivalsLost
from chunkwise.core.events.partitions import short
from tests.support.s3_events import s3_body, s3_record

ARRIVALS, OTHERS = Asset("arrivals"), Asset("others")


@dataclass
class Source:
    xcoms: dict[str, Any]

    def xcom_pull(self, *, key: str) -> Any:
        return self.xcoms.get(key)


@dataclass
class Event:
    extra: dict[str, Any] = field(default_factory=dict)
    source_task_instance: Any = None


def watched(*items: dict[str, Any]) -> Event:
    return Event({"from_trigger": True, "payload": {"objects": list(items)}})


def item(key: str, sequencer: str = "01", **members: Any) -> dict[str, Any]:
    return {"bucket": "b", "key": key, "event": "ObjectCreated:Put", "sequencer": sequencer, **members}


@given(
    batches=st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), max_size=5),
    others=st.lists(st.sampled_from("uvw"), max_size=3),
)
def test_every_object_of_every_event_of_every_asset_is_there_once(batches, others):
    events = {
        ARRIVALS: [watched(*(item(key) for key in batch)) for batch in batches],
        OTHERS: [watched(*(item(key) for key in others))],
    }
    found = [one.key for one in s3_objects(events)]
    assert sorted(found) == sorted({key for batch in batches for key in batch} | set(others))


def test_the_last_word_on_an_object_counts():
    gone = {**item("a", "02"), "event": "ObjectRemoved:Delete"}
    events = {ARRIVALS: [watched(gone), watched(item("a", "01"), item("b", "01", etag="e"))]}
    (found,) = s3_objects(events)
    assert isinstance(found, ObjectCreated)
    assert (found.key, found.etag) == ("b", "e")
    both = s3_objects(events, removed=True)
    assert [(type(one), one.key) for one in both] == [(ObjectRemoved, "a"), (ObjectCreated, "b")]


def test_deleting_an_old_version_takes_no_arrival_away():
    new = item("a", "01", version_id="v2")
    old = {**item("a", "02", version_id="v1"), "event": "LifecycleExpiration:Delete"}
    for removed in (False, True):
        (found,) = s3_objects({ARRIVALS: [watched(new), watched(old)]}, removed=removed)
        assert (type(found), found.version_id, found.uncertain) == (ObjectCreated, "v2", False)


def test_an_uncertain_removal_takes_no_arrival_away_and_is_told_to_who_asks_for_it():
    """As of a file that was deleted and written anew in one second, and found by a listing."""
    gone = {**item("a"), "event": "ObjectRemoved:Delete", "time": "2023-12-21T10:00:00.400Z"}
    listed = {"bucket": "b", "key": "a", "event": "ObjectCreated:Listed", "time": "2023-12-21T10:00:00Z"}
    events = {ARRIVALS: [watched(gone), watched(listed)]}
    assert [(type(one), one.uncertain) for one in s3_objects(events)] == [(ObjectCreated, True)]
    assert [type(one) for one in s3_objects(events, removed=True)] == [ObjectCreated, ObjectRemoved]


def test_events_of_amazons_trigger_and_of_the_reconciliation_are_read_too(caplog):
    message = {"MessageId": "1", "Body": s3_body(s3_record("b", "a b"))}
    amazons = Event({"from_trigger": True, "payload": {"status": "success", "message_batch": [message]}})
    reconciled = Event({"payload": {"objects": [item("c")]}})
    foreign = Event({"records": 7})
    found = s3_objects({ARRIVALS: [amazons, reconciled, foreign, Event()]})
    assert [one.key for one in found] == ["a b", "c"]
    assert "2 parts of the events of this run name no object" in caplog.text


def test_a_partition_has_its_own_objects_wherever_they_were_kept():
    mapping = {"x": [item("a")], "y": [item("b"), item("c")]}
    inline = Event({"partitions": mapping})
    kept = Event({"partitions": "in XCom"}, Source({"partitions": mapping}))
    for event in (inline, kept):
        assert [one.key for one in s3_objects({ARRIVALS: [event]}, partition_key="y")] == ["b", "c"]
        assert [one.key for one in s3_objects({ARRIVALS: [event]})] == ["a", "b", "c"]
    assert s3_objects({ARRIVALS: [inline]}, partition_key="z") == []


def test_a_partition_of_one_object_names_it_when_its_mapping_is_lost():
    lost = {ARRIVALS: [Event({"partitions": "in XCom"}, Source({}))]}
    (found,) = s3_objects(lost, partition_key="s3://b/a b.csv")
    assert (found.bucket, found.key) == ("b", "a b.csv")


LOST = [Event({"partitions": "in XCom"}, Source({})), Event({"partitions": "in XCom"})]


@pytest.mark.parametrize("event", LOST, ids=["no mapping", "no task"])
@pytest.mark.parametrize("key", ["s3://b/folder/", "2023-12-21", "s3://b/x...sha256:00", "s3://b", None])
def test_objects_that_are_lost_with_their_mapping_are_an_error(event: Event, key: str | None):
    """A run without them would succeed, and nobody would ever ask for them again."""
    kept = Event({"partitions": {"2023-12-21": [item("a")]}})
    for events in ([event], [kept, event]):
        with pytest.raises(ArrivalsLost, match="is gone: run the task that routed it again"):
            s3_objects({ARRIVALS: events}, partition_key=key)


def test_a_key_with_a_digest_says_nothing_without_its_mapping():
    """As in a run that somebody starts by hand."""
    key = short(f"s3://b/{'x' * 300}")
    with pytest.raises(ArrivalsLost, match="sha256"):
        s3_objects({}, partition_key=key)
    gone = {**item("a", "02"), "event": "ObjectRemoved:Delete"}
    assert s3_objects({ARRIVALS: [Event({"partitions": {key: [item("a"), gone]}})]}, partition_key=key) == []
    assert s3_objects({}, partition_key="2023-12-21") == []


def test_without_events_there_are_no_objects():
    assert s3_objects({}) == []
