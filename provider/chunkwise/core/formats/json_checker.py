"""Which JSON records are good, and what values they have."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import msgspec

from chunkwise.core.errors import RowInvalid
from chunkwise.core.formats.json_cells import cells_of, has_escaped_keys, plain_key
from chunkwise.core.formats.json_check import fault, kind_of
from chunkwise.core.formats.json_members import Member, members, repeated_key
from chunkwise.core.formats.json_rows import Framing, Slab, Values
from chunkwise.core.formats.json_text import WHITE, encode_text, not_utf8, scalar_text
from chunkwise.core.formats.model import BadRow, ReadRequest

_ABSENT: Final = msgspec.Raw(b"")
_REFUSED: Final = (msgspec.DecodeError, RecursionError, UnicodeError)
_OBJECTS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_SPACED_COLON: Final = re.compile(rb"[ \t\r\n]:")
_KEY_END: Final = re.compile(rb'"[ \t\r\n]*+:')


class RowChecker:
    """Finds the bad rows of slabs, and the values of the good ones.

    A whole slab at once where all rows are good and alike, else row by row. A row is bad if it is not valid
    JSON, and, where members matter, if it is not an object, has a key that is not known, or has one of the
    columns twice or with a nested value; where it is to become a row of columns, if it has any key twice.
    Whether the bytes of other values are UTF-8 is checked where the request says so.

    :param request: how the chunk is read.
    :param framing: of the format.
    :param name: of the source, for messages.
    """

    def __init__(self, request: ReadRequest, framing: Framing, name: str) -> None:
        self._columns = request.columns
        self._keys = {encode_text(column): column for column in request.columns}
        self._known = None if request.known is None else request.known.union(request.columns)
        self._objects = bool(request.columns) or request.known is not None or request.objects
        self._rows = request.objects
        self._utf8 = request.utf8
        self._collect = request.on_bad == "collect"
        self._framing = framing
        self._name = name
        self._getters = [attrgetter(f"c{number}") for number in range(len(self._columns))]
        self._strings = self._decoder(str | None | msgspec.UnsetType, msgspec.UNSET)
        self._scalars = self._decoder(msgspec.Raw, _ABSENT)
        self._all_strings = True

    def check(self, data: bytes, *, count: int | None, first: int, position: int, lead: bytes = b"") -> Slab:
        """One slab.

        :param data: records and what stands between them.
        :param count: how many, if that is known already.
        :param first: number of the first one in the chunk.
        :param position: of the data in the source.
        :param lead: what stands before the data and was not counted in its position.
        :raises RowInvalid: a row is bad, and bad rows are not collected.
        """
        found = self._decoded(data)
        valid = found is not None and count in (None, found[0])
        utf8 = not self._utf8 or not_utf8(data) is None
        if found is not None and valid and utf8 and self._alike(data, found[2]) and self._once(data):
            return Slab(self._framing, found[0], found[1], lead=lead, data=data)
        return self._one_by_one(data, first, position, lead, valid=valid)

    # --- many rows at once ----------------------------------------------------------------------------------

    def _decoder(self, cell: Any, default: Any) -> msgspec.json.Decoder[Any]:
        """Of an array of rows."""
        if not self._objects:
            return msgspec.json.Decoder(list[msgspec.Raw])
        fields: list[Any] = [
            (f"c{number}", cell, msgspec.field(name=column, default=default))
            for number, column in enumerate(self._columns)
        ]
        fields += [
            (f"o{number}", msgspec.Raw, msgspec.field(name=column, default=_ABSENT))
            for number, column in enumerate(sorted((self._known or frozenset()).difference(self._columns)))
        ]
        row = msgspec.defstruct("Row", fields, forbid_unknown_fields=self._known is not None, gc=False)
        return msgspec.json.Decoder(list[row])  # type: ignore[valid-type]

    def _decoded(self, data: bytes) -> tuple[int, Values, list[int]] | None:
        """How many rows there are, their values, how many have each column; ``None``: one may be bad."""
        array = self._framing.array(data)
        found: tuple[int, Values, list[int]] | None = None
        if self._all_strings:
            try:
                found = self._string_values(self._strings.decode(array))
            except msgspec.ValidationError:
                self._all_strings = False
            except _REFUSED:
                return None
        if found is None:
            try:
                found = self._scalar_values(self._scalars.decode(array))
            except _REFUSED:
                return None
        return found

    def _alike(self, data: bytes, present: list[int]) -> bool:
        """Whether each column's key occurs in the text only where it is a row's own, and once in a row.

        A key without escapes occurs in every row that has it. If there are no more occurrences than that,
        no row has it twice, and none of them is a value or a key further down.
        """
        if not self._columns:
            return True
        if has_escaped_keys(data):
            return False
        keys = map(plain_key, self._columns)
        return all(
            key is not None and data.count(key) == rows for key, rows in zip(keys, present, strict=True)
        )

    def _once(self, data: bytes) -> bool:
        """Whether no row has a key twice, as far as that shows at once.

        Of equal keys the parser keeps one. There are at most as many keys as quotes before colons, but for
        those within values: if that is the number of keys that were kept, none was lost.
        """
        if not self._rows:
            return True
        try:
            rows = _OBJECTS.decode(self._framing.array(data))
        except _REFUSED:
            return False
        kept, ends = sum(map(len, rows)), _key_ends(data)
        if ends > kept:
            ends -= _key_ends(b" ".join(chain.from_iterable(map(dict.values, rows))))
        return ends == kept

    def _string_values(self, rows: list[Any]) -> tuple[int, Values, list[int]]:
        values: Values = {}
        present: list[int] = []
        for column, get in zip(self._columns, self._getters, strict=True):
            found = list(map(get, rows))
            missing = found.count(msgspec.UNSET)
            if missing:
                found = [None if value is msgspec.UNSET else value for value in found]
            values[column] = found
            present.append(len(rows) - missing)
        return len(rows), values, present

    def _scalar_values(self, rows: list[Any]) -> tuple[int, Values, list[int]] | None:
        values: Values = {}
        present: list[int] = []
        for column, get in zip(self._columns, self._getters, strict=True):
            found = [bytes(get(row)) for row in rows]
            if any(value[:1] in (b"{", b"[") for value in found):
                return None
            present.append(len(rows) - found.count(b""))
            values[column] = [scalar_text(value) if value else None for value in found]
        return len(rows), values, present

    # --- one by one -----------------------------------------------------------------------------------------

    def _one_by_one(self, data: bytes, first: int, position: int, lead: bytes, *, valid: bool) -> Slab:
        pieces = self._framing.split(data)
        offset = position + len(pieces.lead)
        values: Values = {column: [] for column in self._columns}
        cells: list[dict[str, Member]] = []
        bad: dict[int, BadRow] = {}
        for row, (text, gap) in enumerate(zip(pieces.texts, pieces.gaps, strict=True)):
            found = self._examine(text, valid=valid)
            if isinstance(found, str):
                if not self._collect:
                    raise RowInvalid(
                        f"{self._name}: row {first + row} of the chunk, at byte {offset}: {found}"
                    )
                bad[row] = BadRow(first + row, offset, text, found)
            else:
                cells.append(found[0])
                for column in self._columns:
                    values[column].append(found[1].get(column))
            offset += len(text) + len(gap)
        if lead:
            pieces = replace(pieces, lead=lead)
        if bad:
            pieces = self._framing.without(pieces, bad)
        return Slab(self._framing, len(pieces.texts), values, list(bad.values()), pieces=pieces, cells=cells)

    def _examine(self, text: bytes, *, valid: bool) -> tuple[dict[str, Member], dict[str, str | None]] | str:
        """Where the values of one row are, and the values; or what is wrong with it."""
        if not valid and not self._valid(text) and (wrong := self._wrong(text)) is not None:
            return wrong
        if self._utf8 and (at := not_utf8(text)) is not None:
            return f"byte {at} of it is not UTF-8 (RFC 8259, section 8.1)"
        cells: dict[str, Member] = {}
        values: dict[str, str | None] = {}
        try:
            if self._rows and (twice := repeated_key(text)) is not None:
                return f"the key {twice!r} stands twice in it, and a row has one value of that name"
            for cell in cells_of(text, self._keys):
                if cell.key in cells:
                    return f"the key {cell.key!r} stands twice in it: which is meant?"
                if cell.nested:
                    return f"the value of {cell.key!r} is nested, and cannot be replaced"
                cells[cell.key] = cell
                values[cell.key] = scalar_text(text[cell.start : cell.end])
        except UnicodeDecodeError:
            return "a key, or the value of a column, is not UTF-8"
        return cells, values

    def _valid(self, text: bytes) -> bool:
        """Whether the parser takes a row as one row."""
        try:
            return len(self._scalars.decode(b"[%b]" % text)) == 1
        except _REFUSED:
            return False

    def _wrong(self, text: bytes) -> str | None:
        """Why the parser refuses a row; ``None`` for reasons of its own."""
        if not text.strip(WHITE):
            return "there is no value"
        at = fault(text)
        if at is not None:
            return (
                f"it is not valid JSON: byte {at} of it cannot stand there"
                if at < len(text)
                else "it is cut off"
            )
        if not self._objects:
            return None
        if text.lstrip(WHITE)[:1] != b"{":
            return f"it is {kind_of(text)}, not an object"
        if self._known is not None:
            try:
                for member in members(text):
                    if member.key not in self._known:
                        return f"the key {member.key!r} is unknown: no column has this name"
            except UnicodeDecodeError:
                return "a key is not UTF-8"
        return None


def _key_ends(text: bytes) -> int:
    """Quotes with a colon after them: that of every key, and some within strings."""
    if _SPACED_COLON.search(text) is None:
        return text.count(b'":')
    return len(_KEY_END.findall(text))
