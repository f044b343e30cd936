"""What stands before, between and after parts, written into the parts themselves.

A few bytes between two parts (a comma, a header) cost a merge megabytes: S3 takes no part of an upload below
5 MiB, so they are sent with what surrounds them. A processor therefore writes behind its rows what will
follow them if the next chunk has rows, too, and the first one writes the header before its own. The merge
uses that where it fits, and leaves it out by a ranged copy where it does not. No format knows of it:
``Format.join`` says what stands around a part that has neighbours.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from chunkwise.core.formats.model import ByteSource, Format, Part
from chunkwise.core.segments import Literal, Range, Segment
from chunkwise.core.storage.source import ObjectRef
from chunkwise.core.units import KiB

#: more than this between two records is left to the merge
LARGEST: Final = 64 * KiB

_BEFORE: Final = Part(chunk=-1, ref="before", size=1, rows=1)
_AFTER: Final = Part(chunk=-2, ref="after", size=1, rows=1)
_HERE: Final = "here"


class Glue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bytes around the rows of a part.

    :param size: as they are stored (compressed, if parts are).
    :param base64: the bytes, before compression.
    """

    size: int
    base64: str

    @classmethod
    def of(cls, data: bytes, size: int) -> Glue:
        """The glue of these bytes."""
        return cls(size=size, base64=base64.b64encode(data).decode("ascii"))

    @property
    def data(self) -> bytes:
        """The bytes, before compression."""
        return base64.b64decode(self.base64)


def around(
    format_: Format,
    target: dict[str, Any],
    notes: dict[str, Any],
    *,
    first: bool,
    last: bool,
    reference: ObjectRef,
    source: ByteSource,
) -> tuple[bytes, bytes]:
    """What stands before the first part, and what stands after a part.

    :param notes: of the part's encoder.
    :param first: whether it is the first part; others have nothing of their own before them.
    :param last: whether it is the last one.
    :param reference: of the source, as the join gets it.
    :param source: where its bytes are read.
    """
    if format_.compresses_itself:
        return b"", b""
    parts = [
        *([] if first else [_BEFORE]),
        Part(chunk=0, ref=_HERE, size=1, rows=1, notes=notes),
        *([] if last else [_AFTER]),
    ]
    places: dict[str, list[Segment]] = {"before": [], _HERE: [], "after": []}
    place = "" if first else None
    head: list[Segment] = []
    for segment in format_.join(target, parts, reference):
        if isinstance(segment, Range) and segment.of in places:
            place = segment.of
        elif place == "":
            head.append(segment)
        elif place is not None:
            places[place].append(segment)
    tail = places[_HERE]
    return _bytes(head, source), _bytes(tail, source)


def _bytes(segments: Iterable[Segment], source: ByteSource) -> bytes:
    found = list(segments)
    if sum(segment.size for segment in found) > LARGEST:
        return b""
    pieces = (
        segment.data if isinstance(segment, Literal) else source.read(segment.start, segment.end)
        for segment in found
    )
    return b"".join(pieces)


class Body(msgspec.Struct, frozen=True):
    """Reference of the rows of a part, without its glue.

    :param chunk: its number.
    :param part: the part.
    :param before: glue in front of the rows.
    :param after: glue behind them.
    """

    chunk: int
    part: ObjectRef
    before: Glue | None
    after: Glue | None


def fitted(segments: Sequence[Segment]) -> list[Segment]:
    """Put what stands between the parts and what is written in them together.

    :param segments: of a join whose parts are :class:`Body` references; what is small is literal.
    """
    result: list[Segment] = []
    number = 0
    while number < len(segments):
        segment = segments[number]
        number += 1
        if not (isinstance(segment, Range) and isinstance(segment.of, Body)):
            result.append(segment)
            continue
        body = segment.of
        start, end = 0, body.part.size
        if body.before is not None:
            gap = _literals(reversed(result))
            if gap and b"".join(reversed(gap)) == body.before.data:
                del result[-len(gap) :]
            else:
                start = body.before.size
        if body.after is not None:
            gap = _literals(segments[number:])
            if gap and b"".join(gap) == body.after.data:
                number += len(gap)
            else:
                end -= body.after.size
        result.append(Range(body.part, start, end))
    return result


def _literals(segments: Iterable[Segment]) -> list[bytes]:
    """The literals that come first."""
    found: list[bytes] = []
    for segment in segments:
        if not isinstance(segment, Literal):
            break
        found.append(segment.data)
    return found
