"""Arrow values as text, and as JSON."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pyarrow as pa


class KeyTwice(ValueError):
    """A map has a key twice, of which a JSON object would lose one."""


_encode = msgspec.json.Encoder().encode


def texts(array: pa.Array) -> list[str | None]:
    """One text per value: strings as they are, numbers and booleans as in JSON, times as in ISO 8601.

    Binary values are decoded as UTF-8; bytes that are none come as lone surrogates (PEP 383), by which they
    are found again. Nested values come as JSON.

    :raises UnicodeDecodeError: a string is no UTF-8.
    :raises KeyTwice: a map has a key of text twice.
    """
    kind = array.type
    if _is_text(kind):
        found: list[str | None] = array.to_pylist()
        return found
    if _is_binary(kind):
        return [None if v is None else v.decode("utf-8", "surrogateescape") for v in array.to_pylist()]
    plain = _plain(array)
    if plain is not None:
        return plain
    return [None if text == "null" else text for text in json_texts(array)]


def json_texts(array: pa.Array) -> list[str]:
    """One JSON value per value.

    Decimals keep their digits; NaN and infinities, which JSON has not, are the strings ``"NaN"``,
    ``"Infinity"`` and ``"-Infinity"`` (as in the JSON form of Protocol Buffers); times are ISO 8601 strings,
    in UTC with a Z where they mean an instant; binary is base64; a map is an object if its keys are text,
    else a list of pairs.

    :raises UnicodeDecodeError: a string is no UTF-8.
    :raises KeyTwice: a map has a key of text twice.
    """
    kind = array.type
    if pa.types.is_null(kind):
        return ["null"] * len(array)
    if _is_text(kind):
        return ["null" if v is None else _encode(v).decode() for v in array.to_pylist()]
    if _is_binary(kind):
        return ["null" if v is None else f'"{base64.b64encode(v).decode()}"' for v in array.to_pylist()]
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return ["null" if text is None else text for text in _plain(array) or ()]
    if pa.types.is_floating(kind):
        return ["null" if text is None else _NOT_FINITE.get(text, text) for text in _plain(array) or ()]
    plain = _plain(array)
    if plain is not None:
        return ["null" if text is None else f'"{text}"' for text in plain]
    return _nested(array)


#: Arrow's texts of what JSON has no number for
_NOT_FINITE: Final = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    is_any: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        pa.types.is_binary_view,
    )
    # decimals count as fixed-size binary for some versions of Arrow
    return not pa.types.is_decimal(kind) and any(check(kind) for check in is_any)


def _plain(array: pa.Array) -> list[str | None] | None:
    """Texts of numbers, booleans and times; ``None``: the values are nested."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        instant = kind.tz is not None
        zone = "Z" if instant else ""
        found = array.cast(pa.timestamp(kind.unit)).cast(pa.string()).to_pylist()
        return [None if text is None else text.replace(" ", "T") + zone for text in found]
    if pa.types.is_floating(kind):
        return [None if text is None else _float(text) for text in array.cast(pa.string()).to_pylist()]
    if pa.types.is_duration(kind):
        array = array.cast(pa.int64())
    if pa.types.is_nested(kind) or pa.types.is_dictionary(kind):
        return None
    plain: list[str | None] = array.cast(pa.string()).to_pylist()
    return plain


def _float(text: str) -> str:
    return text if not text.lstrip("-").isdigit() else f"{text}.0"


def _nested(array: pa.Array) -> list[str]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return json_texts(array.dictionary_decode())
    valid = array.is_valid().to_pylist()
    if pa.types.is_struct(kind):
        names = [_encode(field.name).decode() for field in kind]
        # flatten() applies the struct's own offset and nulls
        members = [json_texts(child) for child in array.flatten()]
        rows = zip(*members) if members else iter(() for _ in range(len(array)))
        return [
            "{" + ",".join(f"{name}:{value}" for name, value in zip(names, row)) + "}" if there else "null"
            for there, row in zip(valid, rows)
        ]
    if pa.types.is_map(kind):
        keys, items = json_texts(array.keys), json_texts(array.items)
        named = _is_text(kind.key_type)
        entries = [f"{k}:{v}" if named else f"[{k},{v}]" for k, v in zip(keys, items)]
        opening, closing = ("{", "}") if named else ("[", "]")
    else:
        entries = json_texts(array.values)
        opening, closing = "[", "]"
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        starts = [(array.offset + n) * size for n in range(len(array))]
        ends = [start + size for start in starts]
    else:
        offsets = array.offsets.to_pylist()
        starts, ends = offsets[:-1], offsets[1:]
    if opening == "{":
        for there, start, end in zip(valid, starts, ends):
            if there and len(set(keys[start:end])) < end - start:
                raise KeyTwice
    return [
        opening + ",".join(entries[start:end]) + closing if there else "null"
        for there, start, end in zip(valid, starts, ends)
    ]
