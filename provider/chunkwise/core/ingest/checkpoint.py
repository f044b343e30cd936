"""What a retried ingest needs to go on where the last try was killed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chunkwise.core.paging.fetcher import FetchState
from chunkwise.core.storage import SavedUpload

log = logging.getLogger(__name__)

VERSION = 1


class StateStore(Protocol):
    """Keeps one small JSON-able value from one try of a task to the next."""

    def get(self) -> Mapping[str, Any] | None:
        """The value, ``None`` when there is none."""

    def set(self, value: Mapping[str, Any]) -> None:
        """Keep ``value`` in the place of any earlier one."""

    def clear(self) -> None:
        """Forget the value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A moment between two pages at which everything read so far lies in parts of an open upload.

    :param fingerprint: of the job, field by field.
    :param fetch: where the paged read stands.
    :param upload: the open upload.
    :param counters: what was counted so far.
    :param profile: what the records looked like so far.
    """

    fingerprint: Mapping[str, str]
    fetch: FetchState
    upload: SavedUpload
    counters: Mapping[str, Any]
    profile: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "version": VERSION,
            "fingerprint": dict(self.fingerprint),
            "fetch": self.fetch.to_json(),
            "upload": self.upload.to_json(),
            "counters": dict(self.counters),
            "profile": dict(self.profile),
        }

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> Checkpoint:
        """The inverse of :meth:`to_json`.

        :raises ValueError: the value was written by another version, or is none of ours.
        """
        if not isinstance(members, Mapping):
            raise ValueError("a saved ingest that is no object")
        if members.get("version") != VERSION:
            raise ValueError(f"a saved ingest of version {members.get('version')!r}, this is {VERSION}")
        try:
            return cls(
                fingerprint=members["fingerprint"],
                fetch=FetchState.from_json(members["fetch"]),
                upload=SavedUpload.from_json(members["upload"]),
                counters=members["counters"],
                profile=members["profile"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"a saved ingest that can't be read: {error!r}") from None

    def differences(self, fingerprint: Mapping[str, str]) -> list[str]:
        """The fields in which the job is another one than that which was saved."""
        names = fingerprint.keys() | self.fingerprint.keys()
        return sorted(name for name in names if fingerprint.get(name) != self.fingerprint.get(name))


def open_upload(bucket: str, key: str, upload_id: str) -> dict[str, Any]:
    """The state of a run that has an open upload and no checkpoint yet: there is something to abort."""
    return {"version": VERSION, "open": {"Bucket": bucket, "Key": key, "UploadId": upload_id}}


def abort_open(client: Any, state: Mapping[str, Any]) -> bool:
    """Abort the upload of an :func:`open_upload` state; whether ``state`` is one."""
    upload = state.get("open") if isinstance(state, Mapping) else None
    if upload is None:
        return False
    try:
        client.abort_multipart_upload(**upload)
    except client.exceptions.NoSuchUpload:
        log.info("the upload that an earlier try left is gone already")
    return True


class MemoryStateStore:
    """Keeps the value in this process only: for callers without a place to keep it."""

    def __init__(self) -> None:
        self._value: Mapping[str, Any] | None = None

    def get(self) -> Mapping[str, Any] | None:
        """The value."""
        return self._value

    def set(self, value: Mapping[str, Any]) -> None:
        """Keep the value."""
        self._value = value

    def clear(self) -> None:
        """Forget the value."""
        self._value = None
