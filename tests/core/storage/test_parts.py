"""Part sizes: pure arithmetic within S3's limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ObjectTooLarge
from chunkwise.core.storage import DEFAULT_PART, largest_object, part_length
from chunkwise.core.storage.parts import smallest_cut
from chunkwise.core.units import GiB, MiB, TiB

FIRST_PARTS = st.integers(5 * MiB, 5 * GiB)
NUMBERS = st.integers(1, 10_000)


@given(first=FIRST_PARTS, number=NUMBERS)
def test_every_part_is_one_that_s3_takes_and_sizes_never_shrink(first, number):
    size = part_length(first, number)
    assert 5 * MiB <= size <= 5 * GiB
    assert part_length(first, 1) == first
    assert number == 10_000 or size <= part_length(first, number + 1)


@given(first=FIRST_PARTS)
def test_ten_thousand_parts_hold_what_largest_object_says(first):
    total = sum(part_length(first, number) for number in range(1, 10_001))
    assert total == largest_object(first)
    assert total >= 5 * TiB


def test_the_object_limit_of_s3_is_reached_by_the_largest_parts():
    """S3 User Guide, multipart upload limits: 48.8 TiB, which is 10,000 parts of 5 GiB."""
    assert largest_object(5 * GiB) == 10_000 * 5 * GiB > 48.8 * TiB
    assert largest_object(DEFAULT_PART) > 11 * TiB


@given(first=FIRST_PARTS, number=st.integers(901, 10_000))
def test_a_grown_part_is_small_beside_what_was_written_before_it(first, number):
    """Memory grows far slower than the object."""
    before = sum(part_length(first, earlier) for earlier in range(1, number))
    assert part_length(first, number) * 450 <= before


@given(first=FIRST_PARTS, number=NUMBERS)
def test_an_early_cut_is_a_part_that_s3_takes_and_keeps_the_reach(first, number):
    cut = smallest_cut(first, number)
    assert 5 * MiB <= cut <= part_length(first, number)
    assert cut >= part_length(first, number) * 5 * MiB // first


@pytest.mark.parametrize("first", [5 * MiB, DEFAULT_PART, 5 * GiB])
def test_there_is_no_part_10001(first):
    with pytest.raises(ObjectTooLarge, match=f"at most 10000 parts.*at most {largest_object(first)} bytes"):
        part_length(first, 10_001)
