"""CSV that is cut, read and joined: what nobody asked to change comes out byte for byte."""

import csv
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, InvalidSource, RowInvalid
from chunkwise.core.formats import csv_reader
from chunkwise.core.formats.csv_dialect import Dialect
from chunkwise.core.formats.model import Boundary, ReadRequest, Span
from tests.support.csv_texts import DIALECTS, Run, hostile, options_of, read_slowly, rows_of, tame
from tests.support.examples import examples

CASES = st.sampled_from(DIALECTS).flatmap(
    lambda dialect: st.tuples(st.just(dialect), hostile(dialect) | tame(dialect))
)
CUTS = st.integers(1, 40)
BLOCKS = st.sampled_from([1, 3, 7, 64, 1 << 20])


def run_of(dialect: Dialect, data: bytes, **options) -> Run:
    block = options.pop("block", 1 << 20)
    return Run(data, options_of(dialect) | {"header": None} | options, block=block)


@given(CASES, CUTS, BLOCKS)
@examples(500)
def test_any_cut_gives_back_the_file_and_counts_its_rows(case, chunk_bytes, block):
    dialect, data = case
    run = run_of(dialect, data, block=block)
    result = run.whole(chunk_bytes)
    assert result.output == data
    assert result.rows == len(rows_of(data, dialect))


@given(CASES, st.integers(1, 12))
@examples(300)
def test_a_chain_that_closes_has_only_true_boundaries(case, chunk_bytes):
    dialect, data = case
    run = run_of(dialect, data)
    true = {0, len(data), *(record.end for record in read_slowly(data, dialect))}
    result = run.process(run.boundaries(chunk_bytes))
    assert not result.closed or {boundary.position for boundary in result.boundaries} <= true
    exact = {boundary.position for boundary in run.boundaries(chunk_bytes, exact=True)}
    assert exact <= true
    assert run.process(run.boundaries(chunk_bytes, exact=True)).closed


@given(CASES, BLOCKS)
@examples(200)
def test_exact_finds_the_first_boundary_for_every_cut(case, block):
    dialect, data = case
    run = run_of(dialect, data, block=block)
    ends = [record.end for record in read_slowly(data, dialect)]
    wanted = range(1, len(data))
    found = [boundary.position for boundary in run.format.exact(run.source, run.layout, wanted)]
    assert found == [min(end for end in ends if end >= near) for near in wanted]


@given(CASES, CUTS, BLOCKS, st.integers(1, 5), st.integers(1, 60))
@example((Dialect(), b",\ra\n"), 3, 1, 1, 4)
@example((Dialect(escape="\\"), b'"a"\\,b\n"a"\\\n,x\n'), 1, 1, 1, 3)
@example((Dialect(ends="lf"), b",\r\n"), 1, 1, 1, 3)
@examples(500)
def test_values_are_those_of_an_automaton_and_others_take_their_place(
    case, cut, block, batch_rows, batch_bytes
):
    dialect, data = case
    rows = [row for row in rows_of(data, dialect) if not row.cut]
    fields = len(rows[0].cells) if rows else 1
    names = [f"c{number}" for number in range(fields)]
    wanted = (names[-1], names[0]) if fields > 1 else (names[0],)
    request = ReadRequest(
        columns=wanted,
        known=frozenset(names),
        batch_rows=batch_rows,
        batch_bytes=batch_bytes,
        on_bad="collect",
    )
    seen: list[list[str | None]] = []

    def look(batch):
        seen.extend(map(list, zip(*(batch.values(name) for name in wanted), strict=True)))
        for name in wanted:
            batch.replace(name, [None if n % 3 else value for n, value in enumerate(batch.values(name))])

    run = run_of(dialect, data, names=names, block=block)
    result = run.whole(cut, request)
    seen.clear()
    again = run.process(result.boundaries, request, look)
    numbers = [names.index(name) for name in wanted]
    good = [row for row in rows if len(row.cells) == fields]
    assert seen == [[row.cells[number].decode() for number in numbers] for row in good]
    bad = [row.data for batch in again.batches for row in batch.bad]
    kept = [record for record in rows_of(data, dialect) if record.cut or len(record.cells) != fields]
    assert bad == [data[record.start : record.end] for record in kept]
    assert all(batch.rows <= batch_rows for batch in again.batches)
    left_out = {record.start for record in kept}
    assert again.output == b"".join(
        data[record.start : record.end]
        for record in read_slowly(data, dialect)
        if record.start not in left_out
    )


