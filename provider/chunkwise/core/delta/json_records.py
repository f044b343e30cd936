"""The records of a file of JSON, by its name: a stream of them, in batches of bounded bytes."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from chunkwise.core.delta.rows import SAMPLE_BYTES, SAMPLE_ROWS
from chunkwise.core.errors import InvalidSource, RecordError, UnsupportedSource
from chunkwise.core.formats.json_text import WHITE
from chunkwise.core.queue.elements import array_elements
from chunkwise.core.records.compression import Compression
from chunkwise.core.storage import ObjectRef
from chunkwise.core.units import MiB

#: of a line, an element of an array, and a file that is one object: they are held in memory
LARGEST: Final = 64 * MiB
_BATCH_BYTES: Final = 4 * MiB
_BATCH_ROWS: Final = 10_000
_COMPRESSED: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}
_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def form_of(key: str) -> tuple[str, Compression]:
    """:raises UnsupportedSource: the name is none of a file of JSON."""
    name, compression = key.lower(), "none"
    for suffix, kind in _COMPRESSED.items():
        if name.endswith(suffix):
            name, compression = name.removesuffix(suffix), kind
    found = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
    if found is None:
        raise UnsupportedSource(
            f"{key!r} is no file of JSON by its name: it must end with .jsonl, .ndjson or .json, perhaps with"
            " .gz or .zst behind it"
        )
    return found, compression  # type: ignore[return-value]  # of _COMPRESSED


def without_mark(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Without the byte order mark that some writers put at the beginning of UTF-8."""
    pieces = iter(pieces)
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(BOM_UTF8):
            break
    if head := head.removeprefix(BOM_UTF8):
        yield head
    yield from pieces


def lines_of(pieces: Iterable[bytes], ref: ObjectRef) -> Iterator[bytes]:
    """Lines that are not blank.

    :raises InvalidSource: one is too long to be held.
    """
    rest = b""
    for piece in pieces:
        lines = (rest + piece).split(b"\n") if rest else bytes(piece).split(b"\n")
        rest = lines.pop()
        if len(rest) > LARGEST:
            raise InvalidSource(f"{ref.uri} has a line of more than {LARGEST} bytes")
        for line in lines:
            if stripped := line.strip(WHITE):
                yield stripped
    if stripped := rest.strip(WHITE):
        yield stripped


def document(pieces: Iterable[bytes], ref: ObjectRef) -> Iterator[bytes]:
    """The records of a ``.json`` file: of an array, one object in any layout, or lines.

    :raises InvalidSource: it begins as an array and is none, or one with an element that is too large.
    """
    pieces = iter(pieces)
    head = bytearray()
    for piece in pieces:
        head += piece
        if head := head.lstrip(WHITE):
            break
    rest = chain([bytes(head)], pieces)
    if head[:1] != b"[":
        yield from _object_or_lines(rest, ref)
        return
    try:
        yield from array_elements(rest, longest=LARGEST)
    except RecordError as error:
        raise InvalidSource(f"{ref.uri} begins as a JSON array: {error}") from None


def _object_or_lines(pieces: Iterator[bytes], ref: ObjectRef) -> Iterator[bytes]:
    held: deque[bytes] = deque()
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > LARGEST:
            break
    else:
        text = b"".join(held)
        try:
            _OBJECT.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass  # lines
        else:
            yield text.strip(WHITE)
            return
        del text
    # what was read goes as it is used
    yield from lines_of(chain((held.popleft() for _ in range(len(held))), pieces), ref)


def batches(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Records in batches; the first is as large as a sample may be."""
    some: list[bytes] = []
    size = 0
    most_rows, most_bytes = SAMPLE_ROWS, SAMPLE_BYTES
    for record in records:
        some.append(record)
        size += len(record)
        if len(some) >= most_rows or size >= most_bytes:
            yield some
            some, size = [], 0
            most_rows, most_bytes = _BATCH_ROWS, _BATCH_BYTES
    if some:
        yield some
