"""Regular expressions of a dialect. They are the automaton: a CSV record is a regular language.

All repetitions are possessive and every alternative begins with another byte, so no text is looked at twice
and nothing is tried again: matching is linear in the text.

Where a text ends with a CR, nobody knows yet whether an LF follows that belongs to it. Such a record is not
complete, unless the pattern is a *closed* one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from chunkwise.core.formats.csv_dialect import Dialect

#: so many cells in a row are written out, which is faster than a counted repetition
_UNROLLED: Final = 16


@dataclass(frozen=True, slots=True)
class _Source:
    """Pieces of patterns."""

    delimiter: bytes
    ends: bytes
    body: bytes
    inside: bytes
    tail: bytes
    cell: bytes
    strict: bytes
    comment: bytes


@dataclass(frozen=True, slots=True)
class Patterns:
    """Of one dialect.

    :param record: one record from its first byte to its line end, blank and comment lines included.
    :param closed: the same, where no more text follows.
    :param run: as many records as there are.
    :param cell: each cell of records, with what ends it outside the group; not for comment lines.
    :param pieces: of a quoted cell: what its quotes hold, and what follows them.
    :param opened: cells and their delimiters from the start of a record, as far as they are complete.
    :param unquoted: what an unquoted cell holds.
    :param inside: what a quoted cell holds, from behind its quote.
    :param line_end: a complete one.
    :param rests: by state, what is left of a record that is in this state.
    :param blank: a blank line.
    """

    record: re.Pattern[bytes]
    closed: re.Pattern[bytes]
    run: re.Pattern[bytes] | None
    cell: re.Pattern[bytes]
    pieces: re.Pattern[bytes] | None
    opened: re.Pattern[bytes]
    unquoted: re.Pattern[bytes]
    inside: re.Pattern[bytes] | None
    line_end: re.Pattern[bytes]
    rests: dict[str, re.Pattern[bytes]]
    blank: re.Pattern[bytes]


@lru_cache(maxsize=64)
def patterns(dialect: Dialect) -> Patterns:
    """The patterns of a dialect."""
    source = _source(dialect)
    end = _end(dialect)
    record = _record(source) + end
    fields = source.cell + b"(?:" + source.delimiter + source.cell + b")*+"
    more = b"(?:" + source.delimiter + source.cell + b")*+" + end
    specials = b"".join(map(re.escape, dialect.specials))
    run = None
    if specials:
        # whole lines without quotes and escapes, at the speed of a search
        last = b"\r" if dialect.ends == "cr" else b"\n"
        run = _compiled(b"(?:(?>[^" + specials + b"]*" + last + b")|" + record + b")*+")
    rests = {"field": fields + end, "unquoted": source.body + more}
    quote = re.escape(dialect.encoded(dialect.quote))
    if quote:
        rests["quoted"] = source.inside + quote + source.tail + more
    if dialect.comment is not None:
        rests["comment"] = b"[^" + source.ends + b"]*+" + end
    return Patterns(
        record=_compiled(record),
        closed=_compiled(_record(source) + _end(dialect, closed=True)),
        run=run,
        cell=_compiled(
            b"(" + source.cell + b")(?:" + source.delimiter + b"|" + _end(dialect, closed=True) + b")"
        ),
        pieces=_compiled(quote + b"(" + source.inside + b")" + quote + b"(" + source.tail + b")")
        if quote
        else None,
        opened=_compiled(b"(?:" + source.cell + source.delimiter + b")*+"),
        unquoted=_compiled(source.body),
        inside=_compiled(source.inside) if source.inside else None,
        line_end=_compiled(end),
        rests={state: _compiled(text) for state, text in rests.items()},
        blank=_compiled(b"[" + source.ends + b"]"),
    )


@lru_cache(maxsize=64)
def row_pattern(
    dialect: Dialect, fields: int | None, wanted: tuple[int, ...], *, closed: bool = False
) -> tuple[re.Pattern[bytes], int]:
    """A pattern whose ``split`` takes a text to pieces that give it again when they are joined.

    It matches everywhere, so that nothing is ever searched for: a row; else (group ``stride - 2``) another
    record: a blank or comment line, or a row of another number of cells; else (group ``stride - 1``) all the
    rest, which is no complete record.

    :param fields: cells of a row; ``None``: any number.
    :param wanted: increasing numbers of cells that get groups of their own, at ``2, 4, 6 ...``.
    :param closed: whether no more text follows.
    :return: the pattern, and its number of groups + 1: what one match takes in the list of pieces.
    """
    source = _source(dialect)
    end = _end(dialect, closed=closed)
    guard = b""
    if fields in (None, 1):
        guard += b"(?![" + source.ends + b"])"
    if source.comment:
        guard += b"(?!" + source.comment + b")"
    row = _row(source.cell, source.delimiter, end, fields, wanted)
    pattern = guard + row + b"|(" + _record(source) + end + b")|(.+)"
    compiled = _compiled(pattern)
    return compiled, compiled.groups + 1


@lru_cache(maxsize=64)
def plain_pattern(
    dialect: Dialect, fields: int, wanted: tuple[int, ...]
) -> tuple[re.Pattern[bytes], int] | None:
    """The same for a text that is known to have only rows of so many cells without quotes, escapes and
    comments.

    :return: ``None`` where such a text cannot be known.
    """
    if unit(dialect, fields) is None:
        return None
    delimiter = re.escape(dialect.encoded(dialect.delimiter))
    # One byte to stop at, where the delimiter must come first: half the time of a set of bytes.
    cell, last = b"[^" + delimiter + b"]*+", b"[^\r\n]*+"
    compiled = _compiled(_row(cell, delimiter, b"[^\n]*+\n", fields, wanted, rest=True, last=last))
    return compiled, compiled.groups + 1


@lru_cache(maxsize=64)
def unit(dialect: Dialect, fields: int) -> tuple[bytes, bytes] | None:
    """How to know such a text: all bytes that do not matter, and what the others of one row are.

    :return: ``None`` where it cannot be known by this.
    """
    delimiter = dialect.encoded(dialect.delimiter)
    if fields < 2 or len(delimiter) > 1 or dialect.ends == "cr":
        return None
    kept = b"\r\n" + delimiter + b"".join(dialect.specials) + dialect.encoded(dialect.comment)
    return bytes(byte for byte in range(256) if byte not in kept), delimiter * (fields - 1)


@lru_cache(maxsize=64)
def strict_pattern(dialect: Dialect, fields: int) -> re.Pattern[bytes]:
    """One record of so many cells, in which quotes stand only around whole cells."""
    source = _source(dialect)
    cells = source.strict + b"(?:" + source.delimiter + source.strict + b"){%d}+" % (fields - 1)
    return _compiled(cells + _end(dialect, closed=True))


def _row(
    cell: bytes,
    delimiter: bytes,
    end: bytes,
    fields: int | None,
    wanted: tuple[int, ...],
    *,
    rest: bool = False,
    last: bytes | None = None,
) -> bytes:
    """Groups that cover a row: what stands before a wanted cell, the cell, and so on.

    :param rest: whether ``end`` matches all cells after the last wanted one, too.
    :param last: the last cell of a row, where it has a pattern of its own.
    """
    if fields is None:
        return b"(" + cell + b"(?:" + delimiter + cell + b")*+" + end + b")"
    if not wanted:
        return b"(" + _repeated(cell + delimiter, fields - 1) + cell + end + b")"
    text, done = b"", 0
    for number in wanted:
        before = _repeated(cell + delimiter, number - done) if not done else b""
        if done:
            before = delimiter + _repeated(cell + delimiter, number - done)
        text += b"(" + before + b")(" + (last if last and number == fields - 1 else cell) + b")"
        done = number + 1
    after = b"" if rest else _repeated(delimiter + cell, fields - done)
    return text + b"(" + after + end + b")"


def _repeated(text: bytes, times: int) -> bytes:
    return text * times if times <= _UNROLLED else b"(?:" + text + b"){%d}+" % times


def _compiled(text: bytes) -> re.Pattern[bytes]:
    return re.compile(text, re.DOTALL)


def _record(source: _Source) -> bytes:
    """A record without its end."""
    fields = source.cell + b"(?:" + source.delimiter + source.cell + b")*+"
    if not source.comment:
        return fields
    return b"(?>" + source.comment + b"[^" + source.ends + b"]*+|" + fields + b")"


def _end(dialect: Dialect, *, closed: bool = False) -> bytes:
    if dialect.ends != "any":
        return dialect.line_ends
    return rb"(?:\r\n|\n|\r)" if closed else rb"(?:\r\n|\n|\r(?!\Z))"


def _source(dialect: Dialect) -> _Source:
    delimiter = dialect.encoded(dialect.delimiter)
    quote = re.escape(dialect.encoded(dialect.quote))
    escape = re.escape(dialect.encoded(dialect.escape))
    first = re.escape(delimiter[:1])
    # what an unquoted cell may hold although its byte ends the run of harmless ones
    others = [escape + b"."] if escape else []
    if len(delimiter) > 1:
        others.append(first + b"(?!" + re.escape(delimiter[1:]) + b")")
    stops = first + dialect.line_ends + escape
    body = _many(b"[^" + stops + b"]", others)
    begin = b"|".join([b"[^" + stops + quote + b"]", *others])
    unquoted = b"(?:" + begin + b")" + body if others else begin + body
    if not quote:
        return _Source(
            delimiter=re.escape(delimiter),
            ends=dialect.line_ends,
            body=body,
            inside=b"",
            tail=b"",
            cell=body,
            strict=body,
            comment=re.escape(dialect.encoded(dialect.comment)),
        )
    held = [quote + quote] if dialect.doublequote else []
    inside = _many(b"[^" + quote + escape + b"]", [*held, *([escape + b"."] if escape else [])])
    # Python's csv takes an escape right after a closing quote for data, where quotes can be doubled
    tail = (escape + b"?+" if escape and dialect.doublequote else b"") + body
    closed = quote + inside + quote
    return _Source(
        delimiter=re.escape(delimiter),
        ends=dialect.line_ends,
        body=body,
        inside=inside,
        tail=tail,
        # in this order: a quote that is never closed must not become an unquoted cell
        cell=b"(?:" + closed + tail + b"|" + unquoted + b"|)",
        strict=b"(?:" + closed + b"|(?!" + quote + b")" + _many(b"[^" + stops + quote + b"]", others) + b")",
        comment=re.escape(dialect.encoded(dialect.comment)),
    )


def _many(harmless: bytes, others: list[bytes]) -> bytes:
    """Any number of these."""
    if not others:
        return harmless + b"*+"
    return harmless + b"*+(?:(?:" + b"|".join(others) + b")" + harmless + b"*+)*+"
