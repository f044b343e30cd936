"""Cells protected as the bytes that they are come out as those that are decoded and encoded again."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.formats.model import ReadRequest
from chunkwise.core.protect.apply import apply
from chunkwise.core.protect.hmac_tokens import HmacOptions, HmacProtector
from tests.core.protect.support import Decoding, rule, task
from tests.support.csv_texts import DIALECTS, Run, hostile, options_of, rows_of, tame
from tests.support.examples import examples

SECRET = "0123456789abcdef" * 3
CASES = st.sampled_from(DIALECTS).flatmap(
    lambda dialect: st.tuples(st.just(dialect), hostile(dialect) | tame(dialect))
)


def protected(run: Run, boundaries, names, wanted, protector) -> bytes:
    request = ReadRequest(columns=wanted, known=frozenset(names), on_bad="collect")
    rules = {name: rule() for name in wanted}
    return run.process(boundaries, request, lambda batch: apply(batch, rules, protector)).output


@given(CASES, st.integers(1, 40), st.sampled_from(["", "t-", ",", '"', "\n", "\r", "#", "é", "|", "a;"]))
@examples(400)
def test_both_ways_write_the_same(case, cut, prefix):
    dialect, data = case
    rows = rows_of(data, dialect)
    names = [f"c{number}" for number in range(len(rows[0].cells) if rows else 1)]
    run = Run(data, options_of(dialect) | {"header": None, "names": names})
    boundaries = run.boundaries(cut, exact=True)
    protector = HmacProtector(HmacOptions(prefix=prefix), SECRET)
    wanted = (names[-1], names[0]) if len(names) > 1 else (names[0],)

    def outcome(way):
        try:
            return protected(run, boundaries, names, wanted, way)
        except Exception as error:
            return type(error), str(error)

    assert outcome(protector) == outcome(Decoding(protector))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("column", ["first", "middle", "last"])
def test_the_tokens_are_those_of_the_cells_by_pythons_csv(end, column):
    header = ["first", "middle", "last"]
    rows = [[f"{number} {name}ü" if number % 7 else "" for name in header] for number in range(3_000)]
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows([header, *rows])
    run = Run(text.getvalue().encode())
    protector = HmacProtector(HmacOptions(), SECRET)

    found = protected(run, run.boundaries(10_000), header, (column,), protector)

    at = header.index(column)
    for row in rows:
        row[at] = row[at] and protector.protect(task(), [row[at]])[0]
    expected = io.StringIO()
    csv.writer(expected, lineterminator=end).writerows([header, *rows])
    assert found == expected.getvalue().encode()
