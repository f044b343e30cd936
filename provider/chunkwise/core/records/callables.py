"""Python functions as transforms: plain values in and out, and what a function did not touch keeps its
bytes.
"""

from __future__ import annotations

import json
import marshal
import math
from collections.abc import Callable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any

import msgspec

from chunkwise.core.errors import ChunkwiseError, TransformFailed
from chunkwise.core.records.raw_object import RawObject, key_text
from chunkwise.core.records.transform import Step

#: a record in, a record out, or ``None`` to leave it out
RecordFunction = Callable[[dict[str, Any]], "dict[str, Any] | None"]

_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder(decimal_format="number")


def compile_function(function: RecordFunction) -> Step:
    """A step that calls ``function`` with each record.

    The function gets a ``dict`` of its own (integers of any size, numbers with a fraction as ``float``) and
    may change and return it, or return another. A value that is what it was, in type, content and order,
    keeps its bytes, also when it was moved to another key, and also inside an object that changed elsewhere.
    A list that changed anywhere is encoded as a whole. So is any other new value: ``date`` and ``datetime``
    in ISO 8601, ``Decimal`` as a number with its digits.

    :raises TransformFailed: by the step: the function raised, or returned something that is no JSON object.
    """
    name = _name(function)

    def step(record: RawObject) -> RawObject | None:
        given = _values(record, name)
        before = _Before(record, given, name)
        try:
            result = function(given)
        except ChunkwiseError as error:
            if not isinstance(error, TransformFailed):
                raise
            raise TransformFailed(f"{name} refused the record: {error}") from error
        except Exception as error:
            # the text of the exception may quote the record: it is chained, not shown
            raise TransformFailed(f"{name} raised {type(error).__name__}") from error
        if result is None:
            return None
        if not isinstance(result, dict):
            raise TransformFailed(f"{name} returned a {type(result).__name__}, not a dict or None")
        before.become(result)
        return record

    return step


class _Before:
    """An object, and what the values of its members were before a function had them."""

    def __init__(self, record: RawObject, given: Mapping[str, Any], name: str, path: str = "") -> None:
        self._record = record
        self._name = name
        self._path = path
        self._prints = {key: _print(value) for key, value in given.items()}
        # objects that are kept alive here, so that an id stands for one of them only
        self._values = dict(given)
        self._keys = {
            id(value): key for key, value in given.items() if isinstance(value, str | float | list | dict)
        }

    def become(self, result: Mapping[Any, Any]) -> None:
        """Make the object what the function returned.

        :raises TransformFailed: a value has no JSON text.
        """
        members = [(key, *self._origin(key, value)) for key, value in result.items()]
        if [(key, key, None) for key in self._record] != members:
            self._record.replace(members)

    def _origin(self, key: object, value: Any) -> tuple[str | None, bytes | None]:
        """The key under which the value stood unchanged and nothing, or nothing and its text."""
        if not isinstance(key, str):
            raise TransformFailed(f"{self._name} returned a key that is a {type(key).__name__}, not a string")
        found = _print(value)
        if found is not None:
            for before in (key, self._keys.get(id(value))):
                if before is not None and self._prints.get(before) == found:
                    return before, None
        path = f"{self._path}.{key}" if self._path else key
        old = self._record.value(key) or b""
        try:
            if isinstance(value, dict) and old[:1] == b"{":
                return None, self._changed_inside(old, value, path)
            return None, _encode(value)
        except RecursionError:
            raise TransformFailed(f"{self._name}, field {path!r}: the value is nested too deeply") from None
        except _NotJson as error:
            raise TransformFailed(f"{self._name}, field {path!r}: {error}") from None

    def _changed_inside(self, old: bytes, value: dict[Any, Any], path: str) -> bytes:
        """The text of an object that changed, with the bytes of what did not change in it."""
        inner = RawObject(old)
        _Before(inner, _values(inner, self._name), self._name, path).become(value)
        return inner.encode()


def _values(record: RawObject, name: str) -> dict[str, Any]:
    return {key: _decode(record.value(key) or b"", name) for key in record}


def _print(value: Any) -> bytes | None:
    """Bytes that are equal for values of the same types, content and order alone (``1``, ``1.0`` and ``True``
    differ); ``None`` for a value that did not come from JSON.
    """
    try:
        return marshal.dumps(value, 0)  # version 0 does not depend on which objects are shared or interned
    except ValueError:
        return None


def _name(function: Callable[..., Any]) -> str:
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def _decode(text: bytes, name: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return json.loads(text)  # lone surrogates, numbers beyond a double
    except (ValueError, RecursionError):  # sys.get_int_max_str_digits() digits and more
        raise TransformFailed(
            f"{name} cannot have the record: a value is too long or too deep for Python"
        ) from None


# --- values of a function -----------------------------------------------------------------------------------


class _NotJson(Exception):
    """A value has no JSON text. Says what it is and does not quote it."""


def _encode(value: Any) -> bytes:
    try:
        _check(value)
        try:
            return _ENCODER.encode(value)
        except UnicodeEncodeError:
            return _encode_surrogates(value)
    except RecursionError:
        raise _NotJson("the value is nested too deeply, or holds itself") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise _NotJson(f"the value has no JSON text ({type(error).__name__})") from None


def _check(value: Any) -> None:
    """Refuse what an encoder would give a form of its own choice."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _NotJson("NaN and Infinity are no JSON")
    elif isinstance(value, Decimal):
        if not value.is_finite():
            raise _NotJson("NaN and Infinity are no JSON")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _NotJson(f"a key is a {type(key).__name__}, not a string")
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif value is not None and not isinstance(value, str | int | date | time):
        raise _NotJson(f"a {type(value).__name__} is no JSON value")


def _encode_surrogates(value: Any) -> bytes:
    """The same as the encoder for values with a lone surrogate in them."""
    if isinstance(value, str):
        return key_text(value)
    if isinstance(value, Mapping):
        return b"{%b}" % b",".join(b"%b:%b" % (key_text(k), _encode_surrogates(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return b"[%b]" % b",".join(map(_encode_surrogates, value))
    return _ENCODER.encode(value)
