"""Putting parts together: their column chunks as they are, and one new footer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from chunkwise.core.errors import InvalidSource, SchemaMismatch
from chunkwise.core.formats.model import Part
from chunkwise.core.formats.parquet.assembly import Gathering
from chunkwise.core.formats.parquet.metadata import (
    MAGIC,
    TRAILER,
    Element,
    File,
    fields_of,
    parse_footer,
    unpack_head,
)
from chunkwise.core.formats.parquet.thrift import Struct, get
from chunkwise.core.segments import Literal, Range, Segment

_IN_FLIGHT: Final = 8
_TYPES: Final = (
    "boolean", "int32", "int64", "int96", "float", "double", "byte_array", "fixed_len_byte_array"
)  # fmt: skip
_REPETITIONS: Final = ("required", "optional", "repeated")


def join(target: Mapping[str, Any], parts: Sequence[Part]) -> Iterator[Segment]:
    """See :meth:`~chunkwise.core.formats.model.Format.join`.

    No page is read or written: the ranges of the parts that hold column chunks (and bloom filters), then the
    page indexes and the footer with their new offsets.

    :raises SchemaMismatch: a part has another schema, other key/value metadata or another order of columns.
    """
    head = unpack_head(target["head"])
    parts = [part for part in parts if part.size]
    position = len(MAGIC)
    yield Literal(MAGIC)
    count = sum(part.notes["row_groups"] for part in parts)
    deltas = []
    for part in parts:
        end = part.notes["data_end"]
        deltas.append(position - len(MAGIC))
        position += end - len(MAGIC)
        yield Range(part.ref, len(MAGIC), end)
    gathering = Gathering(position, count)
    for part, delta, tail in zip(parts, deltas, _tails(parts)):
        footer_start, data = _footer(part, tail)
        name = f"the part of chunk {part.chunk}"
        found = parse_footer(data, footer_start, name)
        check_same(head, found.head, name)
        in_part = gathering.add(found.groups, tail, part.notes["data_end"], delta)
        if in_part != part.rows:
            raise SchemaMismatch(f"{name} has {in_part} rows, and its done record says {part.rows}")
    yield Literal(gathering.end(head))


def _tails(parts: Sequence[Part]) -> Iterator[bytes]:
    """What stands behind the data of each part; some reads in flight."""

    def read(part: Part) -> bytes:
        if part.source is None:
            raise InvalidSource(f"the part of chunk {part.chunk} cannot be read")
        return part.source.read(part.notes["data_end"], part.size)

    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="chunkwise-footers") as pool:
        waiting: deque[Future[bytes]] = deque()
        left = iter(parts)
        for part in left:
            waiting.append(pool.submit(read, part))
            if len(waiting) >= _IN_FLIGHT:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _footer(part: Part, tail: bytes) -> tuple[int, bytes]:
    """Where the footer of a part begins, and its bytes."""
    length = int.from_bytes(tail[-8:-4], "little")
    start = len(tail) - TRAILER - length
    if tail[-4:] != MAGIC or start < 0:
        raise InvalidSource(f"the part of chunk {part.chunk} is damaged: it does not end with a footer")
    return part.notes["data_end"] + start, tail[start:-TRAILER]


def check_same(planned: Struct, found: Struct, name: str) -> None:
    """The schema and what belongs to it must be the planned ones.

    :param name: of what was found.
    :raises SchemaMismatch: naming the differences.
    """
    if get(planned, File.SCHEMA) != get(found, File.SCHEMA):
        lines = differences(planned, found)
        shown = "\n".join(lines[:20])
        more = f"\n... and {len(lines) - 20} more" if len(lines) > 20 else ""
        raise SchemaMismatch(
            f"{name} has another schema than was planned (- planned, + found):\n{shown}{more}\nProcess the"
            " chunk again with the same version of Chunkwise and pyarrow as made the plan"
        )
    for number, what in ((File.KEY_VALUES, "key/value metadata"), (File.COLUMN_ORDERS, "column orders")):
        if get(planned, number) != get(found, number):
            raise SchemaMismatch(f"{name} has other {what} than was planned")


def differences(planned: Struct, found: Struct) -> list[str]:
    """Two schemas line by line, as of ``diff``."""
    before, after = _lines(planned), _lines(found)
    rows = [f"- {line}" for line in before if line not in after]
    rows += [f"+ {line}" for line in after if line not in before]
    return rows or ["the columns are the same, in another order or with other details"]


def _lines(head: Struct) -> list[str]:
    lines = []
    for field in fields_of(head, "a part"):
        for leaf in field.leaves:
            element = leaf.element
            kind = get(element, Element.TYPE)
            text = f"{b'.'.join(leaf.path).decode('utf-8', 'replace')}: "
            text += f"{_REPETITIONS[get(element, Element.REPETITION, 0)]} {_TYPES[kind]}"
            details = [
                f"{label}={get(element, number)}"
                for number, label in (
                    (2, "length"),
                    (6, "converted"),
                    (7, "scale"),
                    (8, "precision"),
                    (9, "id"),
                )
                if number in element
            ]
            logical = get(element, 10)
            if logical:
                details.append(f"logical={_plain(logical)}")
            lines.append(f"{text} {' '.join(details)}".rstrip())
    return lines


def _plain(value: Any) -> Any:
    """A struct without its wire types."""
    if isinstance(value, dict):
        return {number: _plain(inner) for number, (_, inner) in value.items()}
    return value
