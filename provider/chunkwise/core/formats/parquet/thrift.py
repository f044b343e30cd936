"""Thrift's compact protocol without a schema: what is read and written again is the same, unknown fields too.

Source: the Thrift compact protocol specification (apache/thrift, doc/specs/thrift-compact-protocol.md). A
struct is a dictionary from the id of a field to its wire type and value; a list, a pair of the type of its
elements and them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from chunkwise.core.errors import InvalidSource

TRUE: Final = 1
FALSE: Final = 2
BYTE: Final = 3
I16: Final = 4
I32: Final = 5
I64: Final = 6
DOUBLE: Final = 7
BINARY: Final = 8
LIST: Final = 9
SET: Final = 10
MAP: Final = 11
STRUCT: Final = 12
UUID: Final = 13

_INTEGERS: Final = frozenset({I16, I32, I64})
#: no footer nests as deep; a damaged one must not exhaust the stack
_MAX_DEPTH: Final = 64

Struct = dict[int, tuple[int, Any]]
Elements = tuple[int, list[Any]]


class Reader:
    """Reads values from the front of some bytes.

    :param data: the bytes.
    :param position: of the first value.
    :param name: of where they come from, for messages.
    """

    def __init__(self, data: bytes, position: int = 0, name: str = "a footer") -> None:
        self.data = data
        self.position = position
        self._name = name

    def struct(self) -> Struct:
        """The struct that begins here.

        :raises InvalidSource: these bytes are none.
        """
        try:
            return self._struct(0)
        except (IndexError, struct.error):
            raise self.broken("it ends inside a value") from None

    def field(self, last: int) -> tuple[int, int]:
        """Id and type of the field that begins here; type 0 at the end of the struct.

        :param last: id of the field before it, 0 for the first one.
        :raises InvalidSource: there is none.
        """
        try:
            return self._field(last)
        except IndexError:
            raise self.broken("it ends inside a struct") from None

    def value(self, kind: int) -> Any:
        """The value that begins here.

        :param kind: its wire type.
        :raises InvalidSource: these bytes are none.
        """
        try:
            return self._value(kind, 0)
        except (IndexError, struct.error):
            raise self.broken("it ends inside a value") from None

    def list_header(self) -> tuple[int, int]:
        """Type and number of the elements of the list that begins here.

        :raises InvalidSource: there is none.
        """
        try:
            return self._list_header()
        except IndexError:
            raise self.broken("it ends inside a list") from None

    def broken(self, reason: str) -> InvalidSource:
        """An error that names the place."""
        return InvalidSource(f"{self._name} is damaged at its byte {self.position}: {reason}")

    # The methods below are called millions of times for a large footer: no checks but those that end a loop.

    def _varint(self) -> int:
        data, position = self.data, self.position
        byte = data[position]
        position += 1
        if byte < 0x80:
            self.position = position
            return byte
        result, shift = byte & 0x7F, 7
        while True:
            byte = data[position]
            position += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.position = position
                return result
            shift += 7
            if shift > 63:
                raise self.broken("a number of more than 64 bits")

    def _field(self, last: int) -> tuple[int, int]:
        byte = self.data[self.position]
        self.position += 1
        kind = byte & 0x0F
        if kind == 0:
            return 0, 0
        delta = byte >> 4
        if delta:
            return last + delta, kind
        number = self._varint()
        return (number >> 1) ^ -(number & 1), kind

    def _struct(self, depth: int) -> Struct:
        if depth > _MAX_DEPTH:
            raise self.broken("structs nested too deep")
        fields: Struct = {}
        last = 0
        while True:
            last, kind = self._field(last)
            if kind == 0:
                return fields
            if kind in _INTEGERS:
                number = self._varint()
                fields[last] = (kind, (number >> 1) ^ -(number & 1))
            elif kind <= FALSE:
                fields[last] = (kind, kind == TRUE)
            else:
                fields[last] = (kind, self._value(kind, depth))

    def _list_header(self) -> tuple[int, int]:
        byte = self.data[self.position]
        self.position += 1
        size = byte >> 4
        if size == 15:
            size = self._varint()
        if size > len(self.data) - self.position:  # an element has a byte at least
            raise self.broken(f"a list of {size} elements")
        return byte & 0x0F, size

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            number = self._varint()
            return (number >> 1) ^ -(number & 1)
        if kind == BINARY:
            size = self._varint()
            start = self.position
            self.position = start + size
            if self.position > len(self.data):
                raise self.broken(f"a text of {size} bytes")
            return self.data[start : start + size]
        if kind == STRUCT:
            return self._struct(depth + 1)
        if kind in (LIST, SET):
            if depth > _MAX_DEPTH:
                raise self.broken("lists nested too deep")
            inner, size = self._list_header()
            return inner, [self._value(inner, depth + 1) for _ in range(size)]
        if kind in (TRUE, FALSE, BYTE):  # a boolean has a byte of its own in a list only
            byte = self.data[self.position]
            self.position += 1
            return byte
        if kind == DOUBLE:
            return self._fixed(8)
        if kind == UUID:
            return self._fixed(16)
        if kind == MAP:
            size = self._varint()
            if size == 0:
                return 0, 0, []
            if size > len(self.data) - self.position:
                raise self.broken(f"a map of {size} entries")
            kinds = self.data[self.position]
            self.position += 1
            keys, values = kinds >> 4, kinds & 0x0F
            return (
                keys,
                values,
                [(self._value(keys, depth + 1), self._value(values, depth + 1)) for _ in range(size)],
            )
        raise self.broken(f"unknown type {kind}")

    def _fixed(self, size: int) -> bytes:
        start = self.position
        self.position = start + size
        if self.position > len(self.data):
            raise self.broken("a number is cut off")
        return self.data[start : start + size]


def dump(fields: Struct) -> bytes:
    """A struct as bytes; of what :class:`Reader` read, the same ones."""
    out = bytearray()
    _write_struct(out, fields)
    return bytes(out)


def list_head(kind: int, size: int) -> bytes:
    """What stands before the elements of a list."""
    out = bytearray()
    _write_list_head(out, kind, size)
    return bytes(out)


def field_head(number: int, kind: int, last: int) -> bytes:
    """What stands before the value of a field.

    :param number: its id.
    :param kind: its wire type.
    :param last: id of the field before it.
    """
    out = bytearray()
    _write_field(out, number, kind, last)
    return bytes(out)


def get(fields: Struct, number: int, default: Any = None) -> Any:
    """Value of a field."""
    found = fields.get(number)
    return default if found is None else found[1]


def put(fields: Struct, number: int, kind: int, value: Any) -> None:
    """Set a field; ids stay in order, which is how all writers have them."""
    new = number not in fields
    fields[number] = (kind, value)
    if new:
        ordered = sorted(fields.items())
        fields.clear()
        fields.update(ordered)


def structs(fields: Struct, number: int) -> list[Struct]:
    """Elements of a field that is a list of structs."""
    found = fields.get(number)
    if found is None:
        return []
    kind, value = found
    if kind != LIST or (value[1] and value[0] != STRUCT):
        raise InvalidSource(f"field {number} of a footer is no list of structs")
    elements: list[Struct] = value[1]
    return elements


def list_of(kind: int, elements: Sequence[Any]) -> Elements:
    """A value of type list."""
    return kind, list(elements)


def _write_varint(out: bytearray, number: int) -> None:
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _write_field(out: bytearray, number: int, kind: int, last: int) -> None:
    delta = number - last
    if 0 < delta <= 15:
        out.append(delta << 4 | kind)
    else:
        out.append(kind)
        _write_varint(out, number << 1 if number >= 0 else (-number << 1) - 1)


def _write_struct(out: bytearray, fields: Struct) -> None:
    last = 0
    for number, (kind, value) in fields.items():
        if kind <= FALSE:
            _write_field(out, number, TRUE if value else FALSE, last)
        else:
            _write_field(out, number, kind, last)
            _write_value(out, kind, value)
        last = number
    out.append(0)


def _write_list_head(out: bytearray, kind: int, size: int) -> None:
    if size < 15:
        out.append(size << 4 | kind)
    else:
        out.append(0xF0 | kind)
        _write_varint(out, size)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _write_varint(out, value << 1 if value >= 0 else (-value << 1) - 1)
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        inner, elements = value
        _write_list_head(out, inner, len(elements))
        for element in elements:
            _write_value(out, inner, element)
    elif kind in (TRUE, FALSE, BYTE):
        out.append(value)
    elif kind == MAP:
        keys, values, entries = value
        _write_varint(out, len(entries))
        if entries:
            out.append(keys << 4 | values)
            for key, entry in entries:
                _write_value(out, keys, key)
                _write_value(out, values, entry)
    else:  # a double or a UUID, as its bytes
        out += value
