"""Bytes for the tests of the storage."""

from __future__ import annotations

import random
from functools import cache


@cache
def noise(size: int) -> bytes:
    """``size`` bytes without a pattern, the same every time: a part in a wrong place is noticed."""
    return random.Random(size).randbytes(size)
