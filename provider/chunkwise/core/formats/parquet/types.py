"""Arrow types by their names, as they stand in plans and options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

import pyarrow as pa

from chunkwise.core.errors import ConfigError

#: types of columns of other formats
_COMMON: Final = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "json": pa.string(),
    "string": pa.string(),
    "double": pa.float64(),
    "float": pa.float32(),
    "halffloat": pa.float16(),
    "date32[day]": pa.date32(),
    "date64[ms]": pa.date64(),
}
_PATTERN: Final = re.compile(
    r"(?P<name>\w+)\s*(?:\((?P<round>[^()]*)\)|\[(?P<square>[^\[\]]*)\]|<(?P<angle>.*)>)?"
)
_OFFSET: Final = re.compile(r"[+-](?:[01][0-9]|2[0-3]):[0-5][0-9]")
_SHOWN: Final = "string, int64, double, bool, decimal128(10, 2), timestamp[us, tz=UTC], date32, list<string>"


def type_named(text: str, column: str) -> pa.DataType:
    """The type that a text names: Arrow's names, and ``integer``, ``number``, ``boolean``, ``json``.

    :param column: for messages.
    :raises ConfigError: none has this name.
    """
    found = _parse(text.strip())
    if found is None:
        raise ConfigError(f"column {column!r}: {text!r} is no type of Arrow; give e.g. {_SHOWN}")
    return found


def check_asked(text: str, column: str) -> None:
    """Refuse a type that somebody asked for, and that every chunk or every reader would refuse.

    :raises ConfigError: it is no type, a struct in it has two members of one name, or a timestamp a zone that
        is not known.
    """
    for kind in walk(type_named(text, column)):
        member = twin(kind)
        if member is not None:
            raise ConfigError(f"column {column!r}: {kind} has several members {member!r}; give each its name")
        if pa.types.is_timestamp(kind) and kind.tz is not None and not _is_zone(kind.tz):
            raise ConfigError(
                f"column {column!r}: {kind.tz!r} is no time zone; give e.g. UTC, Europe/Berlin or +02:00"
            )


def walk(kind: pa.DataType) -> Iterator[pa.DataType]:
    """A type, and those inside it."""
    yield kind
    inner: list[pa.DataType] = []
    if pa.types.is_struct(kind):
        inner = [field.type for field in kind]
    elif pa.types.is_map(kind):
        inner = [kind.key_type, kind.item_type]
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = [kind.value_type]
    for one in inner:
        yield from walk(one)


def twin(kind: pa.DataType) -> str | None:
    """The name that several members of a struct have."""
    names = [field.name for field in kind] if pa.types.is_struct(kind) else []
    return next((name for number, name in enumerate(names) if name in names[:number]), None)


def _is_zone(name: str) -> bool:
    if name == "UTC" or _OFFSET.fullmatch(name):
        return True
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        return not available_timezones()  # a machine without a time zone database knows none
    return True


def _parse(text: str) -> pa.DataType | None:
    if text in _COMMON:
        return _COMMON[text]
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    name = match["name"]
    try:
        if match["angle"] is not None:
            return _nested(name, match["angle"])
        if match["round"] is not None:
            numbers = [int(number) for number in match["round"].split(",")]
            makers = {"decimal128": pa.decimal128, "decimal256": pa.decimal256, "decimal": pa.decimal128}
            return makers[name](*numbers) if name in makers else None
        if match["square"] is not None:
            return _with_unit(name, [item.strip() for item in match["square"].split(",")])
        return pa.type_for_alias(name)
    except (ValueError, TypeError, pa.ArrowException):
        return None


def _with_unit(name: str, items: list[str]) -> pa.DataType | None:
    if name == "timestamp" and len(items) == 2 and items[1].startswith("tz=") and items[1] != "tz=":
        return pa.timestamp(items[0], items[1].removeprefix("tz="))
    if name == "fixed_size_binary" and len(items) == 1:
        return pa.binary(int(items[0]))
    return pa.type_for_alias(f"{name}[{items[0]}]") if len(items) == 1 else None


def _nested(name: str, inner: str) -> pa.DataType | None:
    members = [(label.strip(), _parse(kind.strip())) for label, kind in map(_named, _split(inner))]
    kinds = [kind for _, kind in members]
    if any(kind is None for kind in kinds):
        return None
    if name in ("list", "large_list") and len(kinds) == 1:
        return pa.list_(kinds[0]) if name == "list" else pa.large_list(kinds[0])
    if name == "map" and len(kinds) == 2:
        return pa.map_(kinds[0], kinds[1])
    if name == "struct" and all(label for label, _ in members):
        return pa.struct([pa.field(label, kind) for label, kind in members])
    return None


def _named(text: str) -> tuple[str, str]:
    """``name: type``, or a type alone."""
    label, colon, kind = text.partition(":")
    text = kind if colon and re.fullmatch(r"[^<>\[\](),]*", label) else text
    label = label if text == kind else ""
    return label, text.strip().removesuffix(" not null").strip()


def _split(text: str) -> list[str]:
    """At commas that stand in no bracket."""
    parts, depth, last = [], 0, 0
    for position, character in enumerate(text):
        if character in "<([":
            depth += 1
        elif character in ">)]":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[last:position])
            last = position + 1
    return [*parts, text[last:]]
