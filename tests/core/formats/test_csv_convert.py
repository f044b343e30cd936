"""CSV to JSON objects, and JSON objects to CSV."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, RowInvalid
from chunkwise.core.formats.csv_format import Csv
from chunkwise.core.formats.model import Boundary, Column, Layout, Part, ReadRequest, Span
from chunkwise.core.segments import Literal
from tests.support.csv_texts import Run
from tests.support.examples import examples

_NULLISH = st.sampled_from(["NA", "0", "true", " ", "", "x", None, 0, True])
_BARS = st.text("|;x", max_size=3)
TEXTS = st.text(st.sampled_from(list('a",\r\n;é€\u2028\\ #')), max_size=5)


def layout_of(*names: str) -> Layout:
    return Layout(extent=1, columns=tuple(Column(name=name) for name in names))


def converted(layout: Layout, records: list, *, raw: bool = False, parts: int = 1, **options) -> bytes:
    format_ = Csv()
    target = json.loads(json.dumps(format_.target(layout, options, native=False)))
    lines = records if raw else [json.dumps(record).encode() for record in records]
    made = []
    for number in range(parts):
        some = lines[number::parts] if parts > 1 else lines
        encoder = format_.encoder(target)
        data = b"".join(encoder.convert(some, 0))
        made.append(Part(chunk=number, ref=data, size=len(data), rows=len(some), notes=encoder.notes()))
    segments = format_.join(target, made, None)
    return b"".join(
        segment.data if isinstance(segment, Literal) else segment.of[segment.start : segment.end]
        for segment in segments
    )


@given(
    st.lists(st.tuples(TEXTS, TEXTS), max_size=20),
    st.integers(1, 40),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@examples(300)
def test_records_are_what_pythons_csv_reads(rows, chunk_bytes, quoting):
    out = io.StringIO()
    writer = csv.writer(out, quoting=quoting)
    writer.writerow(["é", 'b"'])
    writer.writerows(rows)
    data = out.getvalue().encode()
    run = Run(data)
    records = [
        json.loads(record)
        for batch in run.process(run.boundaries(chunk_bytes, exact=True), ReadRequest(records=True)).batches
        for record in batch.records()
    ]
    assert records == list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))


def test_records_have_the_new_values():
    run = Run(b"a,b\n1,2\n\n3,4")
    batches, _ = run.read(0, 12, ReadRequest(columns=("b",), records=True))
    batches[0].replace("b", ['x"\n', None])
    assert batches[0].records() == [b'{"a":"1","b":"x\\"\\n"}', b'{"a":"3","b":"4"}']


def test_records_of_text_that_is_not_of_the_encoding_are_bad():
    run = Run(b"a,b\n1,2\n\xff,4\n")
    batches, _ = run.read(0, 12, ReadRequest(records=True, on_bad="collect"))
    assert batches[0].records() == [b'{"a":"1","b":"2"}']
    assert [row.reason for row in batches[0].bad] == ["it is not utf-8"]


@given(
    st.lists(
        st.fixed_dictionaries(
            {}, optional={"a": TEXTS | st.none(), "b,": TEXTS | st.none() | st.integers() | st.booleans()}
        ),
        max_size=10,
    ),
    st.sampled_from([",", ";", "||", "\t"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
@examples(300)
def test_objects_are_read_back_and_null_differs_from_empty(records, sep, ending):
    data = converted(layout_of("a", "b,"), records, sep=sep, lineterminator=ending)
    run = Run(data, {"sep": sep})
    assert [column.name for column in run.layout.columns] == ["a", "b,"]
    batches, _ = run.read(0, len(data), ReadRequest(columns=("a", "b,")))
    found = [row for batch in batches for row in zip(batch.values("a"), batch.values("b,"), strict=True)]

    def text(value):
        return "" if value is None else value if isinstance(value, str) else json.dumps(value)

    assert found == [(text(record.get("a")), text(record.get("b,"))) for record in records]
    assert data.count(b'""') >= sum(value == "" for record in records for value in record.values())


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (b'"x"', b"x"),
        (b'"007"', b"007"),
        (b"1.10", b"1.10"),
        (b"18446744073709551616000", b"18446744073709551616000"),
        (b"1E400", b"1E400"),
        (b"true", b"true"),
        (b"null", b""),
        (b'""', b'""'),
        (b'"\\u00e9"', "é".encode()),
        (b'{"x": [1.10, "a b"]}', b'"{""x"":[1.10,""a b""]}"'),
        (b"[ ]", b"[]"),
        (b'"a,b"', b'"a,b"'),
        (b'" a"', b" a"),
    ],
)
def test_a_value_becomes_a_cell(value, cell):
    assert converted(layout_of("a", "b"), [b'{"b":' + value + b"}"], raw=True) == b"a,b\n," + cell + b"\n"


def test_one_null_column_is_no_blank_line():
    data = converted(layout_of("a"), [{"a": None}, {}, {"a": ""}, {"a": "x"}])
    assert data == b'a\n""\n""\n""\nx\n'
    assert converted(layout_of("a"), [{"a": None}, {"a": ""}], na_rep="NA") == b'a\nNA\n""\n'


@given(
    st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("a", "b"), _NULLISH)), min_size=1, max_size=8),
    st.sampled_from(["NA", "0", "true", " "]),
    st.integers(1, 8),
)
def test_a_text_that_is_spelled_like_null_has_quotes_whatever_stands_beside_it(records, null, size):
    """Bare it is null; how the rows are batched changes nothing."""
    encoder = Csv().encoder(Csv().target(layout_of("a", "b"), {"na_rep": null}, native=False))
    lines = [json.dumps(record).encode() for record in records]
    pieces = [b"".join(encoder.convert(lines[at : at + size], at)) for at in range(0, len(lines), size)]

    def cell(value):
        if value is None:
            return null
        text = value if isinstance(value, str) else json.dumps(value)
        return f'"{text}"' if text in ("", null) else text

    expected = [f"{cell(record.get('a'))},{cell(record.get('b'))}\n" for record in records]
    assert b"".join(pieces).decode() == "".join(expected)


def test_a_text_of_csv_that_is_spelled_like_null_has_quotes():
    run = Run(b"a,b\nNA,1\n2,\n")
    batches, _ = run.read(0, 14, ReadRequest(records=True))
    assert converted(run.layout, batches[0].records(), raw=True, na_rep="NA") == b'a,b\n"NA",1\n2,\n'


@given(st.lists(st.tuples(_BARS, _BARS), max_size=5), st.sampled_from(["||", "|;", ";|;"]))
def test_a_cell_that_ends_like_a_delimiter_begins_is_read_back(rows, sep):
    data = converted(layout_of("a", "b"), [dict(zip("ab", row, strict=True)) for row in rows], sep=sep)
    batches, _ = Run(data, {"sep": sep}).read(0, len(data), ReadRequest(columns=("a", "b")))
    found = [row for batch in batches for row in zip(batch.values("a"), batch.values("b"), strict=True)]
    assert found == rows


def test_headers_come_once_and_not_where_they_are_not_wanted():
    records = [{"a": str(number)} for number in range(4)]
    assert converted(layout_of("a"), records, parts=2) == b"a\n0\n2\n1\n3\n"
    assert converted(layout_of("a"), records, header=False) == b"0\n1\n2\n3\n"
    assert converted(layout_of("a"), []) == b"a\n"
    assert converted(layout_of("a"), [], parts=3) == b"a\n"


def test_how_cells_are_written_can_be_chosen():
    records = [{"a": "é", "b": None}, {"a": "NA", "b": "x'y"}]
    data = converted(
        layout_of("a", "b"),
        records,
        encoding="cp1252",
        na_rep="NA",
        columns=["b", "a"],
        quotechar="'",
        quoting=1,
    )
    assert data == "'b','a'\nNA,'é'\n'x''y','NA'\n".encode("cp1252")


def test_a_key_that_no_column_has_is_named():
    with pytest.raises(
        RowInvalid, match="row 1 of the chunk has a key 'new', which is none of the 1 columns"
    ):
        converted(layout_of("a"), [{"a": "1"}, {"a": "2", "new": 3}])


@pytest.mark.parametrize("record", [b"[1]", b"1", b"{", b'{"a": "\xff"}'])
def test_what_is_no_object_is_no_row(record):
    with pytest.raises(RowInvalid, match="row 1 of the chunk"):
        converted(layout_of("a"), [b'{"a":1}', record], raw=True)


def test_a_text_that_the_encoding_lacks_is_no_row():
    with pytest.raises(
        RowInvalid, match="row 1 of the chunk has a text that cannot be written in ascii"
    ) as caught:
        converted(layout_of("a"), [{"a": "x"}, {"a": "é"}], encoding="ascii")
    assert "é" not in str(caught.value)


def test_columns_must_be_known_and_differ():
    with pytest.raises(ConfigError, match="csv needs the names of its columns"):
        Csv().target(Layout(extent=1), {}, native=False)
    with pytest.raises(ConfigError, match="has column 'a' more than once"):
        Csv().target(layout_of("a", "a"), {}, native=False)
    assert converted(Layout(extent=1), [{"x": "1"}], columns=["x"]) == b"x\n1\n"


def test_names_may_hold_what_json_escapes():
    records = [{'a"\\': "1", "b\n": "2"}]
    layout = layout_of('a"\\', "b\n")
    data = converted(layout, records)
    run = Run(data)
    batches, _ = run.read(0, len(data), ReadRequest(records=True))
    assert [json.loads(record) for record in batches[0].records()] == records


def test_many_records_are_written_in_order():
    records = [{"a": str(number), "b": "x" * 100} for number in range(20_000)]
    rows = list(csv.DictReader(io.StringIO(converted(layout_of("a", "b"), records).decode())))
    assert rows == records


@given(
    st.lists(st.tuples(TEXTS, TEXTS), max_size=12),
    st.sampled_from([",", ";", "||"]),
    st.fixed_dictionaries(
        {},
        optional={
            "sep": st.sampled_from(["\t", "|", ","]),
            "quotechar": st.sampled_from(["'", '"']),
            "lineterminator": st.sampled_from(["\n", "\r\n"]),
            "quoting": st.sampled_from([0, 1]),
            "header": st.booleans(),
            "columns": st.just(["b;", "a"]),
        },
    ),
    st.integers(1, 40),
)
@examples(300)
def test_csv_gets_another_dialect_and_keeps_its_texts(rows, sep, options, chunk_bytes):
    """What is not asked for is as in the source; an empty cell has no quotes, unless all cells have some."""
    source = converted(
        layout_of("a", "b;"), [dict(zip(("a", "b;"), row, strict=True)) for row in rows], sep=sep
    )
    run = Run(source, {"sep": sep})
    request = ReadRequest(records=True)
    batches = run.process(run.boundaries(chunk_bytes, exact=True), request).batches
    data = converted(
        run.layout, [record for batch in batches for record in batch.records()], raw=True, **options
    )

    order = options.get("columns", ["a", "b;"])
    header = options.get("header", True)
    reading = {"sep": options.get("sep", sep), "quotechar": options.get("quotechar", '"')}
    again = Run(data, reading | ({} if header else {"header": None, "names": order}))
    found, _ = again.read(0, len(data), ReadRequest(columns=("a", "b;")))
    values = [row for batch in found for row in zip(batch.values("a"), batch.values("b;"), strict=True)]
    assert values == rows
    if options.get("quoting") != 1:
        quote = reading["quotechar"].encode()
        cells = again.format.read(again.source, again.layout, whole(data), ReadRequest(columns=("a",)))
        assert all(cell != quote * 2 for batch in cells for slab in batch._slabs for cell in slab.cells("a"))


def whole(data: bytes) -> Span:
    return Span(start=Boundary(position=0), end=Boundary(position=len(data)))


def test_an_empty_cell_of_csv_stays_bare_unless_its_row_would_be_blank():
    for source, expected in ((b'a;b\n;""\n1;\n', b"a\tb\n\t\n1\t\n"), (b'a\n""\n1\n', b'a\n""\n1\n')):
        run = Run(source, {"sep": ";"})
        batches, _ = run.read(0, len(source), ReadRequest(records=True))
        assert converted(run.layout, batches[0].records(), raw=True, sep="\t") == expected
