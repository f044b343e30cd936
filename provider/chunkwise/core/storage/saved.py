"""The state of an open multipart upload, small enough for a task state store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from chunkwise.core.errors import ConfigError
from chunkwise.core.storage.parts import MAX_PARTS

_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A place between two parts of an upload: so many parts, their bytes, and the CRC-32 of these."""

    parts: int
    size: int
    crc32: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadedPart:
    """One part that S3 has confirmed.

    :param number: part number, from 1.
    :param etag: ETag in its quotes.
    :param size: bytes.
    :param crc32: base64 CRC32 of the part, if S3 knows it.
    """

    number: int
    etag: str
    size: int
    crc32: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedUpload:
    """An open upload as it was at a checkpoint; its length does not depend on the number of parts.

    The list of parts itself stays with S3 (ListParts tells the truth); ``digest`` tells whether it is still
    the same.

    :param bucket: bucket of the upload.
    :param key: key that it will become.
    :param upload_id: S3's id of the upload; not a secret.
    :param parts: number of parts written, numbered from 1.
    :param size: bytes in these parts: where a resumed producer goes on.
    :param crc32: running CRC32 of these bytes.
    :param digest: :func:`digest_parts` of these parts.
    :param nonce: what marks the object as written by this upload.
    """

    bucket: str
    key: str
    upload_id: str
    parts: int
    size: int
    crc32: int
    digest: str
    nonce: str

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for any JSON store."""
        return {"version": _VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> SavedUpload:
        """The inverse of :meth:`to_json`.

        :raises ConfigError: names the member that is missing, unknown, or of another form.
        """
        if not isinstance(members, Mapping):
            raise ConfigError(f"saved upload: an object is needed, not {type(members).__name__}")
        version = members.get("version")
        if type(version) is not int or version != _VERSION:
            raise ConfigError(f"saved upload: version must be {_VERSION}")
        types = {field.name: int if field.type == "int" else str for field in fields(cls)}
        for name in members:
            if name != "version" and name not in types:
                raise ConfigError(f"saved upload: unknown member {name!r}")
        for name, kind in types.items():
            if name not in members:
                raise ConfigError(f"saved upload: member {name!r} is missing")
            value = members[name]
            if type(value) is not kind:
                raise ConfigError(f"saved upload: {name} must be {kind.__name__}, not {type(value).__name__}")
            if kind is str and not value:
                raise ConfigError(f"saved upload: {name} must not be empty")
        for name, low, high in (("parts", 1, MAX_PARTS), ("size", 1, None), ("crc32", 0, 0xFFFFFFFF)):
            if members[name] < low or (high is not None and members[name] > high):
                raise ConfigError(f"saved upload: {name} is out of range")
        return cls(**{name: members[name] for name in types})


class PartsDigest:
    """SHA-256 over the (number, ETag, size) of parts, added in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, part: UploadedPart) -> None:
        """Go on by one part."""
        self._hash.update(f"{part.number} {part.etag} {part.size}\n".encode())

    def hexdigest(self) -> str:
        """The digest of the parts so far."""
        return self._hash.hexdigest()


def digest_parts(parts: Iterable[UploadedPart]) -> str:
    """The digest that :class:`SavedUpload` carries, of a list of parts in order."""
    digest = PartsDigest()
    for part in parts:
        digest.add(part)
    return digest.hexdigest()
