"""JSON values as what pyarrow takes for one type of Arrow: exactly, or not at all."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pyarrow as pa

from chunkwise.core.formats.json_members import members
from chunkwise.core.formats.parquet.misfit import Misfit
from chunkwise.core.formats.parquet.numbers import decimals, floats, integers
from chunkwise.core.formats.parquet.times import days, moments, times

Read = Callable[[bytes], Any]

_items: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string: Final = msgspec.json.Decoder(str).decode


def reader(kind: pa.DataType) -> Read:
    """Reads one JSON value of a type, ``null`` as ``None``.

    Numbers and booleans may be written as strings, as CSV has them, where an empty one is null; a count of a
    duration's unit is a number, too. Days and times are strings of ISO 8601, binary is base64, a map is an
    object or a list of pairs. In place of a text any value may stand: it comes as its JSON.

    :return: raises :class:`~chunkwise.core.formats.parquet.misfit.Misfit`, or a ValueError.
    """
    read = _reader(kind)
    return lambda text: None if text == b"null" else read(text)


def _reader(kind: pa.DataType) -> Read:
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _text
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _list(kind)
    if types.is_struct(kind):
        return _struct(kind)
    if types.is_map(kind):
        return _map(kind)
    if any(is_binary(kind) for is_binary in _BINARY) and not types.is_decimal(kind):
        return lambda text: _binary(_quoted(text, kind))
    if types.is_timestamp(kind):
        return _time(kind, moments(kind))
    if types.is_time(kind):
        return _time(kind, times(kind))
    if types.is_date(kind):
        return _time(kind, days(kind))
    if types.is_integer(kind) or types.is_duration(kind):
        return _scalar(kind, integers(kind))
    if types.is_floating(kind):
        return _scalar(kind, floats(kind))
    if types.is_decimal(kind):
        return _scalar(kind, decimals(kind))
    return _scalar(kind, _boolean if types.is_boolean(kind) else _refused(kind))


#: the tests of Arrow for types of bytes
_BINARY: Final[tuple[Callable[[pa.DataType], bool], ...]] = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)


def _text(text: bytes) -> str:
    """A string as it is; anything else as its JSON."""
    return _string(text) if text[:1] == b'"' else text.decode()


def json_text(text: bytes) -> str | None:
    """The JSON itself."""
    return None if text == b"null" else text.decode()


def _scalar(kind: pa.DataType, read: Callable[[str], Any]) -> Read:
    """A number or boolean, or a string that holds one, as CSV has it; an empty one is null."""

    def one(text: bytes) -> Any:
        if text[:1] in (b"{", b"["):
            raise Misfit(f"it is nested, and {kind} is not")
        plain = _text(text)
        return read(plain) if plain else None

    return one


def _time(kind: pa.DataType, read: Callable[[str], Any]) -> Read:
    """A string; an empty one is null."""

    def one(text: bytes) -> Any:
        plain = _quoted(text, kind)
        return read(plain) if plain else None

    return one


def _quoted(text: bytes, kind: pa.DataType) -> str:
    if text[:1] != b'"':
        raise Misfit(f"it is no string, and {kind} is written as one")
    return _string(text)


def _boolean(word: str) -> bool:
    word = word.lower()
    if word not in ("true", "false"):
        raise Misfit("it is neither true nor false")
    return word == "true"


def _refused(kind: pa.DataType) -> Callable[[str], Any]:
    def read(_: str) -> Any:
        raise Misfit(f"a column of type {kind} holds nothing but null; give it a type in the option schema")

    return read


def _binary(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Misfit("it is no base64") from None
    if base64.b64encode(found).decode() != text:  # bits that no byte has would be lost
        raise Misfit("it is no base64 as RFC 4648 has it")
    return found


def _list(kind: pa.DataType) -> Read:
    item = reader(kind.value_type)

    def one(text: bytes) -> list[Any]:
        if text[:1] != b"[":
            raise Misfit(f"a list was expected for {kind}")
        return [item(bytes(raw)) for raw in _items(text)]

    return one


def _struct(kind: pa.DataType) -> Read:
    readers = {field.name: reader(field.type) for field in kind}

    def one(text: bytes) -> dict[str, Any]:
        found = dict(_pairs(text)) if text[:1] == b"{" else None
        if found is None or not found.keys() <= readers.keys():
            raise Misfit(f"an object with the members of {kind} was expected")
        return {name: read(found[name]) if name in found else None for name, read in readers.items()}

    return one


def _map(kind: pa.DataType) -> Read:
    key, item = reader(kind.key_type), reader(kind.item_type)

    def one(text: bytes) -> list[tuple[Any, Any]]:
        if text[:1] == b"{":
            return [(key(msgspec.json.encode(name)), item(value)) for name, value in _pairs(text)]
        if text[:1] != b"[":
            raise Misfit(f"an object, or a list of pairs, was expected for {kind}")
        found = [_items(bytes(raw)) for raw in _items(text)]
        if any(len(pair) != 2 for pair in found):
            raise Misfit(f"a list of pairs was expected for {kind}")
        return [(key(bytes(name)), item(bytes(value))) for name, value in found]

    return one


def _pairs(text: bytes) -> list[tuple[str, bytes]]:
    """An object. Of two equal keys one value would be lost."""
    found = [(member.key, text[member.start : member.end]) for member in members(text)]
    if len({key for key, _ in found}) < len(found):
        raise Misfit("an object in it has a key twice; pin the column as json, which keeps its text")
    return found
