"""Every form in which S3 events arrive, read by one function.

======================================  ==================================================  =================
form                                    looks like                                          key
======================================  ==================================================  =================
S3 to SQS or Lambda                     ``{"Records": [{"eventSource": "aws:s3", ...}]}``    form-urlencoded
S3 to SNS, wrapped                      ``{"Type": "Notification", "Message": "..."}``       as in the message
SNS to Lambda                           ``{"Records": [{"EventSource": "aws:sns", ...}]}``   as in the message
SQS to Lambda, EventBridge Pipes        records with a ``body``                             as in the body
EventBridge                             ``{"source": "aws.s3", "detail-type": ...}``         as it is
Step Functions                          ``{"detail": {...}}``, ``{"bucket", "key"}``         as it is
Chunkwise's own, in asset events        ``{"objects": [{"bucket", "key", "event", ...}]}``   as it is
a message of boto3                      ``{"MessageId": ..., "Body": "..."}``                as in the body
amazon's SQS trigger                    ``{"message_batch": [...]}``                        as in the messages
======================================  ==================================================  =================

Nothing here raises: what cannot be read is :class:`~chunkwise.core.events.model.Rejected`, one by one, with a
reason that holds no data. ``s3:TestEvent`` and the like are ``Ignored``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from chunkwise.core.events import s3_records
from chunkwise.core.events.model import (
    CREATED,
    REMOVED,
    Ignored,
    ObjectCreated,
    ObjectRemoved,
    Rejected,
    event_of,
    member,
)

Found = ObjectCreated | ObjectRemoved | Rejected

#: of envelopes and the texts in them: S3 through two topics, a queue and a batch of messages needs ten, and
#: what has a hundred of them is no event
_DEPTH: Final = 16
#: S3 User Guide, "EventBridge event message structure": the reason of "Object Created"
_REASONS: Final = {"PutObject": "Put", "POST Object": "Post", "CopyObject": "Copy"}
#: a form that does not say how the object was written
_UNKNOWN: Final = f"{CREATED}Unknown"


def parse(event: Any, *, name: str = "the event") -> list[Found]:
    """The objects that an event names, in its order, and why each of its other parts is none.

    :param event: a JSON text, or what it decodes to, of any of the forms above.
    :param name: of it, for reasons.
    """
    return list(_parse(event, name, _DEPTH))


def objects(event: Any) -> list[ObjectCreated | ObjectRemoved]:
    """Only the objects that an event names."""
    return [found for found in parse(event) if not isinstance(found, Rejected)]


def _parse(event: Any, name: str, depth: int) -> Iterator[Found]:
    if not depth:
        yield Rejected(reason=f"{name} has more envelopes than any known form")
    elif isinstance(event, str | bytes | bytearray):
        yield from _text(event, name, depth)
    elif isinstance(event, list | tuple):
        for number, item in enumerate(event):
            yield from _parse(item, f"{name}[{number}]", depth - 1)
    elif isinstance(event, Mapping):
        yield from _mapping(event, name, depth)
    else:
        yield Rejected(reason=f"{name} is not an object")


def _text(text: str | bytes | bytearray, name: str, depth: int) -> Iterator[Found]:
    try:
        event = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        yield Rejected(reason=f"{name} is not JSON")
        return
    if not isinstance(event, dict | list):
        yield Rejected(reason=f"{name} is not an object")
        return
    yield from _parse(event, name, depth - 1)


def _mapping(event: Mapping[str, Any], name: str, depth: int) -> Iterator[Found]:
    if event.get("Event") == s3_records.TEST_EVENT:
        yield s3_records.test_event()
    elif isinstance(event.get("Records"), list):
        for number, item in enumerate(event["Records"]):
            yield from _record(item, f"record {number}", depth - 1)
    elif isinstance(event.get("Message"), str) and "Type" in event:
        yield from _notification(event, name, depth)
    elif "detail" in event or "detail-type" in event:
        yield _detail(event, name)
    elif isinstance(event.get("objects"), list):
        for number, item in enumerate(event["objects"]):
            yield _plain(item, f"objects[{number}]")
    elif isinstance(event.get("message_batch"), list):
        yield from _parse(event["message_batch"], "message_batch", depth - 1)
    elif (body := _body(event)) is not None:
        yield from _parse(body, f"the body of {name}", depth - 1)
    elif isinstance(event.get("bucket"), Mapping):
        yield _detail({"detail": event}, name)
    else:
        yield _plain(event, name)


def _record(item: Any, name: str, depth: int) -> Iterator[Found]:
    """One of ``Records``: of S3 itself, or of SNS or SQS around it."""
    source = member(item, "eventSource") or member(item, "EventSource")
    message = member(item, "Sns", "Message") if source == "aws:sns" else None
    if isinstance(message, str):
        yield from _parse(message, f"the message of {name}", depth)
    elif source == "aws:sqs" and (body := _body(item)) is not None:
        yield from _parse(body, f"the body of {name}", depth)
    else:
        yield s3_records.record(item, name)


def _body(message: Any) -> str | None:
    """The body of an SQS message, as boto3 or Lambda names it."""
    for member_name in ("Body", "body"):
        if isinstance(body := member(message, member_name), str):
            return body
    return None


def _notification(event: Mapping[str, Any], name: str, depth: int) -> Iterator[Found]:
    """SNS's envelope."""
    kind = event["Type"]
    if kind == "Notification":
        yield from _parse(event["Message"], f"the message of {name}", depth - 1)
    elif kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        yield Ignored(reason=f"{name} is a {kind} of SNS")
    else:
        yield Rejected(reason=f"{name} is of type {str(kind)[:40]!r}, not a Notification of SNS")


