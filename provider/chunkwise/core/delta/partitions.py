"""Partition values from the ``name=value`` segments of a path, by the types of the table.

A value that its type cannot hold makes a table that nobody can open: it is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final
from urllib.parse import unquote

from chunkwise.core.column_names import is_name
from chunkwise.core.delta.schema import Fields
from chunkwise.core.errors import ConfigError

#: what Hive and Spark write for NULL
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
_BITS: Final = {"byte": 8, "short": 16, "integer": 32, "long": 64}
_DECIMAL: Final = re.compile(r"decimal\((\d+),\s*(\d+)\)")
_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?")
#: types that a partition column may have
TYPES: Final = "string, date, timestamp, boolean, byte, short, integer, long, decimal(p,s)"


class BadPartition(Exception):
    """A path whose partition values do not fit the table; the text shows no value."""


def segments_of(path: str) -> dict[str, str | None]:
    """Names and values in the folders of a path, in order. Folders without ``=`` say nothing.

    :raises BadPartition: a name is empty or occurs twice, a value is no UTF-8, or a sign is not escaped with
        which Polars (2.1) reads NULL for the value, and says nothing.
    """
    found: dict[str, str | None] = {}
    folded: set[str] = set()
    for folder in path.split("/")[:-1]:
        raw, separator, value = folder.partition("=")
        if not separator:
            continue
        if "=" in value or "*" in folder:
            raise BadPartition(
                "a folder has a '*' or a second '=', where some engines read another value: write %2A, %3D"
            )
        try:
            name, text = unquote(raw, errors="strict"), unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise BadPartition("a folder has escapes that are no UTF-8") from None
        if not name:
            raise BadPartition("a folder has a value without a name")
        if name.lower() in folded:
            raise BadPartition(f"column {name!r} occurs twice in the path, or differs in nothing but case")
        folded.add(name.lower())
        found[name] = None if value in ("", _NULL) else text
    return found


def columns_for(path: str, types: Mapping[str, str]) -> dict[str, str]:
    """Names and types of the partition columns of a table that this file makes.

    :param types: what is said of some; the others are strings.
    :raises BadPartition: Delta allows no column of such a name, or a type is of a column that the path lacks.
    """
    names = list(segments_of(path))
    bad = [name for name in names if not is_name(name)]
    if bad:
        raise BadPartition(f"Delta allows no column of the name {bad[0]!r}: it has one of ' ,;{{}}()=' in it")
    unknown = sorted(set(types) - set(names))
    if unknown:
        raise BadPartition(f"partition_types has {_names(unknown)}, the path has not")
    return {name: types.get(name, "string") for name in names}


def check_types(wanted: Mapping[str, str], there: Mapping[str, str], place: str) -> None:
    """Refuse types that no partition column can have, or other ones than those of the table.

    :param wanted: types that the caller says, by name.
    :param there: types of the table; empty: it has no partition column, or there is no table.
    :param place: of the table, for the message.
    :raises ConfigError: naming both.
    """
    for name, kind in wanted.items():
        if not is_possible(kind):
            raise ConfigError(f"partition_types has {kind!r} for {name!r}: choose one of {TYPES}").naming(
                "partition_types"
            )
        if there and there.get(name) != kind:
            raise ConfigError(
                f"partition_types has {kind!r} for {name!r}, and {place} has {there.get(name)!r}"
            ).naming("partition_types")


def check_nulls(values: Mapping[str, str | None], fields: Fields) -> None:
    """:raises BadPartition: a value is null in a column that must not be."""
    for field in fields:
        name = field["name"]
        if name in values and values[name] is None and not field.get("nullable", True):
            raise BadPartition(f"column {name!r} must not be null, and the path says that it is")


def values_for(path: str, types: Mapping[str, str]) -> dict[str, str | None]:
    """The partition values of a file, as the log has them.

    :param path: of the file from the table's root on.
    :param types: of the partition columns of the table, in order.
    :raises BadPartition: a column is missing or too many, or a value is not of its column's type.
    """
    found = segments_of(path)
    missing = [name for name in types if name not in found]
    more = [name for name in found if name not in types]
    if missing or more:
        raise BadPartition(
            f"the table is partitioned by {_names(types)}, the path has {_names(found)}: "
            + "; ".join(
                text
                for text in (
                    f"{_names(missing)} missing" if missing else "",
                    f"{_names(more)} unknown" if more else "",
                )
                if text
            )
        )
    return {name: _value(name, kind, found[name]) for name, kind in types.items()}


def is_possible(kind: str) -> bool:
    """Whether a partition column may have this type."""
    decimal = _DECIMAL.fullmatch(kind)
    if decimal:
        return 1 <= int(decimal[1]) <= 38 and int(decimal[2]) <= int(decimal[1])
    return kind in _BITS or kind in ("string", "date", "timestamp", "boolean")


def _value(name: str, kind: str, text: str | None) -> str | None:
    if text is None:
        return None
    value = _parsed(kind, text)
    if value is None:
        raise BadPartition(f"the path has a value for column {name!r} that is no {kind}")
    return value


def _parsed(kind: str, text: str) -> str | None:
    """The text in the one form that all engines read; ``None`` if it is none of this type."""
    if kind == "string":
        return text
    if kind == "date":
        return text if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) and _is_date(text) else None
    if kind in _BITS:
        if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII):
            return None
        number, bound = int(text), 1 << (_BITS[kind] - 1)
        return str(number) if -bound <= number < bound else None
    if kind == "boolean":
        return text.lower() if text.lower() in ("true", "false") else None
    if kind == "timestamp":
        return _timestamp(text)
    decimal = _DECIMAL.fullmatch(kind)
    return None if decimal is None else _decimal(text, int(decimal[1]), int(decimal[2]))


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _timestamp(text: str) -> str | None:
    if not _TIMESTAMP.fullmatch(text) or not text.isascii():
        return None
    try:
        found = datetime.fromisoformat(text)
        # without a zone it is UTC, as the log's own form is read
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found.strftime("%Y-%m-%d %H:%M:%S.%f").zfill(26)


def _decimal(text: str, precision: int, scale: int) -> str | None:
    found = re.fullmatch(r"(-?)0*(\d*?)(?:\.(\d*?)0*)?", text, re.ASCII)
    if found is None or not re.search(r"\d", text):
        return None
    sign, whole, fraction = found[1], found[2], found[3] or ""
    if len(fraction) > scale or len(whole) > precision - scale:
        return None
    sign = sign if whole or fraction else ""
    # with all digits of the scale: deltalake opens no table that has fewer
    return f"{sign}{whole or '0'}" + (f".{fraction.ljust(scale, '0')}" if scale else "")


def _names(names: Mapping[str, object] | list[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
