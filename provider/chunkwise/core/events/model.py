"""What S3 says about one object, whatever form it was said in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

#: families of S3 event names, as the S3 User Guide lists them
CREATED: Final = "ObjectCreated:"
REMOVED: Final = ("ObjectRemoved:", "LifecycleExpiration:")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectEvent:
    """An object that was written or removed.

    :param bucket: its bucket.
    :param key: its key, decoded.
    :param event: what happened, by S3's own name in every form, e.g. ``"ObjectCreated:Put"``.
    :param version_id: where the bucket is versioned.
    :param size: bytes.
    :param etag: without quotes.
    :param sequencer: orders the events of one key, see :func:`~chunkwise.core.events.collapse.collapse`.
    :param time: when, on S3's clock.
    :param uncertain: another event of the key may have been the last one; only the object itself can tell.
    """

    bucket: str
    key: str
    event: str
    version_id: str | None = None
    size: int | None = None
    etag: str | None = None
    sequencer: str | None = None
    time: datetime | None = None
    uncertain: bool = False

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"

    def to_json(self) -> dict[str, Any]:
        """The members that are known, as JSON; :func:`~chunkwise.core.events.parse.parse` reads it."""
        found: dict[str, Any] = {"bucket": self.bucket, "key": self.key, "event": self.event}
        for name in ("version_id", "size", "etag", "sequencer"):
            if (value := getattr(self, name)) is not None:
                found[name] = value
        if self.time is not None:
            found["time"] = self.time.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if self.uncertain:
            found["uncertain"] = True
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectCreated(ObjectEvent):
    """An object that was written: put, posted, copied or completed from parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectRemoved(ObjectEvent):
    """An object that is no longer there: deleted, hidden by a delete marker, or expired by a rule.

    Where it names a version and is no :attr:`marker`, that version was deleted for good. Others may be there,
    also when no event tells of them: only the object itself can tell.
    """

    @property
    def marker(self) -> bool:
        """Whether a delete marker hides it: its earlier versions are still there."""
        return self.event.endswith(":DeleteMarkerCreated")

    @property
    def expired(self) -> bool:
        """Whether a lifecycle rule removed it, nobody's request."""
        return self.event.startswith("LifecycleExpiration:")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """What names no object that was written or removed.

    :param reason: why; holds no data.
    """

    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Ignored(Rejected):
    """What S3 and SNS send beside it, and is no mistake: a test event, an event of tags or restores."""


def event_of(
    bucket: Any,
    key: Any,
    event: str,
    *,
    version_id: Any = None,
    size: Any = None,
    etag: Any = None,
    sequencer: Any = None,
    time: Any = None,
    uncertain: bool = False,
) -> ObjectCreated | ObjectRemoved | None:
    """An event of members that may be of any type; ``None`` if it names no bucket and key.

    :param event: name that begins with one of :data:`CREATED` and :data:`REMOVED`.
    """
    if not isinstance(bucket, str) or not isinstance(key, str) or not bucket or not key:
        return None
    kind = ObjectCreated if event.startswith(CREATED) else ObjectRemoved
    return kind(
        bucket=bucket,
        key=key,
        event=event,
        version_id=version_id if isinstance(version_id, str) and version_id not in ("", "null") else None,
        size=size if isinstance(size, int) and not isinstance(size, bool) else None,
        etag=(etag.strip('"') or None) if isinstance(etag, str) else None,
        sequencer=(sequencer or None) if isinstance(sequencer, str) else None,
        time=_time(time),
        uncertain=uncertain,
    )


def member(value: Any, *names: str) -> Any:
    """A member of members; ``None`` where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _time(text: Any) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except ValueError:
        return None
