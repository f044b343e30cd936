"""Forms of dates and timestamps, and the one form that they become.

Nothing is guessed: a text must match a form that was named, a number needs a unit that was named, and a text
that several forms read in different ways is an error. Fractions of a second are kept as digits, never as a
float.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from typing import Final, Literal
from zoneinfo import ZoneInfo

from chunkwise.core.errors import ConfigError

To = Literal["timestamp", "date"]

MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH_NUMBERS: Final = {name[:length]: n for n, name in enumerate(MONTHS, 1) for length in (3, len(name))}

#: decimal places of the unit of an epoch form
EPOCHS: Final = {"epoch_s": 0, "epoch_ms": 3, "epoch_us": 6, "epoch_ns": 9}
#: digits after the second that every timestamp has at least
MICROSECONDS: Final = 6
_LONGEST_NUMBER = 64
#: without a zone, as all local times here: what they are in UTC is reckoned with offsets
_EPOCH: Final = datetime.combine(date(1970, 1, 1), time())

# RFC 5322, section 4.3: the obsolete zones that it gives a meaning; all other names mean nothing certain
_ZONE_NAMES: Final = {"gmt": 0, "ut": 0, "utc": 0, "z": 0} | {
    f"{zone}{kind}": offset + (kind == "dt")
    for zone, offset in {"e": -5, "c": -6, "m": -7, "p": -8}.items()
    for kind in ("st", "dt")
}


class Unreadable(ValueError):
    """A value is no point in time in the way that was asked for. Its text says why and does not quote the
    value.
    """


@dataclass(frozen=True, slots=True)
class Moment:
    """What one form reads.

    :param local: to the second; with an offset, or without one.
    :param fraction: digits after the second, maybe none.
    :param offset: from UTC; ``None`` where the text has none.
    :param whole_day: whether the form has no time of the day.
    """

    local: datetime
    fraction: str = ""
    offset: timedelta | None = None
    whole_day: bool = False


#: reads one form; ``None`` where the value is not of that form
Form = Callable[[str], Moment | None]


# --- patterns -----------------------------------------------------------------------------------------------

_OFFSET = r"(?P<offset>[Zz]|[+-][0-9]{2}(?::?[0-9]{2}(?::?[0-9]{2})?)?)"
#: the directives of strptime that mean the same everywhere; names are English, whatever the locale of the
#: process
_DIRECTIVES: Final = {
    "Y": r"(?P<Y>[0-9]{4})",
    "y": r"(?P<y>[0-9]{2})",
    "m": r"(?P<m>1[0-2]|0?[1-9])",
    "d": r"(?P<d>3[01]|[12][0-9]|0?[1-9])",
    "e": r" ?(?P<d>3[01]|[12][0-9]|0?[1-9])",
    "j": r"(?P<j>[0-9]{3})",
    "b": rf"(?P<b>{'|'.join(name[:3] for name in MONTHS)})",
    "B": rf"(?P<b>{'|'.join(MONTHS)})",
    "a": rf"(?P<a>{'|'.join(name[:3] for name in DAYS)})",
    "A": rf"(?P<a>{'|'.join(DAYS)})",
    "H": r"(?P<H>2[0-3]|[01]?[0-9])",
    "I": r"(?P<I>1[0-2]|0?[1-9])",
    "p": r"(?P<p>am|pm)",
    "M": r"(?P<M>[0-5]?[0-9])",
    "S": r"(?P<S>[0-5]?[0-9])",
    "f": r"(?P<f>[0-9]+)",
    "z": _OFFSET,
    "Z": r"(?P<Z>utc|gmt)",
    "%": "%",
}
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_NUMERIC: Final = "YymdejHIMSf"
#: where digits follow digits, a number of one or two digits would have to be guessed
_FIXED: Final = {
    "m": r"(?P<m>0[1-9]|1[0-2])",
    "d": r"(?P<d>0[1-9]|[12][0-9]|3[01])",
    "H": r"(?P<H>[01][0-9]|2[0-3])",
    "I": r"(?P<I>0[1-9]|1[0-2])",
    "M": r"(?P<M>[0-5][0-9])",
    "S": r"(?P<S>[0-5][0-9])",
}


def pattern(text: str) -> Form:
    """The form of a strptime pattern such as ``"%b %d, %Y"``.

    As in strptime one or two digits are read for a day, month, hour, minute or second, other than there only
    two where digits follow without anything between; ``%f`` reads any number of digits, and names of months
    and days are English, in any case.

    :raises ConfigError: for a directive that is not known, or a pattern that does not give a date.
    """
    expression, position, digits_before = "", 0, False
    for directive in _DIRECTIVE.finditer(text):
        expression += _literal(text[position : directive.start()])
        name, end = directive.group(1), directive.end()
        touches = text[end : end + 1] == "%" and text[end + 1 : end + 2] in _NUMERIC
        touches |= digits_before and position == directive.start()
        try:
            expression += _FIXED[name] if touches and name in _FIXED else _DIRECTIVES[name]
        except KeyError:
            raise ConfigError(
                f"{directive.group()!r} in the pattern {text!r} is unknown; known are"
                f" %{' %'.join(_DIRECTIVES)}"
            ) from None
        position, digits_before = end, name in _NUMERIC
    expression += _literal(text[position:])
    try:
        compiled = re.compile(expression, re.IGNORECASE | re.ASCII)
    except re.error:
        raise ConfigError(f"the pattern {text!r} has a part of a date or time twice") from None
    names = compiled.groupindex.keys()
    if not (names & {"Y", "y"} and ({"m", "d"} <= names or {"b", "d"} <= names or "j" in names)):
        raise ConfigError(
            f"the pattern {text!r} gives no date: it needs a year, and a month and a day (or %j)"
        )
    if ("I" in names) != ("p" in names) or {"H", "I"} <= names or {"m", "b"} <= names:
        raise ConfigError(
            f"the pattern {text!r} contradicts itself: %I goes with %p, and not with %H, nor %m with %b"
        )
    whole_day = not names & {"H", "I"}
    if whole_day and names & {"M", "S", "f", "z", "Z"}:
        raise ConfigError(f"the pattern {text!r} has a part of a time, and no hour")
    return _regex_form(compiled, whole_day=whole_day)


def _literal(text: str) -> str:
    """Text that must stand there; a run of spaces matches any number of them, as in strptime."""
    return " +".join(re.escape(piece) for piece in re.split(" +", text))


def _regex_form(compiled: re.Pattern[str], *, whole_day: bool = False) -> Form:
    def read(text: str) -> Moment | None:
        match = compiled.fullmatch(text)
        if match is None:
            return None
        return _moment(
            {name: part for name, part in match.groupdict().items() if part is not None}, whole_day
        )

    return read


def _moment(parts: dict[str, str], whole_day: bool) -> Moment | None:
    """The moment that the parts of a text make, ``None`` where there is no such day."""
    year = int(parts["Y"]) if "Y" in parts else _century(int(parts["y"]))
    hour = int(parts.get("H", "0"))
    if "I" in parts:
        hour = int(parts["I"]) % 12 + (12 if parts["p"].lower() == "pm" else 0)
    try:
        if "j" in parts:
            day = date(year, 1, 1) + timedelta(days=int(parts["j"]) - 1)
            if day.year != year:
                return None
        else:
            month = _MONTH_NUMBERS[parts["b"].lower()] if "b" in parts else int(parts["m"])
            day = date(year, month, int(parts["d"]))
        local = datetime.combine(day, time(hour, int(parts.get("M", "0")), int(parts.get("S", "0"))))
    except (ValueError, OverflowError):
        return None
    if "a" in parts and not DAYS[day.weekday()].startswith(parts["a"].lower()):
        return None
    offset = _offset(parts)
    if offset is not None and abs(offset) >= timedelta(days=1):
        return None
    return Moment(local, parts.get("f", ""), offset, whole_day)


def _century(year: int) -> int:
    return year + (1900 if year >= 69 else 2000)  # POSIX, strptime, %y


def _offset(parts: dict[str, str]) -> timedelta | None:
    name = parts.get("Z", "").lower()
    if name:
        return timedelta(hours=_ZONE_NAMES[name])
    text = parts.get("offset")
    if text is None:
        return None
    if text in "Zz":
        return timedelta(0)
    digits = text[1:].replace(":", "")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4] or "0"), int(digits[4:] or "0")
    if minutes > 59 or seconds > 59:
        return timedelta(days=1)
    size = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return -size if text[0] == "-" else size


# --- named forms --------------------------------------------------------------------------------------------

_ISO = re.compile(
    r"(?P<Y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})"
    r"(?:[Tt ](?P<H>[01][0-9]|2[0-3]):(?P<M>[0-5][0-9])(?::(?P<S>[0-5][0-9])(?:[.,](?P<f>[0-9]+))?)?"
    rf" ?{_OFFSET}?)?"
)
_ISO_BASIC = re.compile(
    r"(?P<Y>[0-9]{4})(?P<m>[0-9]{2})(?P<d>[0-9]{2})"
    rf"(?:T(?P<H>[01][0-9]|2[0-3])(?P<M>[0-5][0-9])(?:(?P<S>[0-5][0-9])(?:[.,](?P<f>[0-9]+))?)?{_OFFSET}?)?"
)
# RFC 5322, section 3.3, and the IMF-fixdate of RFC 9110, section 5.6.7, which is one of them. Their obsolete
# forms with a year of two digits or without a zone are left out: they would have to be guessed.
_RFC_2822 = re.compile(
    rf"(?:(?P<a>{'|'.join(name[:3] for name in DAYS)}), +)?(?P<d>[0-9]{{1,2}}) +"
    rf"(?P<b>{'|'.join(name[:3] for name in MONTHS)}) +(?P<Y>[0-9]{{4}}) +(?P<H>[01][0-9]|2[0-3])"
    rf":(?P<M>[0-5][0-9])(?::(?P<S>[0-5][0-9]))? +(?:(?P<Z>{'|'.join(_ZONE_NAMES)})"
    rf"|(?P<offset>[+-][0-9]{{4}}))(?: *\([^()]*\))?",
    re.IGNORECASE | re.ASCII,
)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def _by_day_or_time(compiled: re.Pattern[str]) -> Form:
    """A form that has a date alone, or a date and a time."""

    def read(text: str) -> Moment | None:
        match = compiled.fullmatch(text)
        if match is None:
            return None
        parts = {name: part for name, part in match.groupdict().items() if part is not None}
        return _moment(parts, "H" not in parts)

    return read


def _epoch(places: int) -> Form:
    """Units since 1970-01-01T00:00:00Z, of which 10**places are a second."""

    def read(text: str) -> Moment | None:
        if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
            return None
        sign, digits, exponent = Decimal(text).as_tuple()
        if not isinstance(exponent, int) or abs(exponent) > _LONGEST_NUMBER:
            return None
        size = int("".join(map(str, digits))) * 10 ** max(0, exponent)
        split = places + max(0, -exponent)
        seconds, rest = divmod(-size if sign else size, 10**split)
        try:
            return Moment(
                _EPOCH + timedelta(seconds=seconds), str(rest).zfill(split) if split else "", timedelta(0)
            )
        except OverflowError:
            return None

    return read


NAMED: Final[dict[str, Form]] = {
    "iso": _by_day_or_time(_ISO),
    "iso_basic": _by_day_or_time(_ISO_BASIC),
    "rfc2822": _regex_form(_RFC_2822),
    **{name: _epoch(places) for name, places in EPOCHS.items()},
}


def form(name: str) -> Form:
    """The form of a name (:data:`NAMED`), or of a strptime pattern.

    :raises ConfigError: it is neither.
    """
    if "%" in name:
        return pattern(name)
    try:
        return NAMED[name]
    except KeyError:
        raise ConfigError(
            f"the form {name!r} is unknown: give one of {', '.join(NAMED)}, or a pattern such as '%b %d, %Y'"
        ) from None


# --- to one form --------------------------------------------------------------------------------------------


def zone(name: str) -> tzinfo:
    """A time zone by its IANA name.

    :raises ConfigError: there is none.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise ConfigError(
            f"the time zone {name!r} is unknown; give an IANA name, e.g. 'Europe/Berlin'"
        ) from None


