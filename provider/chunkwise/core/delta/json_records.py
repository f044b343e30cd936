"""The records of a file of JSON, by its name: a stream of them, in batches of bounded bytes."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

import msgspec

from chunkwise.core.delta.rows import SAMPLE_BYTES, SAMPLE_ROWS
from chunkwise.core.errors import InvalidSource, PagingError, UnsupportedSource
from chunkwise.core.formats.json_text import WHITE
from chunkwise.core.paging.splitter import RecordSplitter, SplitLimits
from chunkwise.core.records.compression import Compression
from chunkwise.core.selector import Selector
from chunkwise.core.storage import ObjectRef
from chunkwise.core.units import MiB

#: of a line, an element of an array, and a file that is one object: they are held in memory
LARGEST: Final = 64 * MiB
_BATCH_BYTES: Final = 4 * MiB
_BATCH_ROWS: Final = 10_000
_COMPRESSED: Final[dict[str, Compression]] = {".gz": "gzip", ".zst": "zstd"}
_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])


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

    :raises InvalidSource: it begins as an array and is none, or an array that is too large to be held has an
        element that is no object.
    """
    pieces = iter(pieces)
    whole = bytearray()
    for piece in pieces:
        whole += piece
        if len(whole) > LARGEST:
            if whole.lstrip(WHITE)[:1] == b"[":
                yield from _elements(chain([bytes(whole)], pieces), ref)
                return
            yield from lines_of(chain([bytes(whole)], pieces), ref)
            return
    text = bytes(whole)
    if text.lstrip(WHITE)[:1] == b"[":
        try:
            yield from map(bytes, _ARRAY.decode(text))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise InvalidSource(f"{ref.uri} begins as a JSON array, and is none") from None
        return
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        yield from lines_of([text], ref)
    else:
        yield text.strip(WHITE)


def _elements(pieces: Iterable[bytes], ref: ObjectRef) -> Iterator[bytes]:
    """The objects of an array of any size.

    :raises InvalidSource: it is no array of objects.
    """
    rest = memoryview(b"")
    blocks = iter(pieces)

    def readinto(buffer: memoryview) -> int:
        nonlocal rest
        while not rest:
            block = next(blocks, None)
            if block is None:
                return 0
            rest = memoryview(block)
        size = min(len(buffer), len(rest))
        buffer[:size], rest = rest[:size], rest[size:]
        return size

    limits = SplitLimits(record=LARGEST)
    try:
        for batch in RecordSplitter(readinto, Selector.compile(""), limits):
            yield from map(bytes, batch.records)
    except PagingError as error:
        raise InvalidSource(f"{ref.uri} begins as a JSON array, and is none of objects: {error}") from None


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