def texts(dialect: Dialect):
    pieces = [
        dialect.delimiter,
        dialect.quote,
        dialect.escape,
        dialect.comment,
        "\n",
        "\r",
        "a",
        "é",
        " ",
        "€",
    ]
    return st.lists(st.sampled_from([piece for piece in pieces if piece]), max_size=4).map("".join)


@given(
    st.sampled_from(
        [dialect for dialect in DIALECTS if dialect.quote and (dialect.doublequote or dialect.escape)]
    ).flatmap(
        lambda dialect: st.tuples(
            st.just(dialect), hostile(dialect) | tame(dialect), st.lists(texts(dialect), min_size=9)
        )
    ),
    st.data(),
)
@examples(500)
def test_a_new_value_is_read_back_and_no_other_cell_changes(case, choices):
    dialect, data, new = case
    rows = [row for row in rows_of(data, dialect) if not row.cut]
    fields = len(rows[0].cells) if rows else 1
    names = [f"c{number}" for number in range(fields)]
    column = choices.draw(st.sampled_from(names))
    put: list[str] = []

    def change(batch):
        values = [new[(len(put) + n) % len(new)] for n in range(batch.rows)]
        put.extend(values)
        batch.replace(column, values)
        assert batch.values(column) == values

    run = run_of(dialect, data, names=names)
    request = ReadRequest(columns=(column,), on_bad="collect")
    result = run.process(run.boundaries(30, exact=True), request, change)
    number = names.index(column)
    expected = [[cell.decode() for cell in row.cells] for row in rows if len(row.cells) == fields]
    for row, value in zip(expected, put, strict=True):
        row[number] = value
    assert [[cell.decode() for cell in row.cells] for row in rows_of(result.output, dialect)] == expected


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_pythons_csv_writes_is_protected_as_pythons_csv_would(ending, quoting):
    # Python's writer gives quotes to the line ends that it writes itself only
    notes = ["plain", 'a "b"', "x,y", f"1{ending}2", "", f"{ending}1\r\n2", "ü"]
    rows = [[f"{n:04d}", f"name {n % 7}", notes[n % 7], "1.10"] for n in range(500)]

    def written(table):
        out = io.StringIO()
        writer = csv.writer(out, lineterminator=ending, quoting=quoting)
        writer.writerow(["id", "name", "note", "amount"])
        writer.writerows(table)
        return out.getvalue().encode()

    def protect(batch):
        for column in ("name", "note"):
            batch.replace(column, [value and f"<{value[::-1]}>" for value in batch.values(column)])

    run = Run(written(rows))
    request = ReadRequest(columns=("name", "note"), known=frozenset(["id", "name", "note", "amount"]))
    changed = [[a, b and f"<{b[::-1]}>", c and f"<{c[::-1]}>", d] for a, b, c, d in rows]
    for chunk_bytes in (10, 100, 1000, 100_000):
        assert run.whole(chunk_bytes, request, protect).output == written(changed)


def test_a_cell_that_looks_like_rows_deceives_a_guess_and_not_the_chain():
    rows = b"".join(b"%d,b,c\n" % n for n in range(20_000))
    data = b"h,i,j\n1,2,3\n" + b'9,"' + rows + b'",x\n' + rows
    run = Run(data)
    guessed = run.process(run.boundaries(50_000))
    assert not guessed.closed
    exact = run.process(run.boundaries(50_000, exact=True))
    assert exact.closed
    assert exact.output == data
    assert exact.rows == 20_002
    assert max(exact.chunks) < 20_001


def test_guesses_are_right_for_quoted_cells_with_lines():
    row = b'%d,"first line\nsecond, ""quoted"" line\n\nthird",tail\n'
    data = b"a,b,c\n" + b"".join(row % n for n in range(3000))
    run = Run(data)
    result = run.process(run.boundaries(777))
    assert result.closed
    assert result.rows == 3000
    assert result.output == data


