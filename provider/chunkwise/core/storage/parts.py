"""How large each part of a multipart upload is: pure arithmetic on S3's limits."""

from __future__ import annotations

from chunkwise.core.errors import ConfigError, ObjectTooLarge
from chunkwise.core.units import GiB, MiB

# Amazon S3 User Guide, "Amazon S3 multipart upload limits" (qfacts.html)
MIN_PART = 5 * MiB  # every part but the last
MAX_PART = 5 * GiB  # also the most that one PutObject takes
MAX_PARTS = 10_000

#: default part size: two in flight keep up with a compressing producer
DEFAULT_PART = 8 * MiB

#: parts of one size before the size doubles. Fewer would reach larger objects at the price of memory: a grown
#: part is at most 1/450 of what was written before it, and 10,000 parts hold 9.2 TiB from 5 MiB on, 11.9 TiB
#: from 8 MiB on.
PARTS_PER_STEP = 900


def check_part_size(part_size: int) -> None:
    """Refuse a first part size that S3 would refuse.

    :param part_size: bytes.
    :raises ConfigError: outside of 5 MiB to 5 GiB.
    """
    if not MIN_PART <= part_size <= MAX_PART:
        raise ConfigError(
            f"part_size must be {MIN_PART} (5 MiB) to {MAX_PART} (5 GiB) bytes, not {part_size}"
        )


def part_length(part_size: int, number: int) -> int:
    """Bytes of a full part.

    The size doubles every 900 parts up to 5 GiB, so that nobody has to know the size of the object
    beforehand. S3's own limit, 48.8 TiB, is 10,000 parts of 5 GiB: only a first part of 5 GiB reaches it. A
    smaller one trades reach for memory, see :func:`largest_object`.

    :param part_size: bytes of part 1.
    :param number: part number, from 1.
    :raises ObjectTooLarge: there is no such part.
    """
    if number > MAX_PARTS:
        reach = largest_object(part_size)
        raise ObjectTooLarge(
            f"an upload has at most {MAX_PARTS} parts; starting at {part_size} bytes they hold at most "
            f"{reach} bytes: start with a larger part_size or write several objects"
        )
    return min(part_size << (number - 1) // PARTS_PER_STEP, MAX_PART)


def smallest_cut(part_size: int, number: int) -> int:
    """Bytes that a part needs at least to be cut before it is full.

    S3's minimum, scaled as the part size has grown: cutting early then shortens the reach of an upload by a
    constant factor (``5 MiB / part_size``) and never lets it run out of part numbers.

    :param part_size: bytes of part 1.
    :param number: part number, from 1.
    """
    return max(MIN_PART, MIN_PART * part_length(part_size, number) // part_size)


def largest_object(part_size: int) -> int:
    """Bytes of the largest object that an upload can hold which starts with parts of this size.

    :param part_size: bytes of part 1.
    """
    whole, rest = divmod(MAX_PARTS, PARTS_PER_STEP)
    steps = [min(part_size << step, MAX_PART) for step in range(whole + 1)]
    return PARTS_PER_STEP * sum(steps[:-1]) + rest * steps[-1]
