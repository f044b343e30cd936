"""How segments become the parts of a multipart upload: pure arithmetic, with as few bytes through the client
as S3's rules allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

from chunkwise.core.errors import ConfigError, ObjectTooLarge
from chunkwise.core.segments import Range, Segment
from chunkwise.core.storage.parts import MAX_PART, MAX_PARTS, MIN_PART


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a server allows (Amazon S3 User Guide, "Amazon S3 multipart upload limits").

    :param min_part: bytes of every part but the last at least; a range is only copied from an object that is
        larger than this (UploadPartCopy, API reference).
    :param largest_copy: bytes of one part at most.
    :param max_parts: parts of one upload at most.
    """

    min_part: int = MIN_PART
    largest_copy: int = MAX_PART
    max_parts: int = MAX_PARTS

    def __post_init__(self) -> None:
        if self.min_part < 1 or self.largest_copy < 2 * self.min_part or self.max_parts < 2:
            # with less room, what is too large for one part could not be cut into parts that are large enough
            raise ConfigError(
                "parts need at least 1 byte, twice that as their upper limit, and 2 of them must be allowed; "
                f"got min_part={self.min_part}, largest_copy={self.largest_copy}, max_parts={self.max_parts}"
            )


S3_LIMITS: Final = Limits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A part that S3 copies by itself.

    :param of: reference of the source object.
    :param start: first byte.
    :param end: byte after the last.
    """

    of: Any
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def whole(self) -> bool:
        """Whether it is all of its object, so that no range is named."""
        return (self.start, self.end) == (0, self.of.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Some bytes of a segment, by their place in it: a large literal is cut without a copy.

    :param of: the segment.
    :param start: first byte, from 0 at the start of the segment.
    :param end: byte after the last.
    """

    of: Segment
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A part that goes through the client.

    :param pieces: what it is made of, in order.
    """

    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(piece.end - piece.start for piece in self.pieces)


PartPlan = Copy | Upload
"""One part of the object."""


def plan_concat(
    segments: Sequence[Segment],
    *,
    largest_copy: int = MAX_PART,
    min_part: int = MIN_PART,
    max_parts: int = MAX_PARTS,
) -> list[PartPlan]:
    """The parts of one object, in order.

    No other parts that S3 accepts move fewer bytes through the client, but for an object that is smaller than
    one part: that is uploaded as it is, rather than as a multipart upload with one copy. Empty segments
    vanish, and ranges that follow each other in the same object are one. What is too small for a part is
    filled up to ``min_part`` with bytes of its neighbours, so that what is left of these may still be copied.
    Ranges above ``largest_copy`` are cut evenly.

    :param segments: what the object is put together from.
    :param largest_copy: see :class:`Limits`.
    :param min_part: see :class:`Limits`; a part that is uploaded has less than twice as much.
    :param max_parts: see :class:`Limits`.
    :return: no part for no bytes.
    :raises ConfigError: a range is not within its object.
    :raises ObjectTooLarge: more than ``max_parts`` parts; see :func:`plan_stages`.
    """
    limits = Limits(largest_copy=largest_copy, min_part=min_part, max_parts=max_parts)
    stages = plan_stages(segments, limits)
    if len(stages) > 1:
        count = sum(map(len, stages))
        raise ObjectTooLarge(f"{count} parts are needed, and one upload has at most {max_parts}")
    return stages[0]


def plan_stages(segments: Sequence[Segment], limits: Limits = S3_LIMITS) -> list[list[PartPlan]]:
    """The parts in as many runs as it takes to have no more than ``max_parts`` in any: usually one.

    Several runs are to be written as objects of their own, which are then copied into one. That takes no
    further byte through the client.

    :param segments: what the object is put together from.
    :param limits: of the server.
    :raises ConfigError: a range is not within its object.
    :raises ObjectTooLarge: no upload can hold it.
    """
    parts = list(_parts(_joined(segments), limits))
    total = sum(part.size for part in parts)
    reach = limits.max_parts * limits.largest_copy
    runs = max(1, -(-len(parts) // limits.max_parts))
    bounds = [len(parts) * run // runs for run in range(runs + 1)]
    stages = [parts[low:high] for low, high in pairwise(bounds)]
    # what the runs are copied in, once each is an object
    copies = sum(-(-sum(part.size for part in stage) // limits.largest_copy) for stage in stages)
    if total > reach or (runs > 1 and copies > limits.max_parts):
        raise ObjectTooLarge(
            f"{total} bytes in {len(parts)} parts are more than an object can be put together from: "
            f"{reach} bytes in {limits.max_parts} parts; write several objects"
        )
    return stages


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    joined: list[Segment] = []
    for segment in segments:
        if isinstance(segment, Range) and not 0 <= segment.start <= segment.end <= segment.of.size:
            raise ConfigError(
                f"bytes {segment.start} to {segment.end} are not within the {segment.of.size} bytes of "
                f"{getattr(segment.of, 'uri', 'the object')}"
            )
        if not segment.size:
            continue
        last = joined[-1] if joined else None
        if (
            isinstance(segment, Range)
            and isinstance(last, Range)
            and (last.end, last.of) == (segment.start, segment.of)
        ):
            joined[-1] = Range(last.of, last.start, segment.end)
        else:
            joined.append(segment)
    return joined


def _parts(segments: list[Segment], limits: Limits) -> Iterator[PartPlan]:
    offsets = [0, *accumulate(segment.size for segment in segments)]
    total = offsets[-1]
    if not total:
        return
    copied = _copied(segments, offsets, limits.min_part) if total >= limits.min_part else []
    uploads = _Cutter(segments, offsets)
    position = 0
    for index, start, end in copied:
        yield from uploads.parts(position, start, limits.min_part)
        segment, offset = segments[index], offsets[index]
        assert isinstance(segment, Range)
        for low, high in _evenly(start - offset, end - offset, -(-(end - start) // limits.largest_copy)):
            yield Copy(of=segment.of, start=segment.start + low, end=segment.start + high)
        position = end
    yield from uploads.parts(position, total, limits.min_part)


class _Cutter:
    """Cuts what is uploaded, from left to right."""

    def __init__(self, segments: list[Segment], offsets: list[int]) -> None:
        self._segments = segments
        self._offsets = offsets
        self._index = 0

    def parts(self, start: int, end: int, min_part: int) -> Iterator[Upload]:
        """The bytes of a gap between copies: each part is large enough, if the gap is."""
        if start < end:
            for low, high in _evenly(start, end, max(1, (end - start) // min_part)):
                yield Upload(pieces=tuple(self._pieces(low, high)))

    def _pieces(self, start: int, end: int) -> Iterator[Piece]:
        while start < end:
            while self._offsets[self._index + 1] <= start:
                self._index += 1
            offset = self._offsets[self._index]
            stop = min(end, self._offsets[self._index + 1])
            yield Piece(of=self._segments[self._index], start=start - offset, end=stop - offset)
            start = stop


def _evenly(start: int, end: int, count: int) -> Iterator[tuple[int, int]]:
    size = end - start
    return pairwise(start + size * number // count for number in range(count + 1))


# --- which bytes are copied
#
# At most one run of each segment is copied. Between two of these runs there is nothing, or at least min_part
# bytes that are uploaded; what is missing to min_part is taken from the end of the one run and the start of
# the next one, as long as both stay large enough. Behind the last run there may be any number of bytes. What
# the end of a run can give is of no other use, so that it gives first.
#
# From left to right, a state is a segment whose copy was begun, what it cost so far, and how much its start
# has given: of two states of the same segment the one with less of both is better. Of three segments that
# could be copied no best solution uploads all in one gap, as the middle one has enough to both its sides to
# be copied whole: so each state follows upon one of the last three.

_WINDOW: Final = 3


@dataclass(frozen=True, slots=True)
class _State:
    cost: int  # bytes uploaded before its copy begins
    given: int  # bytes that the start of its segment gave to the gap before it
    candidate: int  # -1: nothing has been copied yet
    before: _State | None = None
    taken: int = 0  # bytes that the gap before it took from the end of the copy before that


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A segment that may be copied.

    :param index: of the segment.
    :param start: where it lies in the object.
    :param end: the byte after it.
    :param spare: bytes at its start that it can do without.
    """

    index: int
    start: int
    end: int
    spare: int


