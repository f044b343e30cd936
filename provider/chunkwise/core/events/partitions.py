"""One name for each object, folder or day of a list of object events, short enough for Airflow."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC
from typing import Final, Literal, TypeVar

from chunkwise.core.choices import check_number
from chunkwise.core.events.model import ObjectCreated, ObjectEvent, ObjectRemoved

#: Airflow: a partition key is a text of at most 250 characters, not blank
MAX_KEY: Final = 250
#: the partition by date of events that have no time
UNDATED: Final = "undated"
_MARK: Final = "...sha256:"

By = Literal["object", "prefix", "date"]
E = TypeVar("E", bound=ObjectCreated | ObjectRemoved)


def partition_key(event: ObjectEvent, by: By = "object", *, prefix_depth: int | None = None) -> str:
    """The partition of an event.

    :param by: ``"object"``: its URI; ``"prefix"``: ``s3://bucket/folder/``; ``"date"``: the day on which it
        arrived, in UTC, as ``2023-12-21``, or ``"undated"`` of an event that has no time: it keeps no other
        one back.
    :param prefix_depth: how many folders make a prefix, 0 or more; default: all that the key has.
    :raises ConfigError: the depth is no such number.
    """
    if prefix_depth is not None:
        check_number("prefix_depth", prefix_depth, 0)
    if by == "date":
        if event.time is None:
            return UNDATED
        return event.time.astimezone(UTC).date().isoformat()
    if by == "object":
        return short(event.uri)
    folders = event.key.split("/")[:-1][:prefix_depth]
    return short(f"s3://{event.bucket}/" + "".join(f"{folder}/" for folder in folders))


def short(text: str) -> str:
    """The text, or its beginning and a digest of it where it is too long for a partition key."""
    if len(text) <= MAX_KEY:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[: MAX_KEY - len(_MARK) - len(digest)]}{_MARK}{digest}"


def is_shortened(key: str) -> bool:
    """Whether a partition key holds a digest, so that it does not say what it is of."""
    return _MARK in key


def partitions(
    events: Iterable[E], by: By = "object", *, prefix_depth: int | None = None
) -> dict[str, list[E]]:
    """The events of each partition."""
    found: dict[str, list[E]] = {}
    for event in events:
        found.setdefault(partition_key(event, by, prefix_depth=prefix_depth), []).append(event)
    return found


def shard_of(key: str, shards: int) -> int:
    """Which of so many tasks a partition belongs to: the same one in every process."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8]) % shards