def test_a_cut_takes_three_reads_and_256_kib_at_most():
    data = b"a,b\n" + b'1,"x\ny"\n' * 200_000
    run = Run(data)
    for near in range(100_000, len(data), 100_000):
        run.source.reads = run.source.bytes_read = 0
        run.format.cut(run.source, run.layout, near)
        assert run.source.reads <= 3
        assert run.source.bytes_read <= 256 * 1024


def test_a_ragged_file_is_cut_within_the_same_bounds():
    data = b"a,b\n" + b"1,2,3,4\n" * 200_000
    run = Run(data)
    run.source.reads = run.source.bytes_read = 0
    assert run.format.cut(run.source, run.layout, 800_001) == Boundary(position=800_004)
    assert run.source.reads <= 3
    assert run.source.bytes_read <= 256 * 1024


@pytest.mark.parametrize("options", [{}, {"quoting": 3}])
def test_a_record_longer_than_windows_and_chunks_is_one_row(options):
    cell = b"text " * 200_000 if options else b'"' + b'line, ""one""\n' * 80_000 + b'"'
    data = b"a,b\n1,x\n2," + cell + b"\n3,y\n"
    run = Run(data, options)
    result = run.process(run.boundaries(100_000), ReadRequest(columns=("b",), known=frozenset("ab")))
    assert result.closed
    assert result.output == data
    assert result.rows == 3
    assert 0 in result.chunks or len(result.chunks) == 2


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"", 0),
        (b"\xef\xbb\xbf", 0),
        (b"a,b", 0),
        (b"\xef\xbb\xbfa,b\r\n", 0),
        (b"a,b\n1,2", 1),
        (b"a,b\r1,2\r3,4\r", 2),
        (b"a,b\r\r\n1,2\r\r\n3,4\r\r\n", 2),
        (b'"a\nb","c"\n1,2\n', 1),
        (b"a\n\n\n1\n\n", 1),
        (b'a,b\n1,"2', 1),
        (b"\n\na,b\n\n1,2\n\n", 1),
    ],
)
def test_small_and_odd_files_come_out_as_they_were(data, rows):
    for block in (1, 2, 1 << 20):
        run = Run(data, block=block)
        for chunk_bytes in range(1, len(data) + 2):
            result = run.whole(chunk_bytes)
            assert result.output == data
            assert result.rows == rows


def test_an_end_between_cr_and_lf_is_seen():
    run = Run(b"a,b\r\n1,2\r\n3,4\r\n")
    _, reader = run.read(5, 9, ReadRequest())
    assert reader.end == Boundary(position=9, state="after-cr")
    run = Run(b"a,b\r1,2\r3,4\r")
    _, reader = run.read(4, 8, ReadRequest())
    assert reader.end == Boundary(position=8)


def test_an_end_within_a_record_is_a_state_and_no_error():
    run = Run(b'a,b\n1,"2\n2"\n3,4\n')
    request = ReadRequest(columns=("b",), known=frozenset("ab"))
    for end, state in ((5, "unquoted"), (6, "field"), (7, "quoted"), (9, "quoted"), (11, "quote")):
        batches, reader = run.read(4, end, request)
        assert reader.end == Boundary(position=end, state=state)
        assert sum(batch.rows for batch in batches) == 0


def test_a_row_with_another_number_of_cells_is_bad_where_cells_matter():
    data = b"a,b\n1,2\n1,2,3\n\n4\n5,6\n"
    run = Run(data)
    assert run.process([Boundary(position=0), Boundary(position=len(data))]).rows == 4
    request = ReadRequest(columns=("b",), on_bad="collect")
    result = run.process(run.boundaries(1 << 20), request)
    assert result.output == b"a,b\n1,2\n\n5,6\n"
    bad = [row for batch in result.batches for row in batch.bad]
    assert [(row.row, row.position, row.data) for row in bad] == [(1, 8, b"1,2,3\n"), (2, 15, b"4\n")]
    assert bad[0].reason == "it has 3 cells, and there are 2 columns"
    with pytest.raises(RowInvalid, match=r"memory://source: row 1 of the chunk, at byte 8: it has 3 cells"):
        run.process(run.boundaries(1 << 20), ReadRequest(columns=("b",)))