def _detail(event: Mapping[str, Any], name: str) -> Found:
    """EventBridge's form, or its detail alone; the key is not encoded."""
    source, kind, detail = event.get("source"), event.get("detail-type"), event.get("detail")
    if source not in (None, "aws.s3"):
        return Rejected(reason=f"{name} is of {str(source)[:40]!r}, not of 'aws.s3'")
    reason, deletion = member(detail, "reason"), member(detail, "deletion-type")
    if kind == "Object Deleted" or (kind is None and deletion is not None):
        expired = isinstance(reason, str) and "lifecycle" in reason.lower()
        marker = isinstance(deletion, str) and "marker" in deletion.lower()
        family = "LifecycleExpiration:" if expired else "ObjectRemoved:"
        event_name = f"{family}{'DeleteMarkerCreated' if marker else 'Delete'}"
    elif kind in (None, "Object Created"):
        event_name = f"{CREATED}{_REASONS.get(reason, reason)}" if _word(reason) else _UNKNOWN
    else:
        other = Ignored if isinstance(kind, str) and kind.startswith("Object ") else Rejected
        return other(reason=f"{name} is {str(kind)[:60]!r}, not Object Created")
    item = member(detail, "object")
    found = event_of(
        member(detail, "bucket", "name"),
        member(item, "key"),
        event_name,
        version_id=member(item, "version-id"),
        size=member(item, "size"),
        etag=member(item, "etag"),
        sequencer=member(item, "sequencer"),
        time=event.get("time"),
    )
    return found or Rejected(reason=f"{name} names no bucket and key")


def _word(reason: Any) -> bool:
    """Whether a reason is one of S3's: it becomes part of a name."""
    return isinstance(reason, str) and (reason in _REASONS or (reason.isascii() and reason.isalpha()))


def _plain(event: Any, name: str) -> Found:
    """``{"bucket": ..., "key": ...}`` with what else is known; the key is not encoded."""
    kind = member(event, "event")
    if kind is not None and not (isinstance(kind, str) and kind.startswith((CREATED, *REMOVED))):
        return Rejected(reason=f"{name} is {str(kind)[:60]!r}, not ObjectCreated")
    found = event_of(
        member(event, "bucket") or member(event, "Bucket"),
        member(event, "key") or member(event, "Key"),
        kind or _UNKNOWN,
        **{key: member(event, key) for key in ("version_id", "size", "etag", "sequencer", "time")},
        uncertain=member(event, "uncertain") is True,
    )
    return found or Rejected(reason=f"{name} is of no known form")
