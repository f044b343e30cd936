"""From the bytes of cells to their texts, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from chunkwise.core.errors import RowInvalid
from chunkwise.core.formats.csv_dialect import Dialect
from chunkwise.core.formats.csv_patterns import patterns

#: encodings in which a text has one spelling: a value that did not change has the bytes that it had
_ONE_SPELLING: Final = frozenset({"utf-8", "ascii", "iso8859-1"})


class Cells:
    """Reads and writes cells of one dialect.

    :param dialect: the dialect.
    :param fields: cells of a row; a row of one empty cell must not become a blank line. ``None``: any number.
    """

    def __init__(self, dialect: Dialect, fields: int | None) -> None:
        self._dialect = dialect
        self._quote = dialect.encoded(dialect.quote)
        self._escape = dialect.encoded(dialect.escape)
        self._delimiter = dialect.encoded(dialect.delimiter)
        self._comment = dialect.encoded(dialect.comment)
        self._single = fields == 1
        self._pieces = patterns(dialect).pieces
        self._doubled = self._quote * 2
        self._unescape = re.compile(
            b"(?:%b|%b)(.)" % (re.escape(self._escape), re.escape(self._quote))
            if self._quote and dialect.doublequote
            else re.escape(self._escape) + b"(.)",
            re.DOTALL,
        )
        self._unescape_bare = re.compile(re.escape(self._escape) + b"(.)", re.DOTALL)
        # Bytes with which a cell needs quotes or escapes. Of a delimiter of several bytes one is enough: at
        # the end of a cell it would become part of the delimiter behind it.
        ends = b"\r\n" if self._quote else dialect.line_ends
        special = ends + self._delimiter[:1] + self._quote + self._escape
        self._harmful = [bytes([byte]) for byte in sorted({*special} - {*b"\n"})]
        self._special = re.compile(b"[" + re.escape(special) + b"]")
        self._unquotable = re.compile(b"[" + re.escape(special + self._comment) + b"]")

    # --- reading --------------------------------------------------------------------------------------------

    def texts(self, cells: Sequence[bytes]) -> list[str]:
        """Texts of many cells.

        :raises UnicodeDecodeError: one is not of the encoding.
        """
        if not cells:
            return []
        encoding = self._dialect.encoding
        joined = b"\n".join(cells)
        quotes = joined.count(self._quote) if self._quote else 0
        if not (self._escape and self._escape in joined):
            if not quotes and joined.count(b"\n") == len(cells) - 1:
                return joined.decode(encoding).split("\n")
            if quotes == 2 * len(cells) and joined[:1] == joined[-1:] == self._quote:
                # Every cell has two quotes, if there are so many line ends between quotes: the pairs of a
                # closing and an opening one are then used up.
                between = f"{self._dialect.quote}\n{self._dialect.quote}"
                found = joined[1:-1].decode(encoding).split(between)
                if len(found) == len(cells):
                    return found
        text = self.text
        return [text(cell) for cell in cells]

    def text(self, cell: bytes) -> str:
        """The text of one cell.

        :raises UnicodeDecodeError: it is not of the encoding.
        """
        if self._quote and cell[:1] == self._quote:
            assert self._pieces is not None
            match = self._pieces.fullmatch(cell)
            assert match is not None
            inside, tail = match.groups()
            if self._escape:
                inside = self._unescape.sub(rb"\1", inside)
                if self._dialect.doublequote and tail[:1] == self._escape:
                    tail = tail[:1] + self._unescape_bare.sub(rb"\1", tail[1:])
                else:
                    tail = self._unescape_bare.sub(rb"\1", tail)
            elif self._dialect.doublequote:
                inside = inside.replace(self._doubled, self._quote)
            cell = inside + tail
        elif self._escape and self._escape in cell:
            cell = self._unescape_bare.sub(rb"\1", cell)
        return cell.decode(self._dialect.encoding)

    # --- writing --------------------------------------------------------------------------------------------

    def alike(
        self, values: Sequence[str], old: Sequence[bytes], *, first: bool, plain: bool
    ) -> list[bytes] | None:
        """Cells of many texts, where all old cells have quotes, or none has, and no text needs other ones.

        :param old: the cells that were there.
        :param first: whether they are the first ones of their rows.
        :param plain: whether it is known that no old cell has quotes.
        :return: ``None`` where they must be looked at one by one.
        :raises UnicodeEncodeError: a text is not of the encoding.
        """
        if self._single or self._dialect.encoding not in _ONE_SPELLING:
            return None
        joined = "\n".join(values).encode(self._dialect.encoding)
        if joined.count(b"\n") != len(values) - 1 or any(byte in joined for byte in self._harmful):
            return None
        if plain and not (first and self._comment):
            return joined.split(b"\n")
        quote = self._quote
        before = b"\n".join(old)
        if self._escape and self._escape in before:
            return None
        quotes = before.count(quote) if quote else 0
        if not quotes and not (first and self._comment):
            return joined.split(b"\n")
        if quotes == 2 * len(old) and all(cell[:1] == cell[-1:] == quote for cell in old):
            return (quote + joined.replace(b"\n", b"%b\n%b" % (quote, quote)) + quote).split(b"\n")
        return None

    def harmless(self, cells: Sequence[bytes], *, first: bool) -> bool:
        """Whether cells can stand in the place of plain ones: no byte of them means anything.

        :param first: whether they are the first ones of their rows.
        """
        if self._single or (first and self._comment):
            return False
        joined = b"".join(cells)
        return b"\n" not in joined and not any(byte in joined for byte in self._harmful)

    def cell(self, text: str, *, quoted: bool, first: bool) -> bytes:
        """The cell of a text, with quotes if its predecessor had some, or it must have.

        :param first: whether it is the first of its row.
        :raises UnicodeEncodeError: the text is not of the encoding.
        :raises RowInvalid: the dialect cannot write it.
        """
        data = text.encode(self._dialect.encoding)
        needs = (
            self._special.search(data) is not None
            or (first and self._comment and data.startswith(self._comment))
            or (self._single and not data)
        )
        if not needs and not quoted:
            return data
        quote, escape = self._quote, self._escape
        if quote:
            if escape:
                data = data.replace(escape, escape * 2)
            if quote in data:
                if not self._dialect.doublequote and not escape:
                    raise RowInvalid(
                        "it has a quote, which a dialect without doublequote and escapechar lacks"
                    )
                data = data.replace(quote, (quote if self._dialect.doublequote else escape) + quote)
            return quote + data + quote
        if not needs:
            return data
        if not escape or not data:
            raise RowInvalid("it needs quotes, and the dialect has none")
        return self._unquotable.sub(lambda match: escape + match.group(), data)


@lru_cache(maxsize=64)
def cells_of(dialect: Dialect, fields: int | None) -> Cells:
    """Of a dialect."""
    return Cells(dialect, fields)