def _candidates(segments: list[Segment], offsets: list[int], min_part: int) -> Iterator[_Candidate]:
    for index, segment in enumerate(segments):
        if not isinstance(segment, Range):
            continue
        in_ranges = segment.of.size > min_part
        if not in_ranges and segment.size < segment.of.size:
            continue
        last = index == len(segments) - 1
        if not last and segment.size < min_part:
            continue
        needed = (1 if last else min_part) if in_ranges else segment.size
        yield _Candidate(index, offsets[index], offsets[index + 1], segment.size - needed)


def _copied(segments: list[Segment], offsets: list[int], min_part: int) -> list[tuple[int, int, int]]:
    """What is copied: index of the segment, first byte and byte after the last in the whole object."""
    candidates = list(_candidates(segments, offsets, min_part))
    recent = [[_State(cost=0, given=0, candidate=-1)]]
    for number, candidate in enumerate(candidates):
        found = []
        for state in (state for states in recent for state in states):
            end, spare = 0, 0
            if state.candidate >= 0:
                before = candidates[state.candidate]
                end, spare = before.end, before.spare - state.given
            gap = candidate.start - end
            missing = max(0, min_part - gap) if gap else 0
            taken = min(spare, missing)
            if missing - taken <= candidate.spare:
                cost = state.cost + gap + missing
                found.append(_State(cost, missing - taken, number, state, taken))
        recent = [*recent[1 - _WINDOW :], _best(found)]
    total = offsets[-1]
    final = min(
        (state for states in recent for state in states),
        key=lambda state: (
            state.cost + total - (candidates[state.candidate].end if state.candidate >= 0 else 0)
        ),
    )
    copied = []
    taken = 0
    step: _State | None = final
    while step is not None and step.candidate >= 0:
        candidate = candidates[step.candidate]
        copied.append((candidate.index, candidate.start + step.given, candidate.end - taken))
        taken, step = step.taken, step.before
    return copied[::-1]


def _best(states: list[_State]) -> list[_State]:
    """Those of which no other one is as good in both."""
    best: list[_State] = []
    for state in sorted(states, key=lambda state: (state.cost, state.given)):
        if not best or state.given < best[-1].given:
            best.append(state)
    return best
