"""Plans of concatenations: right, within S3's rules, and no plan uploads fewer bytes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, ObjectTooLarge
from chunkwise.core.segments import Literal, Range
from chunkwise.core.storage.concat_plan import Copy, Limits, Upload, plan_concat, plan_stages
from chunkwise.core.units import GiB, KiB, MiB, TiB
from tests.core.storage.data import noise
from tests.support.examples import examples


@dataclass(frozen=True)
class Object:
    """An object as far as a plan looks at it."""

    name: str
    size: int
    data: bytes = b""


def objects(draw, largest):
    size = draw(st.integers(0, largest))
    return Object(f"o{draw(st.integers(0, 2))}-{size}", size, noise(size))


@st.composite
def segment_lists(draw, largest=24, most=7):
    """Literals, whole objects and ranges, often next to each other in one object."""
    segments = []
    for _ in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(["literal", "whole", "range", "next"]))
        last = segments[-1] if segments else None
        if kind == "literal":
            segments.append(Literal(noise(draw(st.integers(0, 6)))))
        elif kind == "next" and isinstance(last, Range):
            segments.append(Range(last.of, last.end, draw(st.integers(last.end, last.of.size))))
        else:
            of = objects(draw, largest)
            start, end = 0, of.size
            if kind == "range":
                start = draw(st.integers(0, of.size))
                end = draw(st.integers(start, of.size))
            segments.append(Range(of, start, end))
    return segments


def data_of(segment, start=0, end=None):
    whole = segment.data if isinstance(segment, Literal) else segment.of.data[segment.start : segment.end]
    return whole[start:end]


def assembled(parts):
    """What S3 would make of the parts."""
    out = []
    for part in parts:
        if isinstance(part, Copy):
            out.append(part.of.data[part.start : part.end])
        else:
            out += [data_of(piece.of, piece.start, piece.end) for piece in part.pieces]
    return b"".join(out)


def uploaded(parts):
    return sum(part.size for part in parts if isinstance(part, Upload))


def assert_rules(parts, *, min_part, largest_copy, max_parts):
    assert len(parts) <= max_parts
    for number, part in enumerate(parts, 1):
        assert part.size > 0
        assert part.size <= largest_copy
        assert part.size >= min_part or number == len(parts)
        if isinstance(part, Copy) and (part.start, part.end) != (0, part.of.size):
            assert part.of.size > min_part


def fewest_uploaded(segments, min_part, largest_copy):
    """The fewest bytes of any list of parts that S3 accepts: every place to cut is tried."""
    line = []  # for every byte: its object and its place in it
    for segment in segments:
        if isinstance(segment, Literal):
            line += [(None, 0)] * segment.size
        else:
            line += [(segment.of, place) for place in range(segment.start, segment.end)]
    total = len(line)
    if total < min_part:
        return total
    best = [0] + [total + 1] * total
    for end in range(1, total + 1):
        for start in range(end):
            size = end - start
            if size > largest_copy or (size < min_part and end < total):
                continue
            of = line[start][0]
            steady = of is not None and all(
                a[0] == b[0] and a[1] + 1 == b[1] for a, b in pairwise(line[start:end])
            )
            copied = steady and (of.size > min_part or size == of.size)
            best[end] = min(best[end], best[start] + (0 if copied else size))
    return best[total]


@examples(600)
@given(segments=segment_lists(), min_part=st.integers(1, 8), factor=st.integers(2, 4))
@example([Range(Object("a", 9, noise(9)), 0, 9), Literal(b",,"), Range(Object("b", 7, noise(7)), 0, 7)], 6, 4)
def test_the_plan_is_right_and_uploads_the_fewest_bytes(segments, min_part, factor):
    """Against a brute-force search over all ways to cut and copy."""
    largest_copy = factor * min_part
    parts = plan_concat(segments, min_part=min_part, largest_copy=largest_copy)
    assert assembled(parts) == b"".join(map(data_of, segments))
    assert_rules(parts, min_part=min_part, largest_copy=largest_copy, max_parts=10_000)
    assert uploaded(parts) == fewest_uploaded(segments, min_part, largest_copy)


@examples(300)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(4, 13)), max_size=12),
    min_part=st.integers(3, 6),
)
@example([(0, 8), (1, 5), (0, 5), (1, 8), (0, 15)], 5)  # the best plan uploads two that could be copied
def test_chains_of_barely_large_parts_upload_the_fewest_bytes(sizes, min_part):
    """Each part can give a little, and what it gives to the one side it has no more for the other."""
    segments = []
    for number, (gap, size) in enumerate(sizes):
        segments.append(Literal(noise(gap)))
        segments.append(Range(Object(f"o{number}", size, noise(size)), 0, size))
    parts = plan_concat(segments, min_part=min_part, largest_copy=4 * min_part)
    assert assembled(parts) == b"".join(map(data_of, segments))
    assert_rules(parts, min_part=min_part, largest_copy=4 * min_part, max_parts=10_000)
    assert uploaded(parts) == fewest_uploaded(segments, min_part, 4 * min_part)


@given(segments=segment_lists(), min_part=st.integers(1, 4), max_parts=st.integers(2, 4))
def test_stages_are_right_and_each_of_them_is_an_upload_that_s3_accepts(segments, min_part, max_parts):
    limits = Limits(min_part=min_part, largest_copy=64 * min_part, max_parts=max_parts)
    whole = b"".join(map(data_of, segments))
    try:
        stages = plan_stages(segments, limits)
    except ObjectTooLarge:
        # runs of at most max_parts parts are copied once: that is how far it goes
        parts = plan_concat(segments, min_part=min_part, largest_copy=64 * min_part)
        assert len(parts) > max_parts**2
        return
    assert b"".join(map(assembled, stages)) == whole
    for number, stage in enumerate(stages, 1):
        sizes = [part.size for part in stage]
        assert len(sizes) <= max_parts
        assert all(size >= min_part for size in (sizes if number < len(stages) else sizes[:-1]))
    assert uploaded([part for stage in stages for part in stage]) == uploaded(
        plan_concat(segments, min_part=min_part, largest_copy=64 * min_part)
    )


def whole(size, name="part"):
    return Range(Object(name, size), 0, size)


def test_large_objects_are_copied_whole_and_nothing_is_uploaded():
    parts = plan_concat([whole(8 * MiB, f"o{number}") for number in range(200)])
    assert [part.size for part in parts] == [8 * MiB] * 200
    assert all(isinstance(part, Copy) and part.whole for part in parts)


def test_a_header_before_200_parts_of_8_mib_takes_a_third_of_a_percent():
    """A header needs to be 5 MiB, most of it read from the first part: 5 MiB of 1,600."""
    parts = plan_concat([Literal(b"id,name\n"), *(whole(8 * MiB, f"o{number}") for number in range(200))])
    assert uploaded(parts) == 8 * MiB + 8  # the first part has no 5 MiB left for a copy


def test_a_footer_goes_through_the_client_alone():
    """The last part may have any size, so that nothing needs to be borrowed for it."""
    parts = plan_concat([*(whole(8 * MiB, f"o{number}") for number in range(200)), Literal(bytes(16 * KiB))])
    assert len(parts) == 201
    assert uploaded(parts) == 16 * KiB
    assert uploaded(parts) / sum(part.size for part in parts) < 0.001


def test_a_separator_borrows_from_both_sides():
    left, right = whole(8 * MiB, "left"), whole(8 * MiB, "right")
    first, glue, last = plan_concat([left, Literal(b","), right])
    assert (first.of.name, first.start, first.end) == ("left", 0, 5 * MiB)
    assert glue.size == 5 * MiB
    assert (last.of.name, last.start, last.end) == ("right", 2 * MiB - 1, 8 * MiB)


def test_a_small_last_object_is_copied_whole_though_it_is_small():
    first, last = plan_concat([whole(6 * MiB, "first"), whole(10, "last")])
    assert last == Copy(of=Object("last", 10), start=0, end=10)
    assert first.whole


def test_a_part_of_a_small_object_is_never_copied():
    """UploadPartCopy takes a range only from an object of more than 5 MiB."""
    small = Object("small", 5 * MiB)
    assert [type(part) for part in plan_concat([whole(6 * MiB), Range(small, 0, 5 * MiB - 1)])] == [
        Copy,
        Upload,
    ]
    assert [type(part) for part in plan_concat([whole(6 * MiB), Range(small, 0, 5 * MiB)])] == [Copy, Copy]


@pytest.mark.parametrize("segments", [[], [Literal(b"")], [Range(Object("o", 5), 3, 3)]])
def test_nothing_is_no_part(segments):
    assert plan_concat(segments) == []


def test_less_than_one_part_is_uploaded_in_one():
    parts = plan_concat([whole(2 * MiB, "a"), Literal(b","), whole(2 * MiB, "b")])
    assert [(type(part), part.size) for part in parts] == [(Upload, 4 * MiB + 1)]


def test_ranges_above_5_gib_are_cut_evenly():
    parts = plan_concat([whole(5 * GiB + 1)])
    assert [part.size for part in parts] == [5 * GiB // 2, 5 * GiB // 2 + 1]
    assert [part.size for part in plan_concat([whole(5 * GiB)])] == [5 * GiB]


def test_neighbouring_ranges_of_one_object_are_one():
    of = Object("o", 12 * MiB)
    segments = [Range(of, 0, 1), Range(of, 1, 6 * MiB), Literal(b""), Range(of, 6 * MiB, 12 * MiB)]
    assert plan_concat(segments) == [Copy(of=of, start=0, end=12 * MiB)]


def test_the_same_range_twice_is_two_parts():
    of = Object("o", 12 * MiB)
    assert len(plan_concat([Range(of, 0, 6 * MiB), Range(of, 0, 6 * MiB)])) == 2


def test_many_small_objects_are_uploaded_in_parts_of_bounded_size():
    parts = plan_concat([whole(300 * KiB, f"o{number}") for number in range(1000)])
    *uploads, last = parts
    assert all(isinstance(part, Upload) and 5 * MiB <= part.size < 10 * MiB for part in uploads)
    assert isinstance(last, Copy)  # the last part may be small, so that its object is copied


def test_a_large_literal_is_not_copied_by_the_plan():
    data = bytes(40 * MiB)
    parts = plan_concat([Literal(data)])
    assert len(parts) == 8
    assert all(piece.of.data is data for part in parts for piece in part.pieces)


def test_10_001_objects_are_put_together_in_two_stages():
    segments = [whole(6 * MiB, f"o{number}") for number in range(10_001)]
    assert [len(stage) for stage in plan_stages(segments)] == [5_000, 5_001]
    with pytest.raises(ObjectTooLarge, match="10001 parts are needed, and one upload has at most 10000"):
        plan_concat(segments)


def test_what_no_object_can_hold_is_refused():
    with pytest.raises(ObjectTooLarge, match="write several objects"):
        plan_stages([whole(40 * TiB, "a"), whole(9 * TiB, "b")])
    with pytest.raises(ObjectTooLarge, match="write several objects"):
        plan_stages([whole(5, f"o{number}") for number in range(10)], Limits(min_part=2, max_parts=3))


def test_a_range_outside_of_its_object_is_refused():
    for start, end in [(0, 6), (-1, 3), (4, 3)]:
        with pytest.raises(ConfigError, match="not within the 5 bytes"):
            plan_concat([Range(Object("o", 5), start, end)])


@pytest.mark.parametrize(
    "limits", [{"min_part": 0}, {"min_part": 5, "largest_copy": 9}, {"max_parts": 1}], ids=str
)
def test_limits_within_which_nothing_can_be_planned_are_refused(limits):
    with pytest.raises(ConfigError, match="parts need at least"):
        Limits(**limits)


def test_ten_thousand_barely_large_parts_between_separators_are_planned_at_once():
    """The states of a plan stay few, whatever the sizes: here each part can give a little."""
    segments = []
    for number in range(10_000):
        segments.append(Literal(bytes(1 + number * 7919 % (2 * MiB))[:100]))
        segments.append(whole(5 * MiB + number * 104_729 % (6 * MiB), f"o{number}"))
    stages = plan_stages(segments)
    assert sum(part.size for stage in stages for part in stage) == sum(segment.size for segment in segments)
