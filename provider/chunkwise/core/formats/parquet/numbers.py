"""Texts of numbers as numbers of one type: exactly, or not at all.

What is rounded is a fraction that cannot be written in binary, to the nearest number of the type (IEEE 754,
round half to even); no integer becomes another one, no number infinite, and none zero.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final

import pyarrow as pa

from chunkwise.core.formats.parquet.misfit import Misfit

#: of JSON, and what CSV files have besides: a plus, zeros in front, nothing before or after the point
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DIGITS: Final = re.compile(r"[+-]?[0-9]+")
#: texts that ``int`` reads at once, and which every interpreter allows
_SHORT: Final = 40
#: texts of a float that JSON has no number for
_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity", "nan", "inf", "-inf"})
#: by bits: the codes of :mod:`struct`
_NARROW: Final = {16: "<e", 32: "<f"}


def decimal(digits: str) -> Decimal:
    """A number without any loss.

    :raises Misfit: it is none: ``_``, blanks, and digits that are not ASCII stand in no number.
    """
    if _NUMBER.fullmatch(digits) is None:
        raise Misfit("it is no number")
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent of more digits than there are atoms
        raise Misfit("it is no number that could be held") from None


def decimals(kind: pa.DataType) -> Callable[[str], Decimal]:
    """Reads decimals of a type. Zeros at their end need no place; of other digits none is dropped, as Arrow
    does with those that are far behind the point.
    """
    places, scale = kind.precision, kind.scale

    def read(digits: str) -> Decimal:
        exact = decimal(digits)
        if not exact:
            return Decimal(0)
        sign, figures, exponent = exact.as_tuple()
        assert isinstance(exponent, int)
        text = "".join(map(str, figures)).lstrip("0")
        kept = text.rstrip("0")
        exponent += len(text) - len(kept)
        if -exponent > scale:
            raise Misfit(f"it is no {kind}: it has more decimals")
        if len(kept) + exponent + scale > places:
            raise Misfit(f"it is no {kind}: it has more digits")
        return Decimal((sign, (*map(int, kept), *[0] * (exponent + scale)), -scale))

    return read


def integers(kind: pa.DataType) -> Callable[[str], int]:
    """Reads integers of a type; those of a duration are counts of its unit.

    A text with a point or an exponent is read where it means an integer, e.g. ``1e3``.
    """
    bits = kind.bit_width
    signed = not pa.types.is_unsigned_integer(kind)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def read(digits: str) -> int:
        if len(digits) <= _SHORT and _DIGITS.fullmatch(digits):
            number = int(digits)
        else:
            exact = decimal(digits)
            if exact and exact.adjusted() > _SHORT:
                raise _beyond(kind)
            if exact != exact.to_integral_value():
                raise Misfit(
                    f"it is no integer; pin the column as double, decimal or string instead of {kind}"
                )
            number = int(exact)
        if not low <= number <= high:
            raise _beyond(kind)
        return number

    return read


def _beyond(kind: pa.DataType) -> Misfit:
    return Misfit(f"the integer is beyond {kind}; pin the column as string, or as decimal128(38, 0)")


def floats(kind: pa.DataType) -> Callable[[str], float]:
    """Reads floats of a type; ``NaN`` and infinities by their names."""
    code = _NARROW.get(kind.bit_width)

    def read(digits: str) -> float:
        if digits in _NOT_FINITE:
            return float(digits)
        exact = decimal(digits)
        number = float(digits)
        if code is not None and math.isfinite(number):
            number = _narrow(number, exact, code)
        lost = math.isinf(number) or (number == 0 and exact != 0)
        if lost or (_DIGITS.fullmatch(digits) and Decimal(number) != exact):
            raise Misfit(f"a {kind} cannot hold it; pin the column as string or decimal")
        return number

    return read


def _narrow(number: float, exact: Decimal, code: str) -> float:
    """The nearest number of fewer bits.

    Rounded twice, a number may become its neighbour's neighbour. It does not, if the first rounding goes to
    the one with an odd last bit (Boldo, Melquiond: When double rounding is odd, 2005).
    """
    there = Decimal(number)
    if there != exact and not struct.pack("<d", number)[0] & 1:
        number = math.nextafter(number, math.inf if there < exact else -math.inf)
    try:
        return float(struct.unpack(code, struct.pack(code, number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def vanishes(number: float | None, text: bytes) -> bool:
    """Whether a number became zero on the way from its text."""
    return number == 0 and bool(text.lower().partition(b"e")[0].strip(b"-0."))
