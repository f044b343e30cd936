"""A JSON object whose members can be changed one by one while all others keep their bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NoReturn

import msgspec

from chunkwise.core.errors import TransformFailed

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
# the white space of RFC 8259, section 2, which bytes.strip() and \s would extend
_WHITE = b" \t\r\n"
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_BEFORE_FIRST = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")
_BETWEEN = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_END = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*\Z")


class RawObject:
    """The members of a JSON object: keys, and the bytes of their values.

    What :meth:`encode` gives back is the very text that was parsed, as long as nothing was changed. After a
    change the members are written without white space between them; every value that was not set, and every
    key that was not renamed, keeps its spelling.

    :raises TransformFailed: the text is not a JSON object, or a key stands twice in it.
    """

    __slots__ = ("_changed", "_members", "_spellings", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._members: dict[str, bytes | msgspec.Raw | RawObject] = {}
        #: how a key was written, where it is not as ours would be
        self._spellings: dict[str, bytes] = {}
        self._changed = False
        if not self._parse_fast():
            self._members.clear()
            self._spellings.clear()
            self._parse_slowly()

    # --- reading --------------------------------------------------------------------------------------------

    def __contains__(self, key: str) -> bool:
        return key in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def value(self, key: str) -> bytes | None:
        """The JSON text of a value, ``None`` where there is no such member."""
        value = self._members.get(key)
        if value is None or isinstance(value, bytes):
            return value
        return value.encode() if isinstance(value, RawObject) else bytes(value)

    def open(self, key: str) -> RawObject | None:
        """The object that is the value of ``key``, to change its members; ``None`` if it is no object."""
        value = self._members[key]
        if isinstance(value, RawObject):
            return value
        text = bytes(value)
        if text[:1] != b"{":
            return None
        inner = self._members[key] = RawObject(text)
        return inner

    # --- changing -------------------------------------------------------------------------------------------

    def set(self, key: str, value: bytes) -> None:
        """Give ``key`` a value, at its place, or at the end of an object that has no such member."""
        if self.value(key) != value:
            self._members[key] = value
            self._changed = True

    def remove(self, key: str) -> None:
        """Take a member out."""
        del self._members[key]
        self._spellings.pop(key, None)
        self._changed = True

    def replace(self, members: list[tuple[str, str | None, bytes | None]]) -> None:
        """New members in a new order.

        :param members: each with its key; the key whose value it gets, or ``None``; and the text of its value
            in that case.
        """
        old, spellings = self._members, self._spellings
        self._members = {
            key: old[source] if source is not None else text or b"null" for key, source, text in members
        }
        self._spellings = {
            key: spellings[key] for key, source, _ in members if key == source and key in spellings
        }
        self._changed = True

    # --- writing --------------------------------------------------------------------------------------------

    @property
    def changed(self) -> bool:
        """Whether this object, or one that was opened in it, is no longer as it was parsed."""
        return self._changed or any(
            value.changed for value in self._members.values() if isinstance(value, RawObject)
        )

    def encode(self) -> bytes:
        """The JSON text."""
        if not self.changed:
            return self._text
        spelled = self._spellings.get
        members = [
            b"%b:%b"
            % (spelled(key) or key_text(key), value.encode() if isinstance(value, RawObject) else value)
            for key, value in self._members.items()
        ]
        return b"{%b}" % b",".join(members)

    # --- parsing --------------------------------------------------------------------------------------------

    def _parse_fast(self) -> bool:
        """Let msgspec find the values; whether that gave every member exactly once.

        msgspec keeps the last of several members with one key, and not the spelling of keys. Members that
        give the very same text when they are written again are all that there are.
        """
        try:
            decoded = _MEMBERS.decode(self._text)
        except (msgspec.DecodeError, RecursionError):
            return False
        tokens = [(key_text(key), raw) for key, raw in decoded.items()]
        if (
            b"{%b}" % b",".join([b"%b:%b" % token for token in tokens]) == self._text
            or b"{%b}" % b", ".join([b"%b: %b" % token for token in tokens]) == self._text
        ):
            self._members.update(decoded)
            return True
        return self._walk(decoded)

    def _walk(self, decoded: dict[str, msgspec.Raw]) -> bool:
        """The same for other white space and other spellings of keys.

        The walk starts where a member must start and finds each value byte for byte where it must be, so it
        can end at the end of the object only if nothing stands twice.
        """
        text, members, spellings = self._text, self._members, self._spellings
        separator = _BEFORE_FIRST
        position = 0
        for key, raw in decoded.items():
            start = separator.match(text, position)
            if start is None:
                return False
            position = start.end()
            token = key_text(key)
            if text.startswith(token, position):
                position += len(token)
            else:
                spelled = _STRING.match(text, position)
                if spelled is None or json.loads(spelled.group()) != key:
                    return False
                spellings[key] = spelled.group()
                position = spelled.end()
            colon = _COLON.match(text, position)
            if colon is None:
                return False
            position = colon.end()
            value = bytes(raw)
            if not text.startswith(value, position):
                return False
            members[key] = value
            position += len(value)
            separator = _BETWEEN
        return not decoded or _END.match(text, position) is not None

    def _parse_slowly(self) -> None:
        """The same for what msgspec refuses, such as lone surrogates, which RFC 8259, section 8.2, allows.

        The one place that says what is wrong with a text.
        """
        text = self._text
        start = text.lstrip(_WHITE)
        if start[:1] != b"{":
            raise TransformFailed(f"the record is {describe(start)}, not an object")
        try:
            for key, token, value in _pairs(text.decode()):
                if key in self._members:
                    raise TransformFailed(f"the key {key!r} stands twice in one object: which is meant?")
                self._members[key] = value
                if token != key_text(key):
                    self._spellings[key] = token
        except RecursionError:
            raise TransformFailed("the record is nested too deeply to be transformed") from None
        except (ValueError, IndexError):  # their texts quote the record
            raise TransformFailed("the record is not valid JSON") from None


def _pairs(text: str) -> Iterator[tuple[str, bytes, bytes]]:
    """Key, spelling of the key, and text of the value of each member."""
    scan: Callable[[str, int], tuple[object, int]] = json.JSONDecoder(
        parse_int=_no_value, parse_float=_no_value, parse_constant=_refuse
    ).raw_decode
    position = _skip(text, _skip(text, 0) + 1)
    while text[position] != "}":
        key, end = scan(text, position)
        if not isinstance(key, str):
            raise ValueError
        token = text[position:end]
        start = _skip(text, _expect(text, _skip(text, end), ":"))
        _, end = scan(text, start)
        yield key, token.encode(), text[start:end].encode()
        position = _skip(text, end)
        if text[position] != "}":
            position = _skip(text, _expect(text, position, ","))
            if text[position] == "}":
                raise ValueError
    if _skip(text + "\0", position + 1) != len(text):
        raise ValueError


def _skip(text: str, position: int) -> int:
    while text[position] in " \t\r\n":
        position += 1
    return position


def _expect(text: str, position: int, sign: str) -> int:
    if text[position] != sign:
        raise ValueError
    return position + 1


def _no_value(_digits: str) -> None:
    """Only the place of a number is wanted, whatever its length."""


def _refuse(_name: str) -> NoReturn:
    raise ValueError  # NaN and Infinity are no JSON


@lru_cache(maxsize=4096)
def key_text(key: str) -> bytes:
    """The JSON text of a key or another string: UTF-8, and escapes only where they must be."""
    try:
        return msgspec.json.encode(key)
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return json.dumps(key).encode()


def text_of(value: bytes) -> str | None:
    """The text of a JSON string, ``None`` for any other value."""
    if value[:1] != b'"':
        return None
    if b"\\" not in value:
        return value[1:-1].decode()
    text: str = json.loads(value)
    return text


def describe(value: bytes) -> str:
    """What a JSON value is, for an error text that must not quote it."""
    text = text_of(value)
    if text is not None:
        return f"a string of {len(text)} character{'' if len(text) == 1 else 's'}"
    named = {b"{": "an object", b"[": "an array", b"t": "a boolean", b"f": "a boolean", b"n": "null"}
    return named.get(value[:1]) or f"a number of {len(value)} character{'' if len(value) == 1 else 's'}"
