"""S3 events in all their forms, made from the same few values."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

TIME = "2023-12-21T10:00:00.000Z"


def encoded(key: str) -> str:
    """A key as S3 writes it into its own notifications: like an HTML form, but with slashes as they are."""
    return quote(key, safe="/ ").replace(" ", "+")


def s3_record(bucket: str, key: str, *, event: str = "ObjectCreated:Put", **members: Any) -> dict[str, Any]:
    """One of ``Records``; ``members`` are those of its object, ``time`` is the event's."""
    time = members.pop("time", TIME)
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": time,
        "eventName": event,
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "arrivals",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": encoded(key), **members},
        },
    }


def s3_body(*records: dict[str, Any]) -> str:
    """What S3 sends to SQS or SNS."""
    return json.dumps({"Records": records})


TEST_EVENT = json.dumps(
    {
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": TIME,
        "Bucket": "b",
        "RequestId": "1",
        "HostId": "1",
    }
)


def notification(message: str) -> str:
    """SNS's envelope around a message."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "1",
            "TopicArn": "arn:aws:sns:us-east-1:123456789012:arrivals",
            "Subject": "Amazon S3 Notification",
            "Message": message,
            "Timestamp": TIME,
            "SignatureVersion": "1",
        }
    )


def eventbridge(
    bucket: str,
    key: str,
    *,
    kind: str = "Object Created",
    reason: str = "PutObject",
    deletion: str | None = None,
    **members: Any,
) -> dict[str, Any]:
    """EventBridge's form; ``members`` are those of its object, with hyphens for underscores."""
    time = members.pop("time", TIME)
    item = {name.replace("_", "-"): value for name, value in members.items()}
    detail = {
        "version": "0",
        "bucket": {"name": bucket},
        "object": {"key": key, **item},
        "request-id": "1",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": reason,
        **({} if deletion is None else {"deletion-type": deletion}),
    }
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": kind,
        "source": "aws.s3",
        "account": "123456789012",
        "time": time,
        "region": "us-east-1",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": detail,
    }
