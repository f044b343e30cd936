"""Where CSV records end, against an automaton that looks at one byte after the other."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.formats.csv_dialect import Dialect
from chunkwise.core.formats.csv_scan import complete, end_state, first_boundary, guesses
from tests.support.csv_texts import DIALECTS, hostile, read_slowly, rows_of
from tests.support.examples import examples

DIALECTS_AND_TEXTS = st.sampled_from(DIALECTS).flatmap(
    lambda dialect: st.tuples(st.just(dialect), hostile(dialect))
)


def ends_of(data: bytes, dialect: Dialect) -> list[int]:
    """Boundaries that are certain, whatever follows."""
    ends = [0]
    for record in read_slowly(data, dialect):
        ended = data[: record.end].endswith((b"\n", b"\r")) and not record.cut
        if ended and read_slowly(data + b"a", dialect)[-1].start >= record.end:
            ends.append(record.end)
    if dialect.ends == "any" and data.endswith(b"\r"):
        ends = [end for end in ends if end < len(data)]
    return ends


@given(DIALECTS_AND_TEXTS)
@examples(600)
def test_the_last_complete_record_ends_where_the_automaton_says(case):
    dialect, data = case
    assert complete(dialect, data, 0, len(data)) == max(ends_of(data, dialect), default=0)


@given(DIALECTS_AND_TEXTS)
@examples(300)
def test_the_first_boundary_at_or_after_every_position(case):
    dialect, data = case
    ends = ends_of(data, dialect)
    for near in range(len(data) + 1):
        assert first_boundary(dialect, data, 0, near) == min(
            (end for end in ends if end >= near), default=None
        )


@given(DIALECTS_AND_TEXTS)
@examples(300)
def test_a_state_is_a_records_start_exactly_where_the_automaton_says(case):
    dialect, data = case
    ends = ends_of(data, dialect)
    rest = data[max(ends) :]
    assert (end_state(dialect, rest) == "record") == (rest == b"")
    if dialect.ends == "any" and rest.endswith(b"\r"):
        follows = read_slowly(rest + b"a", dialect)[-1].start == len(rest)
        assert (end_state(dialect, rest) == "after-cr") == follows


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (b"", "record"),
        (b"a,", "field"),
        (b"a,b", "unquoted"),
        (b'a,"b', "quoted"),
        (b'a,"b""', "quoted"),
        (b'a,"b"', "quote"),
        (b'a,"b"c', "unquoted"),
        (b"a,b\\", "escape"),
        (b'a,"b\\', "escape"),
        (b"#a,", "comment"),
        (b"a\r", "after-cr"),
        (b"\r", "after-cr"),
        (b'"\r', "quoted"),
    ],
)
def test_states_have_names(text, state):
    assert end_state(Dialect(escape="\\", comment="#"), text) == state


@given(
    st.sampled_from([d for d in DIALECTS if not d.comment and len(d.delimiter) == 1]).flatmap(
        lambda dialect: st.tuples(st.just(dialect), hostile(dialect))
    )
)
@examples(600)
def test_the_slow_reader_of_these_tests_is_pythons(case):
    """The oracle's oracle, where both know the dialect."""
    dialect, data = case
    if dialect.ends != "any":
        dialect = Dialect(**{name: getattr(dialect, name) for name in ("escape", "doublequote", "quote")})
    records = read_slowly(data, dialect)
    if records and records[-1].cut:
        data = data[: records[-1].start]
        records = records[:-1]
    reader = csv.reader(
        io.StringIO(data.decode(), newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
        escapechar=dialect.escape,
        doublequote=dialect.doublequote,
    )
    assert [[cell.decode() for cell in record.cells] for record in records] == list(reader)


def test_a_guess_prefers_the_state_after_which_rows_are_right():
    rows = b'1,"two\nlines, and ""more""",x\n' * 20
    assert guesses(Dialect(), rows[6:], 3)[0].position == 24
    assert guesses(Dialect(), rows[1:], 3)[0].position == 29
    assert rows_of(rows, Dialect())[1].start == 30
