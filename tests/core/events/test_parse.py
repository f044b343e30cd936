"""Every form of an S3 event becomes the same objects, or a reason why not."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.events.model import Ignored, ObjectCreated, ObjectRemoved, Rejected
from chunkwise.core.events.parse import objects, parse
from tests.support.s3_events import TEST_EVENT, TIME, eventbridge, notification, s3_body, s3_record

BUCKET = "landing"
KNOWN = {"size": 1024, "etag": "d41d8cd98f00b204e9800998ecf8427e", "sequencer": "0055AED6DCD90281E5"}
WHEN = datetime(2023, 12, 21, 10, tzinfo=UTC)


def record(key: str) -> dict[str, Any]:
    return s3_record(
        BUCKET, key, size=KNOWN["size"], eTag=KNOWN["etag"], versionId="v1", sequencer=KNOWN["sequencer"]
    )


def bridged(key: str) -> dict[str, Any]:
    return eventbridge(BUCKET, key, version_id="v1", **KNOWN)


def plain(key: str) -> dict[str, Any]:
    return {
        "bucket": BUCKET,
        "key": key,
        "event": "ObjectCreated:Put",
        "version_id": "v1",
        "time": TIME,
        **KNOWN,
    }


FORMS: dict[str, Callable[[str], Any]] = {
    "S3 to SQS": lambda key: s3_body(record(key)),
    "S3 to Lambda": lambda key: {"Records": [record(key)]},
    "S3 to SNS to SQS": lambda key: notification(s3_body(record(key))),
    "S3 to SNS to Lambda": lambda key: {
        "Records": [{"EventSource": "aws:sns", "Sns": {"Message": s3_body(record(key))}}]
    },
    "S3 to SNS to SQS to Lambda": lambda key: {
        "Records": [{"eventSource": "aws:sqs", "body": notification(s3_body(record(key)))}]
    },
    "EventBridge to SQS": lambda key: json.dumps(bridged(key)),
    "EventBridge to SNS to SQS": lambda key: notification(json.dumps(bridged(key))),
    "EventBridge Pipes": lambda key: [{"messageId": "1", "body": json.dumps(bridged(key))}],
    "a message of boto3": lambda key: {"MessageId": "1", "Body": s3_body(record(key))},
    "amazon's SQS trigger": lambda key: {
        "status": "success",
        "message_batch": [{"Body": s3_body(record(key))}],
    },
    "Step Functions": lambda key: {"detail": bridged(key)["detail"], "time": TIME},
    "Chunkwise": lambda key: {"objects": [plain(key)]},
    "bucket and key": plain,
}
keys = st.text(min_size=1, max_size=60).filter(lambda key: max(key) < "\ud800" or max(key) > "\udfff")


@pytest.mark.parametrize("form", list(FORMS))
@given(key=keys)
def test_a_key_comes_back_from_every_form_by_the_rule_of_the_form(form, key):
    assert parse(FORMS[form](key)) == [
        ObjectCreated(
            bucket=BUCKET,
            key=key,
            event="ObjectCreated:Put",
            version_id="v1",
            size=1024,
            etag=KNOWN["etag"],
            sequencer=KNOWN["sequencer"],
            time=WHEN,
        )
    ]


@pytest.mark.parametrize("key", ["a+b c.csv", "100%.csv", "day=2023-12-21/%2B+.csv", "ü ä.csv"])
def test_keys_of_eventbridge_are_not_decoded_and_keys_of_records_are(key):
    assert [found.key for found in objects(bridged(key))] == [key]
    assert [found.key for found in objects({"Records": [record(key)]})] == [key]


def test_the_users_guide_of_eventbridge_is_read():
    """S3 User Guide, "EventBridge event message structure": the example of Object Created."""
    event = {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2021-11-12T00:00:00Z",
        "region": "ca-central-1",
        "resources": ["arn:aws:s3:::amzn-s3-demo-bucket1"],
        "detail": {
            "version": "0",
            "bucket": {"name": "amzn-s3-demo-bucket1"},
            "object": {
                "key": "example-key",
                "size": 5,
                "etag": "b1946ac92492d2347c6235b4d2611184",
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "617f08299329d189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }
    assert parse(event) == [
        ObjectCreated(
            bucket="amzn-s3-demo-bucket1",
            key="example-key",
            event="ObjectCreated:Put",
            version_id="IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            size=5,
            etag="b1946ac92492d2347c6235b4d2611184",
            sequencer="617f08299329d189",
            time=datetime(2021, 11, 12, tzinfo=UTC),
        )
    ]


@pytest.mark.parametrize(
    ("event", "name", "marker", "expired"),
    [
        (s3_record("b", "k", event="ObjectRemoved:Delete"), "ObjectRemoved:Delete", False, False),
        (
            s3_record("b", "k", event="s3:ObjectRemoved:DeleteMarkerCreated"),
            "ObjectRemoved:DeleteMarkerCreated",
            True,
            False,
        ),
        (s3_record("b", "k", event="LifecycleExpiration:Delete"), "LifecycleExpiration:Delete", False, True),
        (
            s3_record("b", "k", event="s3:LifecycleExpiration:DeleteMarkerCreated"),
            "LifecycleExpiration:DeleteMarkerCreated",
            True,
            True,
        ),
    ],
    ids=["delete", "marker", "expired", "expired marker"],
)
def test_removals_are_told_apart(event, name, marker, expired):
    (found,) = parse({"Records": [event]})
    assert isinstance(found, ObjectRemoved)
    assert (found.event, found.marker, found.expired) == (name, marker, expired)
    again = eventbridge(
        "b",
        "k",
        kind="Object Deleted",
        reason="Lifecycle Expiration" if expired else "DeleteObject",
        deletion="Delete Marker Created" if marker else "Permanently Deleted",
    )
    assert parse(again) == [found]


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("PutObject", "ObjectCreated:Put"),
        ("POST Object", "ObjectCreated:Post"),
        ("CopyObject", "ObjectCreated:Copy"),
        ("CompleteMultipartUpload", "ObjectCreated:CompleteMultipartUpload"),
        ("something else", "ObjectCreated:Unknown"),
    ],
)
def test_one_vocabulary_for_how_an_object_was_written(reason, name):
    assert [found.event for found in objects(eventbridge("b", "k", reason=reason))] == [name]


def test_topics_that_feed_topics_that_feed_a_queue_are_read_through():
    """Up to a batch of messages for Lambda, each with a notification in a notification."""
    body = s3_body(s3_record("b", "a b"))
    for _ in range(4):
        body = notification(body)
        assert [found.key for found in parse(body)] == ["a b"]
        for event in (
            {"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": body}]},
            {"message_batch": [{"MessageId": "1", "Body": body}]},
        ):
            assert [found.key for found in parse(event)] == ["a b"]


SECRET = "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (SECRET, "is not JSON"),
        (f"not JSON, {SECRET}", "is not JSON"),
        ("[" * 50_000, "is not JSON"),
        (7, "is not an object"),
        (None, "is not an object"),
        ({}, "is of no known form"),
        ({"card": SECRET}, "is of no known form"),
        ({"bucket": "b"}, "is of no known form"),
        ({"bucket": "b", "key": "k", "event": "ObjectTagging:Put"}, "not ObjectCreated"),
        ({"Records": [{"eventSource": "aws:dynamodb"}]}, "record 0 is of 'aws:dynamodb'"),
        ({"Records": [{"eventSource": "aws:sqs", "body": SECRET}]}, "is not JSON"),
        ({"Type": "Other", "Message": SECRET}, "not a Notification"),
        ({"source": "aws.ec2", "detail-type": "x", "detail": {}}, "not of 'aws.s3'"),
        (
            {"source": "aws.s3", "detail-type": "AWS API Call via CloudTrail", "detail": {}},
            "not Object Created",
        ),
        ({"source": "aws.s3", "detail-type": "Object Created", "detail": {}}, "no bucket and key"),
        (functools.reduce(lambda inner, _: [inner], range(20), {}), "more envelopes"),
    ],
)
def test_what_is_of_no_known_form_is_rejected_without_its_data(event, says):
    (found,) = parse(event)
    assert isinstance(found, Rejected)
    assert not isinstance(found, Ignored)
    assert says in found.reason
    assert SECRET not in found.reason


@pytest.mark.parametrize(
    "event",
    [
        TEST_EVENT,
        notification(TEST_EVENT),
        {"Records": [s3_record("b", "k", event="ObjectTagging:Put")]},
        {"Records": [s3_record("b", "k", event="s3:ObjectRestore:Completed")]},
        eventbridge("b", "k", kind="Object Tags Added"),
        {"Type": "SubscriptionConfirmation", "Message": "You have chosen ...", "SubscribeURL": "https://x"},
    ],
    ids=["test event", "wrapped test event", "tags", "restore", "tags of EventBridge", "subscription"],
)
def test_what_is_sent_beside_it_is_no_mistake(event):
    (found,) = parse(event)
    assert isinstance(found, Ignored)


@given(
    good=st.lists(keys, max_size=5),
    bad=st.lists(st.sampled_from([7, None, {}, {"eventSource": "aws:x"}]), max_size=5),
    data=st.data(),
)
def test_bad_records_do_no_harm_to_the_others(good, bad, data):
    mixed = data.draw(st.permutations([*map(record, good), *bad]))
    found = parse({"Records": mixed})
    assert sum(isinstance(one, Rejected) for one in found) == len(bad)
    assert sorted(one.key for one in found if isinstance(one, ObjectCreated)) == sorted(good)


MEMBERS = [
    "Records",
    "Message",
    "Type",
    "detail",
    "detail-type",
    "source",
    "bucket",
    "key",
    "name",
    "object",
    "objects",
    "body",
    "Body",
    "s3",
    "eventSource",
    "eventName",
    "message_batch",
    "event",
    "reason",
    "Sns",
    "Event",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(event=json_values)
def test_nothing_makes_it_raise(event):
    for value in (event, json.dumps(event)):
        assert all(isinstance(found, ObjectCreated | ObjectRemoved | Rejected) for found in parse(value))


@given(
    key=keys,
    event=st.sampled_from(["ObjectCreated:Put", "ObjectRemoved:Delete", "LifecycleExpiration:Delete"]),
    size=st.none() | st.integers(0, 2**50),
    etag=st.none() | st.just("e"),
    time=st.none() | st.datetimes(timezones=st.just(UTC)),
    uncertain=st.booleans(),
)
def test_what_goes_into_an_asset_event_comes_out_of_it(key, event, size, etag, time, uncertain):
    kind = ObjectCreated if event.startswith("ObjectCreated") else ObjectRemoved
    found = kind(bucket="b", key=key, event=event, size=size, etag=etag, time=time, uncertain=uncertain)
    assert parse(json.loads(json.dumps({"objects": [found.to_json()]}))) == [found]