def test_a_last_row_with_open_quotes_is_bad_where_cells_matter():
    run = Run(b'a,b\n1,2\n3,"4\n5,6\n')
    result = run.process(run.boundaries(1 << 20), ReadRequest(columns=("b",), on_bad="collect"))
    assert result.closed
    assert result.output == b"a,b\n1,2\n"
    assert [row.data for batch in result.batches for row in batch.bad] == [b'3,"4\n5,6\n']


def test_a_rejected_last_row_without_a_line_end_takes_nothing_with_it():
    run = Run(b"a,b\n1,2\n3")
    result = run.process(run.boundaries(1 << 20), ReadRequest(columns=("b",), on_bad="collect"))
    assert result.output == b"a,b\n1,2\n"
    assert [row.data for batch in result.batches for row in batch.bad] == [b"3"]


def test_text_that_is_not_of_the_encoding_is_bad_only_where_it_is_asked_for():
    data = b"a,b\n1,\xff\n\xff,2\n"
    run = Run(data)
    result = run.process(run.boundaries(1 << 20), ReadRequest(columns=("b",), on_bad="collect"))
    assert result.output == b"a,b\n\xff,2\n"
    assert [row.reason for batch in result.batches for row in batch.bad] == ["the value of 'b' is not utf-8"]
    assert run.process(run.boundaries(1 << 20)).output == data
    assert Run(data, {"encoding": "cp1252"}).process(
        run.boundaries(1 << 20), ReadRequest(columns=("b",))
    ).batches[0].values("b") == ["ÿ", "2"]


def test_bounds_hold_for_batches():
    data = b"a,b\n" + b'1,"2"\n' * 1000 + b"3,4\n" * 1000
    run = Run(data, block=100)
    for request in (
        ReadRequest(columns=("a",), batch_rows=7, batch_bytes=100),
        ReadRequest(batch_rows=7, batch_bytes=100),
    ):
        result = run.process(run.boundaries(1 << 20), request)
        assert result.output == data
        assert max(batch.rows for batch in result.batches) == 7
        assert max(len(b"".join(batch.data())) for batch in result.batches) <= 100
        firsts = [batch.first for batch in result.batches]
        assert firsts == [sum(batch.rows for batch in result.batches[:n]) for n in range(len(firsts))]


def test_a_quote_that_is_never_closed_is_an_error_before_memory_ends(monkeypatch):
    monkeypatch.setattr(csv_reader, "LONGEST", 100_000)
    run = Run(b'a,b\n1,"' + b"x,y\n" * 100_000, block=10_000)
    with pytest.raises(InvalidSource, match=r"the row at byte 4 is longer than .* is a quote never closed"):
        run.process(run.boundaries(1 << 30), ReadRequest())


def test_a_replaced_cell_keeps_its_quotes_or_gets_them_where_it_must():
    run = Run(b'a,b\n1,2\n"3",4\n"5 ""x""",6\n7,8')
    request = ReadRequest(columns=("a", "b"))

    def change(batch):
        batch.replace("a", ["x", "y", 'z"', "w,"])
        batch.replace("b", ["", None, "6", "a\nb"])

    assert run.process(run.boundaries(1 << 20), request, change).output == (
        b'a,b\nx,\n"y",4\n"z""",6\n"w,","a\nb"'
    )


def test_a_value_that_the_source_cannot_write_is_refused_without_naming_it():
    run = Run(b"a,b\n1,2\n", {"encoding": "ascii"})
    with pytest.raises(RowInvalid, match=r"new value of 'a' cannot be written: .* ascii lacks") as caught:
        run.process(run.boundaries(99), ReadRequest(columns=("a",)), lambda batch: batch.replace("a", ["é"]))
    assert "é" not in str(caught.value)
    run = Run(b"a,b\n1,2\n", {"quoting": 3})
    with pytest.raises(RowInvalid, match="it needs quotes, and the dialect has none"):
        run.process(
            run.boundaries(99), ReadRequest(columns=("a",)), lambda batch: batch.replace("a", ["x,y"])
        )


