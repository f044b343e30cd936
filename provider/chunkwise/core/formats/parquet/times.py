"""Texts of days and times as what Arrow holds: exactly, or not at all.

Read is ISO 8601 with years of four digits, in its extended and basic form: ``2024-01-31``,
``2024-01-31T23:59:59.5+02:00``, ``20240131T235959Z``. A blank may stand for the T (RFC 3339, section 5.6),
and a comma for the point (ISO 8601).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Final

import pyarrow as pa

from chunkwise.core.formats.parquet.misfit import Misfit

_DAY: Final = r"(?P<year>[0-9]{4})(?P<dash>-?)(?P<month>[0-9]{2})(?P=dash)(?P<day>[0-9]{2})"
_CLOCK: Final = (
    r"(?P<hour>[0-9]{2})"
    r"(?:(?P<colon>:?)(?P<minute>[0-9]{2})(?:(?P=colon)(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?)?"
    r"(?P<zone>[Zz]|(?P<sign>[+-])(?P<off>[0-9]{2})(?::?(?P<off_minute>[0-5][0-9]))?)?"
)
_DATE: Final = re.compile(_DAY)
_TIME: Final = re.compile(r"(?P<t>[Tt])?" + _CLOCK)
_MOMENT: Final = re.compile(_DAY + r"(?:[Tt ]" + _CLOCK + r")?")
#: decimals of a second, by unit
_DECIMALS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_EPOCH: Final = date(1970, 1, 1)
#: zones in which a time without one is an instant all the same
_UTC: Final = frozenset({"UTC", "Etc/UTC", "Z", "+00:00", "-00:00"})


def days(kind: pa.DataType) -> Callable[[str], date]:
    """Reads days."""

    def read(text: str) -> date:
        found = _DATE.fullmatch(text)
        if found is None:
            raise Misfit(f"it is no {kind} of ISO 8601, as 2024-01-31 is")
        return _date(found)

    return read


def times(kind: pa.DataType) -> Callable[[str], int]:
    """Reads times of a day, as a count of the type's unit. In the basic form they begin with a T, as digits
    alone may be a count of anything.
    """

    def read(text: str) -> int:
        found = _TIME.fullmatch(text)
        if found is None or not (found["t"] or found["colon"]):
            raise Misfit(f"it is no {kind} of ISO 8601, as 23:59:59.5 is")
        if found["zone"]:
            raise Misfit(f"it has a zone, and {kind} has none")
        return _count(_seconds(found), found, kind)

    return read


def moments(kind: pa.DataType) -> Callable[[str], int]:
    """Reads instants, or times of a clock on a wall, as a count of the type's unit since 1970.

    A time without a zone is one of UTC, where the type's zone is that; in a type of another zone it is
    refused, as it may mean either.
    """

    def read(text: str) -> int:
        found = _MOMENT.fullmatch(text)
        if found is None:
            raise Misfit(f"it is no {kind} of ISO 8601, as 2024-01-31T23:59:59.5 is")
        if kind.tz is None and found["zone"]:
            raise Misfit(f"it has a zone, and {kind} has none")
        if kind.tz is not None and not found["zone"] and kind.tz not in _UTC:
            raise Misfit(f"it has no zone, and could be one of {kind.tz} or of UTC: give it one, e.g. a Z")
        seconds = (_date(found) - _EPOCH).days * 86_400 + _seconds(found) - _offset(found)
        return _count(seconds, found, kind)

    return read


def _date(found: re.Match[str]) -> date:
    try:
        return date(int(found["year"]), int(found["month"]), int(found["day"]))
    except ValueError:
        raise Misfit("there is no such day") from None


def _seconds(found: re.Match[str]) -> int:
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    if hour > 23 or minute > 59 or second > 59:
        raise Misfit("there is no such time of a day")
    return hour * 3600 + minute * 60 + second


def _offset(found: re.Match[str]) -> int:
    """Seconds that the clock of its zone is ahead of UTC."""
    if not found["sign"]:
        return 0
    hours, minutes = int(found["off"]), int(found["off_minute"] or 0)
    if hours > 23:
        raise Misfit("there is no such zone")
    seconds = hours * 3600 + minutes * 60
    return -seconds if found["sign"] == "-" else seconds


def _count(seconds: int, found: re.Match[str], kind: pa.DataType) -> int:
    fraction = found["fraction"] or ""
    decimals: int = _DECIMALS[kind.unit]
    if fraction[decimals:].strip("0"):
        raise Misfit(f"it is finer than {kind}")
    unit: int = 10**decimals
    return seconds * unit + int(fraction[:decimals].ljust(decimals, "0") or 0)
