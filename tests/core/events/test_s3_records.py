"""What S3 says about arrivals becomes objects, or a reason why not."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.events.s3_records import ObjectCreated, Rejected, is_event, records

#: the example of the S3 User Guide, "Event message structure", as of version 2.2
EXAMPLE = {
    "Records": [
        {
            "eventVersion": "2.2",
            "eventSource": "aws:s3",
            "awsRegion": "us-west-2",
            "eventTime": "1970-01-01T00:00:00.000Z",
            "eventName": "ObjectCreated:CompleteMultipartUpload",
            "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "172.16.0.1"},
            "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "testConfigRule",
                "bucket": {"name": "amzn-s3-demo-bucket", "arn": "arn:aws:s3:::amzn-s3-demo-bucket"},
                "object": {
                    "key": "red+flower%2Bblue%20%C3%BC.jpg",
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                    "sequencer": "0055AED6DCD90281E5",
                },
            },
        }
    ]
}


def test_the_example_of_the_user_guide_is_read():
    assert records(EXAMPLE) == [
        ObjectCreated(
            bucket="amzn-s3-demo-bucket",
            key="red flower+blue ü.jpg",
            event="ObjectCreated:CompleteMultipartUpload",
            version_id="096fKKXTRTtl3on89fVO.nfljtsv6qko",
            size=1024,
            etag="d41d8cd98f00b204e9800998ecf8427e",
            sequencer="0055AED6DCD90281E5",
            time=datetime(1970, 1, 1, tzinfo=UTC),
        )
    ]


@given(key=st.text(min_size=1).filter(lambda key: key.isprintable()))
def test_any_key_comes_back(key):
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "b"}, "object": {"key": quote_plus(key)}},
    }
    (found,) = records({"Records": [record]})
    assert isinstance(found, ObjectCreated)
    assert (found.bucket, found.key, found.uri) == ("b", key, f"s3://b/{key}")


def test_the_version_null_and_missing_members_are_none():
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Copy",
        "eventTime": "never",
        "s3": {"bucket": {"name": "b"}, "object": {"key": "k", "versionId": "null"}},
    }
    (found,) = records({"Records": [record]})
    assert found == ObjectCreated(bucket="b", key="k", event="ObjectCreated:Copy")


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (7, "record 0 is not an object"),
        ({"eventSource": "aws:sqs", "body": "x"}, "'aws:sqs'"),
        ({"EventSource": "aws:sns"}, "'aws:sns'"),
        ({}, "'None'"),
        (
            {
                "eventSource": "aws:s3",
                "eventName": "s3:ObjectRemoved:Delete",
                "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}},
            },
            "'ObjectRemoved:Delete'",
        ),
        ({"eventSource": "aws:s3", "eventName": "ObjectRemoved:Delete"}, "no bucket and key"),
        ({"eventSource": "aws:s3", "eventName": "ObjectRestore:Completed"}, "'ObjectRestore:Completed'"),
        ({"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}, "no bucket and key"),
        (
            {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}}},
            "no bucket and key",
        ),
        (
            {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"bucket": 7, "object": []}},
            "no bucket and key",
        ),
    ],
)
def test_what_is_no_object_created_is_rejected_with_its_reason(record, says):
    (found,) = records({"Records": [record]})
    assert isinstance(found, Rejected)
    assert says in found.reason


def test_one_bad_record_does_not_harm_the_others():
    event = {"Records": [{"eventSource": "aws:sqs"}, *EXAMPLE["Records"], 7]}
    assert [type(found) for found in records(event)] == [Rejected, ObjectCreated, Rejected]


def test_the_test_event_is_named():
    event = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}
    assert is_event(event)
    (found,) = records(event)
    assert isinstance(found, Rejected)
    assert "s3:TestEvent" in found.reason


@pytest.mark.parametrize("event", [{}, [], None, "x", {"Records": 7}, {"source": "aws.s3"}])
def test_other_events_are_told_apart(event):
    assert not is_event(event)
