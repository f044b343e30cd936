"""From parts to the segments of the output, and their checksum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from chunkwise.core.dispatch.glue import LARGEST, Body, fitted
from chunkwise.core.dispatch.model import Done, Plan
from chunkwise.core.dispatch.opening import open_source
from chunkwise.core.errors import UnsupportedSource
from chunkwise.core.formats.model import ByteSource, Part
from chunkwise.core.formats.registry import format_named
from chunkwise.core.records.compression import codec
from chunkwise.core.segments import Literal, Range, Segment
from chunkwise.core.storage.checksum import crc32, decode_crc32
from chunkwise.core.storage.combine import combine_crc32
from chunkwise.core.storage.source import ObjectRef, S3Source
from chunkwise.core.units import MiB

#: what stands between two records, where it must be read: more is no file that a person has made
_LARGEST_GAP: Final = 64 * MiB


def segments_of(client: Any, plan: Plan, done: Mapping[int, Done]) -> list[Segment]:
    """What the output is put together from."""
    format_ = format_named(plan.output.format)
    parts = [_part(client, plan, done[chunk]) for chunk in range(plan.chunks)]
    gaps = _Gaps(client, plan)
    joined = [gaps.read(segment) for segment in format_.join(plan.output.target, parts, plan.source)]
    segments = [_compressed(segment, plan.output.compression) for segment in fitted(joined)]
    segments = [segment for segment in segments if segment.size]
    if not segments:
        # an empty file of members is one empty member
        segments.append(Literal(codec(plan.output.compression).end_member()))  # type: ignore[arg-type]
    return segments


def checksum_of(segments: Sequence[Segment]) -> int | None:
    """CRC-32 of the whole, if that of every segment is known."""
    total = 0
    for segment in segments:
        if isinstance(segment, Literal):
            total = combine_crc32(total, crc32(segment.data, 0), segment.size)
            continue
        ref: ObjectRef = segment.of
        if ref.crc32 is None or (segment.start, segment.end) != (0, ref.size):
            return None
        total = combine_crc32(total, decode_crc32(ref.crc32), ref.size)
    return total


def whole(refs: Iterable[ObjectRef]) -> list[Segment]:
    """Objects, one after the other."""
    return [Range(ref, 0, ref.size) for ref in refs]


def _part(client: Any, plan: Plan, done: Done) -> Part:
    part = done.part
    if part is None:
        return Part(chunk=done.chunk, ref=None, size=0, rows=done.rows_out, notes=done.notes)
    glued = (done.before.size if done.before else 0) + (done.after.size if done.after else 0)
    whole = format_named(plan.output.format).compresses_itself
    return Part(
        chunk=done.chunk,
        ref=part if whole else Body(done.chunk, part, done.before, done.after),
        size=part.size - glued,
        rows=done.rows_out,
        notes=done.notes,
        source=S3Source(client, part),
    )


class _Gaps:
    """Reads what stands between the parts and is taken from the source, if small or to be compressed."""

    def __init__(self, client: Any, plan: Plan) -> None:
        self._client = client
        self._plan = plan
        self._source: ByteSource | None = None

    def read(self, segment: Segment) -> Segment:
        """The segment, as a literal if it must be one."""
        plan = self._plan
        if not isinstance(segment, Range) or segment.of != plan.source:
            return segment
        compressed = plan.compression != "none" or plan.output.compression != "none"
        return self._read(segment) if segment.size <= LARGEST or compressed else segment

    def _read(self, segment: Range) -> Literal:
        if segment.size > _LARGEST_GAP:
            raise UnsupportedSource(
                f"{self._plan.source.uri} has {segment.size} bytes between two records, which cannot be"
                " compressed in one piece"
            )
        if self._source is None:
            self._source, _ = open_source(self._client, self._plan.object, self._plan.compression)
        return Literal(b"".join(self._source.stream(segment.start, segment.end)))


def _compressed(segment: Segment, compression: str) -> Segment:
    if compression == "none" or not isinstance(segment, Literal) or not segment.data:
        return segment
    compressor = codec(compression)  # type: ignore[arg-type]
    return Literal(compressor.compress(segment.data) + compressor.end_member())
