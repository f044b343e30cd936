"""S3's own event notification, as a Lambda function gets it.

The form is that of the S3 User Guide, "Event message structure": version 2.x, keys encoded as in HTML forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote_plus

_CREATED: Final = ("ObjectCreated:", "s3:ObjectCreated:")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectCreated:
    """An object that was written.

    :param bucket: its bucket.
    :param key: its key, decoded.
    :param event: what happened, e.g. ``"ObjectCreated:Put"``.
    :param version_id: where the bucket is versioned.
    :param size: bytes.
    :param etag: without quotes.
    :param sequencer: orders the events of one key, see :attr:`order`.
    :param time: when, on S3's clock.
    """

    bucket: str
    key: str
    event: str
    version_id: str | None = None
    size: int | None = None
    etag: str | None = None
    sequencer: str | None = None
    time: datetime | None = None

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def order(self) -> int | None:
        """Larger in a later event of the same key: the sequencer is a hexadecimal number, padded or not."""
        try:
            return None if self.sequencer is None else int(self.sequencer, 16)
        except ValueError:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A record that names no object that was written.

    :param reason: why; holds no data.
    """

    reason: str


def is_event(event: Any) -> bool:
    """Whether this looks like an S3 notification, of whatever kind."""
    return isinstance(event, Mapping) and (
        isinstance(event.get("Records"), list) or event.get("Event") == "s3:TestEvent"
    )


def records(event: Mapping[str, Any]) -> list[ObjectCreated | Rejected]:
    """The objects of a notification, in its order; what is no ObjectCreated is rejected one by one."""
    if event.get("Event") == "s3:TestEvent":
        return [Rejected(reason="s3:TestEvent, which S3 sends when a notification is configured")]
    return [_record(number, record) for number, record in enumerate(event.get("Records") or [])]


def _record(number: int, record: Any) -> ObjectCreated | Rejected:
    if not isinstance(record, Mapping):
        return Rejected(reason=f"record {number} is not an object")
    source = record.get("eventSource", record.get("EventSource"))
    if source != "aws:s3":
        return Rejected(reason=f"record {number} is of {str(source)[:40]!r}, not of 'aws:s3'")
    name = record.get("eventName")
    if not isinstance(name, str) or not name.startswith(_CREATED):
        return Rejected(reason=f"record {number} is {str(name)[:60]!r}, not ObjectCreated")
    s3 = record.get("s3")
    bucket = _member(s3, "bucket", "name")
    key = _member(s3, "object", "key")
    if not isinstance(bucket, str) or not isinstance(key, str) or not bucket or not key:
        return Rejected(reason=f"record {number} names no bucket and key")
    version, size = _member(s3, "object", "versionId"), _member(s3, "object", "size")
    etag, sequencer = _member(s3, "object", "eTag"), _member(s3, "object", "sequencer")
    return ObjectCreated(
        bucket=bucket,
        key=unquote_plus(key),
        event=name,
        version_id=version if isinstance(version, str) and version != "null" else None,
        size=size if isinstance(size, int) else None,
        etag=etag.strip('"') if isinstance(etag, str) else None,
        sequencer=sequencer if isinstance(sequencer, str) else None,
        time=_time(record.get("eventTime")),
    )


def _member(value: Any, first: str, second: str) -> Any:
    inner = value.get(first) if isinstance(value, Mapping) else None
    return inner.get(second) if isinstance(inner, Mapping) else None


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
