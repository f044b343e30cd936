"""S3's own event notification: ``{"Records": [...]}`` with ``"eventSource": "aws:s3"``.

The form is that of the S3 User Guide, "Event message structure": version 2.x, keys encoded as in HTML forms.
The other forms are read by :mod:`chunkwise.core.events.parse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

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

__all__ = ["Ignored", "ObjectCreated", "ObjectRemoved", "Rejected", "is_event", "record", "records"]

TEST_EVENT: Final = "s3:TestEvent"
#: the other families of the S3 User Guide, "Supported event types"
_OTHERS: Final = (
    "IntelligentTiering",
    "LifecycleTransition",
    "ObjectAcl:",
    "ObjectRestore:",
    "ObjectTagging:",
    "ReducedRedundancyLostObject",
    "Replication:",
    "TestEvent",
)


def is_event(event: Any) -> bool:
    """Whether this looks like an S3 notification, of whatever kind."""
    return isinstance(event, Mapping) and (
        isinstance(event.get("Records"), list) or event.get("Event") == TEST_EVENT
    )


def records(event: Mapping[str, Any]) -> list[ObjectCreated | Rejected]:
    """The objects of a notification, in its order; what is no ObjectCreated is rejected one by one."""
    if event.get("Event") == TEST_EVENT:
        return [test_event()]
    found: list[ObjectCreated | Rejected] = []
    for number, value in enumerate(event.get("Records") or []):
        read = record(value, f"record {number}")
        if isinstance(read, ObjectRemoved):
            read = Rejected(reason=f"record {number} is {read.event!r}, not ObjectCreated")
        found.append(read)
    return found


def test_event() -> Ignored:
    """What S3 sends when a notification is configured."""
    return Ignored(reason=f"{TEST_EVENT}, which S3 sends when a notification is configured")


def record(value: Any, name: str) -> ObjectCreated | ObjectRemoved | Rejected:
    """One record.

    :param name: of it, for the reason of its rejection.
    """
    if not isinstance(value, Mapping):
        return Rejected(reason=f"{name} is not an object")
    source = value.get("eventSource", value.get("EventSource"))
    if source != "aws:s3":
        return Rejected(reason=f"{name} is of {str(source)[:40]!r}, not of 'aws:s3'")
    event = value.get("eventName")
    known = event.removeprefix("s3:") if isinstance(event, str) else ""
    if not known.startswith((CREATED, *REMOVED)):
        kind = Ignored if known.startswith(_OTHERS) else Rejected
        return kind(reason=f"{name} is {str(event)[:60]!r}, not ObjectCreated")
    s3 = value.get("s3")
    item = member(s3, "object")
    key = member(item, "key")
    found = event_of(
        member(s3, "bucket", "name"),
        unquote_plus(key) if isinstance(key, str) else None,
        known,
        version_id=member(item, "versionId"),
        size=member(item, "size"),
        etag=member(item, "eTag"),
        sequencer=member(item, "sequencer"),
        time=value.get("eventTime"),
    )
    return found or Rejected(reason=f"{name} names no bucket and key")
