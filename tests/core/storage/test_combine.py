"""CRC-32 of joined pieces."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.storage.combine import combine_all, combine_crc32
from chunkwise.core.units import GiB, MiB, TiB

CRCS = st.integers(0, 0xFFFFFFFF)
SIZES = st.integers(0, 50 * TiB)


def times_mod(first: int, second: int) -> int:
    """Product of two polynomials over GF(2) modulo the one of CRC-32, lowest power in the lowest bit."""
    product = 0
    for bit in range(32):
        if second >> bit & 1:
            product ^= first << bit
    for bit in range(63, 31, -1):
        if product >> bit & 1:
            product ^= 0x104C11DB7 << (bit - 32)
    return product


def by_polynomials(first: int, second: int, size: int) -> int:
    """crc(a + b) = crc(a) * x**(8 * size) + crc(b), in the unreflected notation of the textbooks."""

    def reflect(value: int) -> int:
        return int(f"{value:032b}"[::-1], 2)

    power, square, exponent = 1, 2, 8 * size
    while exponent:
        if exponent & 1:
            power = times_mod(power, square)
        square = times_mod(square, square)
        exponent >>= 1
    return reflect(times_mod(reflect(first), power)) ^ second


@given(first=st.binary(max_size=300), second=st.binary(max_size=3000))
def test_the_checksum_of_two_pieces_is_zlibs_of_both(first, second):
    combined = combine_crc32(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


@given(pieces=st.lists(st.binary(max_size=200), max_size=20))
def test_the_checksum_of_all_pieces_is_zlibs_of_the_whole(pieces):
    assert combine_all((zlib.crc32(piece), len(piece)) for piece in pieces) == zlib.crc32(b"".join(pieces))


@given(first=CRCS, second=CRCS, size=SIZES)
def test_sizes_that_no_test_can_hold_follow_the_polynomials(first, second, size):
    assert combine_crc32(first, second, size) == by_polynomials(first, second, size)


@given(pieces=st.lists(st.tuples(CRCS, SIZES), min_size=3, max_size=3))
def test_it_does_not_matter_in_which_order_pieces_are_joined(pieces):
    (first, _), (second, second_size), (third, third_size) = pieces
    left = combine_crc32(combine_crc32(first, second, second_size), third, third_size)
    right = combine_crc32(first, combine_crc32(second, third, third_size), second_size + third_size)
    assert left == right


@pytest.mark.parametrize("size", [MiB, 5 * MiB, 16 * MiB + 1])
def test_pieces_of_a_real_size(size):
    first, second = random.Random(1).randbytes(1000), random.Random(2).randbytes(size)
    combined = combine_crc32(zlib.crc32(first), zlib.crc32(second), size)
    assert combined == zlib.crc32(second, zlib.crc32(first))


def test_nothing_before_or_behind_changes_nothing():
    assert combine_crc32(0x12345678, 0, 0) == 0x12345678
    assert combine_crc32(0, 0x12345678, 5 * GiB) == 0x12345678
    assert combine_all([]) == 0


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="must not be negative: -1"):
        combine_crc32(1, 2, -1)