def test_columns_without_names_or_with_two_equal_ones_cannot_be_asked_for():
    with pytest.raises(ConfigError, match="has column 'a' more than once"):
        Run(b"a,a\n1,2\n").read(0, 8, ReadRequest(columns=("a",)))
    with pytest.raises(ConfigError, match="has no header: give the names"):
        Run(b"1,2\n", {"header": None}).read(0, 4, ReadRequest(records=True))
    with pytest.raises(ConfigError, match="has a column 'b', which nothing is said about"):
        Run(b"a,b\n1,2\n").read(0, 8, ReadRequest(columns=("a",), known=frozenset("a")))
    with pytest.raises(ConfigError, match="has no column 'c'"):
        Run(b"a,b\n1,2\n").read(0, 8, ReadRequest(columns=("c",)))


def test_an_empty_file_has_no_columns_and_no_rows_to_protect():
    run = Run(b"")
    batches, reader = run.read(0, 0, ReadRequest(columns=("a",), known=frozenset("a"), records=True))
    assert (batches, reader.rows, reader.end) == ([], 0, Boundary(position=0))


def test_a_span_that_starts_where_a_record_does_reads_the_same_rows_as_the_whole():
    run = Run(b'a,b\n1,"2\n2"\n3,4\n')
    span = Span(start=Boundary(position=4), end=Boundary(position=16))
    reader = run.format.read(run.source, run.layout, span, ReadRequest(columns=("b",)))
    assert [batch.values("b") for batch in reader] == [["2\n2", "4"]]


def test_a_batch_has_fewer_rows_where_many_cells_are_asked_for():
    names = [f"c{number}" for number in range(500)]
    data = (",".join(names) + "\n" + ",".join("x" * 500) + "\n").encode()
    data += ("," * 499 + "\n").encode() * 2000
    run = Run(data)
    batches, reader = run.read(0, len(data), ReadRequest(columns=tuple(names)))
    assert max(batch.rows for batch in batches) == 800
    assert reader.rows == 2001


def test_a_stream_in_large_blocks_gives_the_same_rows():
    row = b'1,"two\nlines",x\r\n2,plain,y\r\n'
    data = b"a,b,c\r\n" + row * 150_000
    run = Run(data, block=8 << 20)
    request = ReadRequest(columns=("b",), known=frozenset("abc"))
    result = run.process([Boundary(position=0), Boundary(position=len(data))], request)
    assert result.output == data
    assert result.rows == 300_000
    values = [value for batch in result.batches for value in batch.values("b")]
    assert values == ["two\nlines", "plain"] * 150_000


def test_a_first_cell_that_would_begin_a_comment_gets_quotes():
    run = Run(b"a,b\n1,2\n3,4\n", {"comment": "#"})

    def change(batch):
        batch.replace("a", ["#1", "3#"])
        batch.replace("b", ["#2", "4"])

    result = run.process(run.boundaries(99), ReadRequest(columns=("a", "b")), change)
    assert result.output == b'a,b\n"#1",#2\n3#,4\n'


def test_cells_with_quotes_in_them_are_not_taken_for_quoted_ones():
    run = Run(b'a,b\n5"x",1\n6"y",2\n')
    result = run.process(
        run.boundaries(99), ReadRequest(columns=("a",)), lambda batch: batch.replace("a", ["p", "q"])
    )
    assert result.output == b"a,b\np,1\nq,2\n"


def test_a_window_that_ends_between_cr_and_lf_cuts_behind_both():
    near = 101
    line = b"x" * (near - 1 + 64 * 1024 - 5)
    data = b"a,b\n" + line + b"\r\n1,2\r\n"
    assert data[near - 1 + 64 * 1024 - 1 :][:2] == b"\r\n"
    run = Run(data, {"quoting": 3})
    assert run.format.cut(run.source, run.layout, near) == Boundary(position=len(data) - 5)