def aligned(moment: Moment, to: To, assumed: tzinfo | None) -> str:
    """``2023-12-21T10:11:12.123456Z`` or ``2023-12-21``, in UTC.

    A timestamp has six digits after the second, more if more were given. A whole day that becomes a date
    stays that day; one that becomes a timestamp is its midnight in the assumed zone.

    :raises Unreadable: there is no offset and no assumed zone, the local time is one that the zone has twice
        or never, or the moment is outside of the years 1 to 9999.
    """
    local = moment.local
    if to == "date" and moment.whole_day:
        return local.date().isoformat()
    if moment.offset is not None:
        offset = moment.offset
    elif assumed is None:
        raise Unreadable("has no offset from UTC, and assume_tz is None")
    elif assumed is UTC:
        offset = timedelta(0)
    else:
        first = local.replace(tzinfo=assumed, fold=0).utcoffset()
        second = local.replace(tzinfo=assumed, fold=1).utcoffset()
        if first is None or first != second:
            raise Unreadable("is a local time that assume_tz has twice or never, when clocks change")
        offset = first
    try:
        moved = local - offset
    except OverflowError:
        raise Unreadable("is outside of the years 1 to 9999") from None
    if to == "date":
        return moved.date().isoformat()
    return f"{moved.isoformat()}.{moment.fraction.ljust(MICROSECONDS, '0')}Z"
