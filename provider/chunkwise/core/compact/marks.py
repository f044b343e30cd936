"""How an output says which files it stands for: in its name, and in its footer.

Its name is a digest of its sources, so that whoever merges the same ones finds it. Its footer has 16 bytes of
each file whose rows it has, those of its sources' own footers included: files that lie there still, or again,
are known by them, whatever became of the output in between. It also says under which key it was written, for
readers copy such metadata into files that have other rows. Beside that, it may say in whose work it was made.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.formats.parquet import thrift
from chunkwise.core.formats.parquet.metadata import File
from chunkwise.core.formats.parquet.thrift import Struct, get
from chunkwise.core.storage.copy import origin_of
from chunkwise.core.storage.source import ObjectRef

#: key of the metadata in the footer of an output
COMPACTED: Final = b"chunkwise.compacted"
#: key of what it says of the work that made it; others that find it may have another one
MADE_BY: Final = b"chunkwise.compacted_by"
_DIGEST: Final = 16


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What the footer of an output says.

    :param rows: in it.
    :param files: that it was made of.
    :param sources: digests of the files that it stands for, in base64.
    :param key: that it was written under.
    """

    rows: int
    files: int
    sources: str
    key: str

    @property
    def digests(self) -> frozenset[bytes]:
        """Of the files that it stands for."""
        data = base64.b64decode(self.sources, validate=True)
        return frozenset(data[at : at + _DIGEST] for at in range(0, len(data), _DIGEST))


def identity(ref: ObjectRef) -> bytes:
    """What tells an object from every other one: place, ETag and size."""
    return bytes.fromhex(origin_of(ref))


def name_of(refs: Iterable[ObjectRef]) -> str:
    """The name of the output of these files."""
    digest = hashlib.blake2b(digest_size=16)
    for ref in refs:
        digest.update(identity(ref))
    return f"compacted-{digest.hexdigest()}.parquet"


def mark_of(rows: int, files: int, digests: Iterable[bytes], key: str) -> bytes:
    """The value for the footer of what is written under a key."""
    data = base64.b64encode(b"".join(sorted(digests))).decode("ascii")
    return msgspec.json.encode(Mark(rows=rows, files=files, sources=data, key=key))


def maker_of(info: Mapping[str, Any]) -> bytes:
    """The value for the footer of what is made in a work.

    :param info: the same for all tries of it.
    """
    return msgspec.json.encode(info, order="sorted")


def mark_in(head: Struct, key: str) -> Mark | None:
    """What a footer says of the files that it stands for; ``None``: it says nothing, or nothing readable, or
    says it of an object of another key, from which somebody has copied it.

    :param head: of the footer.
    :param key: of the object.
    """
    for entry in thrift.structs(head, File.KEY_VALUES):
        if get(entry, 1) != COMPACTED:
            continue
        try:
            found = decoding.decode(get(entry, 2, b""), Mark)
            if len(base64.b64decode(found.sources, validate=True)) % _DIGEST:
                return None
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            return None
        return found if found.key == key else None
    return None
