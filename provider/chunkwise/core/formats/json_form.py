"""Records that are written alike: one regular expression checks many of them and finds their values.

Most files come from one program, which writes the same keys in the same order with the same white space. The
form of a good record is this text around its values. Where the values of a flat object are other scalars of
JSON (RFC 8259), without an escape where a column is asked for, it is as good as the first; so what a form
matches needs no other check. What it does not match is looked at by :mod:`json_checker`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from chunkwise.core.formats.json_rows import Output, Values
from chunkwise.core.formats.json_text import WHITE, encode_text, one_line, scalar_text
from chunkwise.core.formats.model import BadRow

_STRING: Final = rb'"[^"\\\x00-\x1f]*+"'
#: a string of a text that is known to have no escapes and control characters; to stop at one byte is faster
_PLAIN: Final = rb'"[^"]*+"'
_HARMLESS: Final = bytes(byte for byte in range(0x20, 0x100) if byte != ord("\\"))
#: the escapes of RFC 8259, but for those of surrogates: alone they are no text
_ESCAPED: Final = (
    rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
)
_SCALAR: Final = rb"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+|true|false|null"
_OPEN: Final = re.compile(rb"[ \t\r]*+\{[ \t\r]*+")
_MEMBER: Final = re.compile(
    rb"(" + _STRING + rb")[ \t\r]*+:[ \t\r]*+(" + _ESCAPED + rb"|" + _SCALAR + rb")[ \t\r]*+"
)
_NEXT: Final = re.compile(rb",[ \t\r]*+")
_CLOSE: Final = re.compile(rb"\}[ \t\r]*+\Z")
#: slabs that need not fit, beside as many as did
_PATIENCE: Final = 8
#: members of a record whose form is sought: the expression must not take longer to compile than it saves
_MEMBERS: Final = 200


@dataclass(frozen=True, slots=True)
class Form:
    """The text around the values of some records.

    :param pattern: of a record with its line end, all of it in groups: ``split`` takes records to pieces that
        give them again when they are joined.
    :param plain: the same for texts without escapes and control characters but line ends.
    :param offsets: of the values of columns in the pieces of a match.
    """

    pattern: re.Pattern[bytes]
    plain: re.Pattern[bytes]
    offsets: dict[str, int]

    @classmethod
    def of(cls, record: bytes, columns: Collection[str], known: Collection[str] | None) -> Form | None:
        """The form of a record.

        :param record: any text on one line.
        :param columns: whose values are asked for.
        :param known: all keys that may be in it; ``None``: any.
        :return: ``None`` where it is no flat object with some of the columns, or not a good one, or has
            escapes in its keys, or in a value that is asked for, or very many members.
        """
        opened = _OPEN.match(record)
        if opened is None:
            return None
        position, text_from = opened.end(), 0
        pieces, offsets, keys = list[bytes](), dict[str, int](), set[str]()
        while (member := _MEMBER.match(record, position)) is not None:
            try:
                key = member.group(1)[1:-1].decode()
            except UnicodeDecodeError:
                return None
            if (
                key in keys
                or len(keys) == _MEMBERS
                or (known is not None and key not in known and key not in columns)
            ):
                return None
            keys.add(key)
            pieces.append(re.escape(record[text_from : member.start(2)]))
            if key in columns:
                offsets[key] = 2 + 2 * len(offsets)
                pieces += [b")(", _STRING, b"|" + _SCALAR + b")("]
            else:
                pieces += [b"(?:", _ESCAPED, b"|" + _SCALAR + b")"]
            text_from, position = member.end(2), member.end()
            comma = _NEXT.match(record, position)
            if comma is None:
                break
            position = comma.end()
        else:
            return None
        if not offsets or _CLOSE.match(record, position) is None:
            return None
        pieces = [b"(", *pieces, re.escape(record[text_from:]), b"\n)"]
        plain = [_PLAIN if piece in (_STRING, _ESCAPED) else piece for piece in pieces]
        return cls(re.compile(b"".join(pieces)), re.compile(b"".join(plain)), offsets)

    def take(self, data: bytes) -> FormedSlab | None:
        """Whole lines taken to pieces; ``None`` where one does not fit, or a value is not UTF-8."""
        others = data.translate(None, _HARMLESS)
        plain = others == b"\n" * len(others)
        pieces: list[Any] = (self.plain if plain else self.pattern).split(data)
        stride = self.pattern.groups + 1
        if any(pieces[::stride]):  # what stands between two that fit, or behind the last
            return None
        pieces.pop()
        if plain and len(pieces) != stride * len(others):  # a line end in a string
            return None
        if not data.isascii():
            try:
                for offset in self.offsets.values():
                    b"\n".join(pieces[offset::stride]).decode()
            except UnicodeDecodeError:
                return None
        return FormedSlab(pieces, stride, self.offsets)


class Forms:
    """The form of the records of a chunk, as long as they have one.

    :param columns: whose values are asked for.
    :param known: all keys that may occur; ``None``: any.
    """

    def __init__(self, columns: Collection[str], known: Collection[str] | None) -> None:
        self._columns = columns
        self._known = known
        self._form: Form | None = None
        self._left = _PATIENCE if columns else 0

    def take(self, data: bytes) -> FormedSlab | None:
        """Lines that have the form of those before; ``None`` where they must be looked at one by one."""
        if self._left <= 0:
            return None
        slab = None if self._form is None else self._form.take(data)
        if slab is None:
            self._left -= 1
            self._form = Form.of(data[: data.find(b"\n")], self._columns, self._known)
            slab = None if self._form is None else self._form.take(data)
        if slab is not None:
            self._left = min(self._left + 1, 2 * _PATIENCE)
        return slab


class FormedSlab:
    """Records of one form, all of them good; as :class:`~chunkwise.core.formats.json_rows.Slab`.

    :param pieces: of all records; joined they give their bytes again.
    :param stride: pieces of a record.
    :param offsets: of the values of columns in the pieces of a record.
    """

    __slots__ = ("_offsets", "_pieces", "_stride", "_texts", "bad", "rows")

    def __init__(self, pieces: list[Any], stride: int, offsets: dict[str, int]) -> None:
        self._pieces = pieces
        self._stride = stride
        self._offsets = offsets
        self._texts: Values = {}
        self.bad: Sequence[BadRow] = ()
        self.rows = len(pieces) // stride

    def texts(self, column: str) -> list[str | None]:
        """The values that the records were read with."""
        found = self._texts.get(column)
        if found is None:
            spelled = self._spelled(column)
            if spelled is None:
                found = [None] * self.rows
            elif (strings := _strings(spelled)) is not None:
                found = list(strings.decode().split('"\n"'))
            else:
                found = [scalar_text(value) for value in spelled]
            self._texts[column] = found
        return found

    def utf8(self, column: str) -> list[bytes] | None:
        """Values in UTF-8; ``None`` where not all of them are strings."""
        spelled = self._spelled(column)
        strings = None if spelled is None else _strings(spelled)
        return None if strings is None else strings.split(b'"\n"')

    def put_utf8(self, column: str, values: Sequence[bytes]) -> None:
        """Other strings, which need no escapes."""
        self._put(column, (b'"' + b'"\n"'.join(values) + b'"').split(b"\n"))

    def replace(self, new: dict[str, Sequence[str | None]]) -> None:
        """Put other values in their places."""
        for column, values in new.items():
            spelled = self._spelled(column)
            if spelled is None:
                continue  # what is missing stays missing
            found = None
            if None not in values and _strings(spelled) is not None:
                found = _encoded(values)
            if found is None:
                found = [
                    before if after is None or after == text else encode_text(after)
                    for before, text, after in zip(spelled, self.texts(column), values, strict=True)
                ]
            self._put(column, found)

    def output(self) -> Output:
        """The bytes of the records."""
        return Output(self.rows, b"", b"".join(self._pieces))

    def records(self) -> list[bytes]:
        """Each record on one line."""
        return [one_line(text.strip(WHITE)) for text in self.output().body.split(b"\n")[:-1]]

    def _spelled(self, column: str) -> list[bytes] | None:
        offset = self._offsets.get(column)
        return None if offset is None else self._pieces[offset :: self._stride]

    def _put(self, column: str, cells: list[bytes]) -> None:
        self._pieces[self._offsets[column] :: self._stride] = cells


def _strings(spelled: Sequence[bytes]) -> bytes | None:
    """All values without the outermost quotes, where all are strings without escapes."""
    joined = b"\n".join(spelled)
    # quotes stand around strings only, and line ends nowhere
    strings = joined[:1] == joined[-1:] == b'"' and joined.count(b'"\n"') == len(spelled) - 1
    return joined[1:-1] if strings else None


def _encoded(values: Sequence[str | None]) -> list[bytes] | None:
    """JSON strings of texts; ``None`` where one needs escapes."""
    try:
        encoded = msgspec.json.encode(values)
    except UnicodeEncodeError:  # a lone surrogate
        return None
    if b"\\" in encoded:
        return None
    # without escapes there are quotes around strings only, and line ends nowhere
    return encoded[1:-1].replace(b'","', b'"\n"').split(b"\n")
