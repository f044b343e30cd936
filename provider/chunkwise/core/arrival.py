"""An object that arrived, as a task is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.errors import ConfigError

#: what S3 calls the end of an object
_GONE: Final = ("ObjectRemoved:", "LifecycleExpiration:", "Object Deleted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """An object that arrived, or is said to be gone. What it is now is looked up; what the event says of it
    only saves a request for what the table has already.

    :param bucket: its bucket.
    :param key: its key, decoded.
    :param size: bytes, if known.
    :param etag: with or without quotes, if known.
    :param deleted: whether the event says that it was deleted.
    """

    bucket: str
    key: str
    size: int | None = None
    etag: str | None = None
    deleted: bool = False

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def of(cls, value: Any) -> Arrival:
        """An object reference in any form that travels.

        :param value: a URI, a mapping with ``uri`` or ``bucket`` and ``key`` and perhaps ``size``, ``etag``,
            ``deleted`` or ``event`` (as S3 names it), or an object with such attributes.
        :raises ConfigError: it names no object.
        """
        if isinstance(value, cls):
            return value
        given = type(value).__name__
        if isinstance(value, str):
            value = {"uri": value}

        def get(name: str) -> Any:
            return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)

        bucket, key, uri = get("bucket"), get("key"), get("uri")
        if not bucket and isinstance(uri, str) and uri.startswith("s3://"):
            bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not isinstance(bucket, str) or not isinstance(key, str) or not bucket or not key:
            raise ConfigError(
                f"an object must be named by 's3://bucket/key', or by bucket and key; this {given} is not"
            ).naming("objects")
        size, etag, event = get("size"), get("etag"), get("event")
        gone = isinstance(event, str) and event.removeprefix("s3:").startswith(_GONE)
        return cls(
            bucket=bucket,
            key=key,
            size=size if isinstance(size, int) and not isinstance(size, bool) else None,
            etag=etag if isinstance(etag, str) and etag else None,
            deleted=gone or get("deleted") is True,
        )


def arrivals_of(objects: Any) -> list[Arrival]:
    """One object, or many, each in any form that travels.

    :raises ConfigError: it is neither, or one of them names no object.
    """
    if isinstance(objects, str | Mapping | Arrival):
        return [Arrival.of(objects)]
    if not isinstance(objects, Iterable):
        raise ConfigError(
            f"objects is {objects!r}: it must be a list of what arrived, e.g. ['s3://bucket/key']"
        ).naming("objects")
    return [Arrival.of(one) for one in objects]
