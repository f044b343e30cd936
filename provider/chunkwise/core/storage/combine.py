"""The CRC-32 of two pieces from the CRC-32 of each: what zlib calls ``crc32_combine``.

A CRC is linear over GF(2): what so many further bytes do to it is a matrix that depends on their number only.
The matrix for ``2**n`` bytes is the square of the one for ``2**(n - 1)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

_POLYNOMIAL: Final = 0xEDB88320  # RFC 1952 section 8, reflected

#: a matrix, as what it makes of each value of each of the four bytes of a number
_Matrix = tuple[tuple[int, ...], ...]


def combine_crc32(first: int, second: int, second_size: int) -> int:
    """The CRC-32 of ``a + b``.

    :param first: CRC-32 of ``a``.
    :param second: CRC-32 of ``b``.
    :param second_size: bytes of ``b``.
    """
    if second_size < 0:
        raise ValueError(f"a size must not be negative: {second_size}")
    power = 0
    while second_size:
        if second_size & 1:
            first = _times(_appending(power), first)
        second_size >>= 1
        power += 1
    return first ^ second


def combine_all(pieces: Iterable[tuple[int, int]]) -> int:
    """The CRC-32 of many pieces, one after the other.

    :param pieces: CRC-32 and bytes of each.
    """
    total = 0
    for crc, size in pieces:
        total = combine_crc32(total, crc, size)
    return total


def _times(matrix: _Matrix, value: int) -> int:
    low, second, third, high = matrix
    return low[value & 255] ^ second[value >> 8 & 255] ^ third[value >> 16 & 255] ^ high[value >> 24]


@cache
def _appending(power: int) -> _Matrix:
    """The matrix of ``2**power`` further bytes."""
    if power:
        half = _appending(power - 1)
        return _matrix([_times(half, _times(half, 1 << bit)) for bit in range(32)])
    columns = []
    for bit in range(32):
        crc = 1 << bit
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        columns.append(crc)
    return _matrix(columns)


def _matrix(columns: list[int]) -> _Matrix:
    tables = []
    for byte in range(4):
        table = [0]
        for column in columns[8 * byte : 8 * byte + 8]:
            table += [value ^ column for value in table]
        tables.append(tuple(table))
    return tuple(tables)
