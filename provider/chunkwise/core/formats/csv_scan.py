"""Where the records of a text end: proved from a record's start on, or guessed from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chunkwise.core.formats.csv_dialect import Dialect
from chunkwise.core.formats.csv_patterns import patterns, strict_pattern
from chunkwise.core.formats.model import RECORD

#: so many records tell a right guess from a wrong one
_ENOUGH: Final = 64


def complete(dialect: Dialect, data: bytes, start: int, end: int) -> int:
    """The end of the last complete record of ``data[start:end]``; ``start`` where there is none.

    A CR at the end is not complete: an LF may follow that belongs to it.

    :param start: where a record begins.
    """
    if all(data.find(byte, start, end) < 0 for byte in dialect.specials):
        if dialect.ends != "any":
            return max(start, data.rfind(dialect.line_ends, start, end) + 1)
        last = max(start, data.rfind(b"\n", start, end) + 1)
        return max(last, data.rfind(b"\r", last, end - 1) + 1) if end > last else last
    run = patterns(dialect).run
    assert run is not None
    match = run.match(data, start, end)
    return match.end() if match is not None else start


def first_boundary(dialect: Dialect, data: bytes, start: int, near: int) -> int | None:
    """The first record boundary at or after ``near``; ``None`` where the text does not tell.

    :param start: where a record begins, at or before ``near``.
    """
    position = complete(dialect, data, start, near)
    while position < near:
        match = patterns(dialect).record.match(data, position)
        if match is None:
            return None
        position = match.end()
    return position


def end_state(dialect: Dialect, record: bytes) -> str:
    """In which state a text ends that begins with a record and has no complete one.

    ``"record"`` (it is empty), ``"comment"``, ``"field"`` (after a delimiter), ``"unquoted"``, ``"quoted"``,
    ``"quote"`` (after a quote in a quoted cell), ``"escape"``, ``"after-cr"``.
    """
    if not record:
        return RECORD
    found = patterns(dialect)
    comment = dialect.encoded(dialect.comment)
    if dialect.ends == "any" and record[-1:] == b"\r" and found.closed.fullmatch(record):
        return "after-cr"
    if comment and record.startswith(comment):
        return "comment"
    opened = found.opened.match(record)
    position = opened.end() if opened is not None else 0
    if position == len(record):
        return "field"
    quote = dialect.encoded(dialect.quote)
    if quote and record.startswith(quote, position):
        assert found.inside is not None
        inside = found.inside.match(record, position + 1)
        position = inside.end() if inside is not None else position
        if position == len(record):
            return "quoted"
        if record[position : position + 1] != quote:
            return "escape"
        position += 1
        if position == len(record):
            return "quote" if dialect.doublequote else "unquoted"
        if dialect.doublequote and record.startswith(dialect.encoded(dialect.escape), position):
            position += len(dialect.encoded(dialect.escape))
    body = found.unquoted.match(record, position)
    return "unquoted" if body is not None and body.end() == len(record) else "escape"


@dataclass(frozen=True, slots=True)
class Guess:
    """A boundary that follows from an assumed state.

    :param position: of it.
    :param good: records after it that have the number of cells that a row has, all quoted well.
    :param bad: records that have not.
    :param alike: whether all records are quoted well and have one number of cells, at least two.
    """

    position: int
    good: int
    bad: int
    alike: bool

    @property
    def rank(self) -> tuple[bool, int]:
        """More is likelier."""
        return self.bad == 0 and self.good > 0, self.good - 2 * self.bad


def guesses(dialect: Dialect, data: bytes, fields: int | None) -> list[Guess]:
    """The first boundary in a text for each state in which it may begin, the likeliest first.

    A state without a boundary in the text gives none.

    :param fields: cells of a row, if that is known.
    """
    found: dict[int, Guess] = {}
    for rest in patterns(dialect).rests.values():
        match = rest.match(data)
        if match is not None and match.end() not in found:
            found[match.end()] = _weighed(dialect, data, match.end(), fields)
    return sorted(found.values(), key=lambda guess: guess.rank, reverse=True)


def _weighed(dialect: Dialect, data: bytes, start: int, fields: int | None) -> Guess:
    found = patterns(dialect)
    comment = dialect.encoded(dialect.comment)
    good = bad = seen = 0
    position, alike, common = start, True, fields
    while seen < _ENOUGH:
        match = found.record.match(data, position)
        if match is None:
            break
        record, position = match.group(), match.end()
        if found.blank.match(record) or (comment and record.startswith(comment)):
            continue
        seen += 1
        count = len(found.cell.findall(record))
        strict = strict_pattern(dialect, count).fullmatch(record) is not None
        if common is None or seen == 1:
            common = count
        alike &= strict and count == common > 1
        if strict and count == (fields or common):
            good += 1
        else:
            bad += 1
    return Guess(start, good, bad, alike and seen > 0)
