"""JSON arrays: cut, read, replaced, joined."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, InvalidSource, RowInvalid, UnsupportedSource
from chunkwise.core.formats.json_array import JsonArray
from chunkwise.core.formats.model import RECORD, Boundary, Column, Layout, Part, ReadRequest, Span
from chunkwise.core.units import KiB, MiB
from tests.support.json_chunks import (
    HOSTILE,
    Dispatch,
    assembled,
    boundaries,
    objects,
    read_all,
    rows_of,
    spelled,
    values,
)
from tests.support.sources import BytesSource

FORMAT = JsonArray()
_WHITE = st.sampled_from(["", "", " ", "\n", "\r\n  ", "\t \n" * 3])


@st.composite
def files(draw, records=values, min_size=0):
    """A JSON array with any white space that there may be, and its records."""
    found = draw(st.lists(records, min_size=min_size, max_size=8))
    texts = [draw(spelled(value, lines=False)).strip() for value in found]
    bom = draw(st.sampled_from(["", "\ufeff"]))
    body = ""
    for number, text in enumerate(texts):
        body += (draw(_WHITE) + "," if number else "") + draw(_WHITE) + text
    data = bom + draw(_WHITE) + "[" + body + draw(_WHITE) + "]" + draw(_WHITE)
    return data.encode(), found


def naive_boundaries(data: bytes) -> list[int]:
    """Where records begin that have a comma before them: byte by byte."""
    found, inside, escaped, depth, comma = [], False, False, 0, False
    for at, byte in enumerate(data):
        if comma and byte not in b" \t\r\n":
            found.append(at)
            comma = False
        if escaped:
            escaped = False
        elif inside:
            escaped = byte == 0x5C
            inside = byte != 0x22
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            depth += 1
        elif byte in b"]}":
            depth -= 1
        elif byte == 0x2C and depth == 1:
            comma = True
    return found


# --- boundaries ---------------------------------------------------------------------------------------------


@given(
    file=files(), chunk=st.integers(1, 40), block=st.integers(1, 64), size=st.sampled_from([1, 20, 10_000])
)
def test_exact_cuts_give_back_the_file(file, chunk, block, size):
    """However a file is cut, the joined parts are the file, byte for byte; every record is counted once."""
    data, found = file
    source = BytesSource(data, block=block)
    dispatch = Dispatch(FORMAT, source, chunk_bytes=chunk, exact=True, request=ReadRequest(batch_bytes=size))
    assert dispatch.output() == data
    assert dispatch.rows == len(found)
    assert dispatch.chain_closes()


@given(file=files(), chunk=st.integers(1, 40))
def test_assumed_cuts_give_back_the_file_or_show_that_they_are_wrong(file, chunk):
    data, found = file
    dispatch = Dispatch(FORMAT, BytesSource(data), chunk_bytes=chunk)
    try:
        output = dispatch.output()
    except (InvalidSource, RowInvalid):
        assert {cut.position for cut in dispatch.boundaries[1:-1]} - {*naive_boundaries(data)}
        return
    if dispatch.chain_closes():
        assert output == data
        assert dispatch.rows == len(found)
    else:
        assert {cut.position for cut in dispatch.boundaries[1:-1]} - {*naive_boundaries(data)}


@given(file=files(records=objects, min_size=1), chunk=st.integers(1, 40), block=st.integers(1, 30))
def test_exact_cuts_are_those_of_an_automaton(file, chunk, block):
    data, _ = file
    layout = FORMAT.inspect(BytesSource(data), {})
    wanted = list(range(chunk, len(data), chunk))
    starts = naive_boundaries(data)
    expected = [min([at for at in starts if at >= near] or [len(data)]) for near in wanted]
    cuts = FORMAT.exact(BytesSource(data, block=block), layout, wanted)
    assert [cut.position for cut in cuts] == expected
    # as a plan is mended: a boundary that was right stays where it is
    again = FORMAT.exact(BytesSource(data, block=block), layout, expected)
    assert [cut.position for cut in again] == expected


def records_of(count: int) -> list[dict]:
    return [
        {
            "id": number,
            "text": f"{HOSTILE}{'é' * (number % 7)}",
            "items": [{"id": 1}, {"id": number}],
            "t": None,
        }
        for number in range(count)
    ]


@pytest.mark.parametrize("layout", [{}, {"separators": (",", ":")}, {"indent": 2}, {"indent": 0}])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_assumed_cuts_are_right_on_records_of_one_kind(layout, ascii_only):
    """Neither records in records nor strings that hold what looks like records deceive such a cut."""
    data = json.dumps(records_of(3000), ensure_ascii=ascii_only, **layout).encode()
    starts = {*naive_boundaries(data)}
    source = BytesSource(data)
    layout = FORMAT.inspect(source, {})
    for near in range(1, len(data), 19_997):
        source.reads = source.bytes_read = 0
        found = FORMAT.cut(source, layout, near)
        assert found.position in starts | {len(data)}
        assert found.position == min([at for at in starts if at >= near] or [len(data)])
        assert (source.reads, source.bytes_read <= 64 * KiB) == (1, True)


def test_the_text_rule_is_wrong_and_ours_is_not():
    """What a search for ``}, {`` takes for boundaries are mostly none."""
    data = json.dumps(records_of(500), separators=(", ", ":")).encode()
    by_text = [found.end() - 1 for found in re.finditer(rb"\}, \{", data)]
    assert len(by_text) > 2 * 499
    starts = {*naive_boundaries(data)}
    assert set(by_text) > starts
    found = boundaries(FORMAT, data, 2000)
    assert set(found[1:-1]) <= starts
    assert len(found) > 20


@pytest.mark.parametrize(
    "record",
    ["a,b", "x" * 50, 12345, -1.5, True, None, [1, [2, 3]], [[]], "true", "[1,2]", '","', {}],
    ids=str,
)
def test_records_of_any_kind_are_cut(record):
    data = json.dumps([record] * 40_000).encode()
    starts = {*naive_boundaries(data)}
    dispatch = Dispatch(FORMAT, BytesSource(data), chunk_bytes=len(data) // 5)
    assert len(dispatch.boundaries) == 6 or record == '","'
    if record != '","':
        assert {cut.position for cut in dispatch.boundaries[1:-1]} <= starts
        assert dispatch.output() == data


def test_a_long_string_that_holds_records_deceives_no_cut():
    inner = json.dumps([{"id": number, "s": "x"} for number in range(8000)])
    data = json.dumps([{"id": 1, "s": "s"}, {"id": 2, "s": inner}, {"id": 3, "s": "y"}] * 2).encode()
    dispatch = Dispatch(FORMAT, BytesSource(data), chunk_bytes=len(data) // 3)
    assert {cut.position for cut in dispatch.boundaries[1:-1]} <= {*naive_boundaries(data)}
    assert dispatch.output() == data


def test_what_deceives_the_assumption_shows_when_it_is_read():
    """Records within a record, so long that no window shows the brackets around them: exact cuts mend it."""
    pairs = [[number, number] for number in range(12_000)]
    data = json.dumps([*pairs, pairs * 3]).encode()
    dispatch = Dispatch(FORMAT, BytesSource(data), chunk_bytes=len(data) // 4)
    assert {cut.position for cut in dispatch.boundaries[1:-1]} - {*naive_boundaries(data)}
    try:
        dispatch.output()
        assert not dispatch.chain_closes()
    except InvalidSource:
        pass
    exact = Dispatch(FORMAT, BytesSource(data), chunk_bytes=len(data) // 4, exact=True)
    assert exact.output() == data
    assert exact.chain_closes()


def test_a_cut_looks_farther_only_for_longer_records():
    long = [{"id": number, "text": "x" * (200 * KiB)} for number in range(4)]
    data = json.dumps(long).encode()
    source = BytesSource(data)
    layout = FORMAT.inspect(BytesSource(data), {})
    assert FORMAT.cut(source, layout, 100).position == data.index(b'{"id": 1')
    assert source.reads == 3
    assert source.bytes_read <= 256 * KiB
    assert boundaries(FORMAT, data, 50 * KiB) == [0, *naive_boundaries(data), len(data)]


def test_the_pass_holds_a_block_at_a_time_and_reads_the_source_once():
    data = json.dumps(records_of(5000)).encode()
    source = BytesSource(data, block=100_000)
    layout = FORMAT.inspect(BytesSource(data), {})
    assert len(list(FORMAT.exact(source, layout, range(1000, len(data), 1000)))) == len(data) // 1000
    assert source.reads == 0


def test_a_chunk_that_ends_within_a_record_says_so():
    data = b'[{"a":1},{"a":"x,y"},[2]]'
    layout = FORMAT.inspect(BytesSource(data), {})
    for end in range(1, len(data)):
        span = Span(start=Boundary(position=0), end=Boundary(position=end))
        reader = FORMAT.read(BytesSource(data), layout, span, ReadRequest())
        rows = sum(batch.rows for batch in reader)
        assert rows == sum(at <= end for at in naive_boundaries(data))
        assert reader.end.position == end
        assert (reader.end.state == RECORD) == (end in naive_boundaries(data))


def test_an_empty_chunk_is_no_chunk_that_ends_wrongly():
    data = b"[1,2]"
    layout = FORMAT.inspect(BytesSource(data), {})
    for at in (3, 5):
        span = Span(start=Boundary(position=at), end=Boundary(position=at))
        reader = FORMAT.read(BytesSource(data), layout, span, ReadRequest())
        assert list(reader) == []
        assert (reader.start, reader.end, reader.rows) == (span.start, span.end, 0)


# --- inspect ------------------------------------------------------------------------------------------------


def test_columns_are_the_union_of_keys_in_order_of_appearance():
    data = b'\xef\xbb\xbf [ {"b": "x", "a": 1}, {"c": [1], "a": 1.5} , {"b": null}\n]'
    layout = FORMAT.inspect(BytesSource(data), {})
    assert layout.columns == (
        Column(name="b", type="string"),
        Column(name="a", type="number"),
        Column(name="c", type="json"),
    )
    assert layout.extent == len(data)
    assert FORMAT.inspect(BytesSource(b"[1, [2]]"), {}).columns is None
    assert FORMAT.inspect(BytesSource(b"[]"), {}).columns == ()
    source = BytesSource(b"[" + b'{"a":"%b"}' % (b"x" * MiB) + b',{"b":1}]')
    assert [column.name for column in FORMAT.inspect(source, {}).columns] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "there is no JSON in it"),
        (b" \n", "there is no JSON in it"),
        (b'{"a":1}', "byte 0 is '{', and a JSON array begins with '\\['; is this JSON Lines"),
        (b"\xef\xbb\xbf 1", "byte 4 is '1'"),
        (b"[nope]", "none of the first 1 records is valid JSON"),
    ],
)
def test_what_is_no_array_is_refused(data, message):
    with pytest.raises(InvalidSource, match=f"memory://source: {message}"):
        FORMAT.inspect(BytesSource(data), {})


def test_wide_encodings_and_foreign_options_are_refused():
    for encoding in ("utf-16", "utf-16-le", "utf-32-be"):
        with pytest.raises(UnsupportedSource, match=encoding[:6].upper()):
            FORMAT.inspect(BytesSource("[1]".encode(encoding)), {})
    with pytest.raises(ConfigError, match="lines=True"):
        FORMAT.inspect(BytesSource(b"[1]"), {"lines": True})
    with pytest.raises(ConfigError, match="indent"):
        FORMAT.target(Layout(extent=1), {"indent": 2}, native=False)


# --- good and bad arrays ------------------------------------------------------------------------------------

Y_ARRAYS = [
    b'[[] ]', b'[""]', b'[]', b'["a"]', b'[false]', b'[null, 1, "1", {}]', b'[null]', b'[1\n]', b' [1]',
    b'[1,null,null,null,2]', b'[2] ', b'[123e65]', b'[0e+1]', b'[ 4]', b'[-0]', b'[1E22]',
    b'["\\u0060\\u012a\\u12AB"]', b'["\\"\\\\\\/\\b\\f\\n\\r\\t"]', b'["\\\\u0000"]', b'["\\ud800"]',
    b'["\xe2\x80\xa8"]', b'["\x7f"]', b'["\xf4\x8f\xbf\xbf"]', b"[" * 3000 + b"]" * 3000,
    b'[{"a":"b","a":"c"}]', b'[\t\n ]', b'["asd "]', b'[\r\n1\t,\r 2]',
    b'[100000000000000000000000000000000000.10]',
]  # fmt: skip
N_ARRAYS = [
    b'[1 true]', b'["": 1]', b'[""],', b'[,1]', b'[1,,2]', b'["x",,]', b'["x"]]', b'["",]', b'["x"', b'[x',
    b'[3[4]]', b'[1:2]', b'[,]', b'[-]', b'[   , ""]', b'["a",\n4\n,1,', b'[1,]', b'[1,,]', b'["\x0ba"\\f]',
    b'[*]', b'[""', b'[1,', b'[1,\n1\n,1', b'[{}', b'[fals]', b'[nul]', b'[tru]', b'[++1234]', b'[+1]',
    b'[-01]', b'[-1.0.]', b'[.-1]', b'[0.1.2]', b'[0.3e+]', b'[1.0e-]', b'[1 000.0]', b'[2.e+3]', b'[Inf]',
    b'[NaN]', b'[0x1]', b'[1e1.5]', b'["\\u00A"]', b'["\\x00"]', b'["\\"]', b"['single']", b'["new\nline"]',
    b'[1]x', b'[1}', b'[[1}]', b'[\xe2\x81\xa0]', b'[1]\x00', b'[{"a":1]', b'[\\u000A""]', b'[', b'[1]]',
    b'[1][2]',
]  # fmt: skip


@pytest.mark.parametrize("data", Y_ARRAYS, ids=range(len(Y_ARRAYS)))
def test_valid_arrays_come_out_as_they_were(data):
    for chunk in (1, 3, 1000):
        assert Dispatch(FORMAT, BytesSource(data), chunk_bytes=chunk, exact=True).output() == data
    assert len(data) > 5000 or rows_of(FORMAT, data) == len(json.loads(data))


@pytest.mark.parametrize("data", N_ARRAYS, ids=range(len(N_ARRAYS)))
def test_invalid_arrays_are_refused(data):
    """Each alone, and as the last one of many records."""
    for text in (data, b"[" + b'{"a":1},' * 20_000 + data[1:]):
        with pytest.raises((InvalidSource, RowInvalid), match="memory://source"):
            rows_of(FORMAT, text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[1,2]\n x", "byte 7: the array ended before it"),
        (b"[1,2,\n]", "byte 6: there is no record before ']'"),
        (b"[1,2", "it ends at byte 4, and the array has no ']' yet"),
        (b"[1,2}", "byte 4: '}' closes no object"),
        (b"[,1]", "byte 1: there is no record before ','"),
    ],
)
def test_the_byte_is_named(data, message):
    with pytest.raises(InvalidSource, match=re.escape(f"memory://source: {message}")):
        rows_of(FORMAT, data)


# --- bounds -------------------------------------------------------------------------------------------------


@given(
    file=files(),
    rows=st.integers(1, 4),
    size=st.integers(1, 60),
    block=st.integers(1, 50),
)
def test_batches_keep_within_their_bounds(file, rows, size, block):
    data, found = file
    request = ReadRequest(batch_rows=rows, batch_bytes=size)
    batches = read_all(FORMAT, BytesSource(data, block=block), request=request)
    assert sum(batch.rows for batch in batches) == len(found)
    assert [batch.first for batch in batches] == [
        sum(b.rows for b in batches[:i]) for i in range(len(batches))
    ]
    for batch in batches:
        assert batch.rows <= rows
        assert sum(len(output.body) for output in batch.outputs()) <= size or batch.rows == 1


def test_a_record_that_is_longer_than_everything_is_read():
    inner = ",".join(f'{{"k":"{"x" * 500}\\\\","n":[{n}]}}' for n in range(2000))
    record = f'{{"a":[{inner}],"ssn":"1","b":"{chr(92) * 200_001}",{{"}}'
    data = f"[{record},\n{record},{{}}]".encode()
    source = BytesSource(data, block=100_001)
    dispatch = Dispatch(
        FORMAT,
        source,
        request=ReadRequest(columns=("ssn",), batch_bytes=1000),
        replace=lambda _, value: value and "two",
        chunk_bytes=500 * KiB,
    )
    assert dispatch.output() == data.replace(b'"ssn":"1"', b'"ssn":"two"')
    assert dispatch.rows == 3
    assert dispatch.chain_closes()


# --- values -------------------------------------------------------------------------------------------------


@given(
    file=files(records=objects),
    chunk=st.integers(1, 200),
    size=st.sampled_from([1, 50, 10_000]),
)
def test_only_the_replaced_values_change(file, chunk, size):
    """Python's json is the oracle for the records; what stands between them keeps its bytes."""
    data, records = file
    dispatch = Dispatch(
        FORMAT,
        BytesSource(data),
        chunk_bytes=chunk,
        exact=True,
        request=ReadRequest(columns=("ssn", "name"), batch_bytes=size),
        replace=lambda _column, found: None if found is None else f"<{found[::-1]}>",
    )
    after = [
        {
            key: f"<{as_text(value)[::-1]}>" if key in ("ssn", "name") and value is not None else value
            for key, value in record.items()
        }
        for record in records
    ]
    output = dispatch.output()
    assert json.loads(output.removeprefix(b"\xef\xbb\xbf")) == after
    if after == records:
        assert output == data


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value)


def test_layout_inside_and_between_records_stays():
    data = (
        b'[\n  {\n    "n": 1.10,\n    "ssn":  "old"\n  }\n  ,\n\n'
        b'  {"ssn": "old", "big": 18446744073709551616}]\r\n'
    )
    dispatch = Dispatch(
        FORMAT,
        BytesSource(data),
        request=ReadRequest(columns=("ssn",)),
        replace=lambda *_: "new",
        chunk_bytes=10,
    )
    assert dispatch.output() == data.replace(b'"old"', b'"new"')


# --- bad rows -----------------------------------------------------------------------------------------------


@given(
    kinds=st.lists(st.booleans(), max_size=9),
    data=st.data(),
    chunk=st.integers(1, 40),
    size=st.sampled_from([1, 30, 10_000]),
)
def test_a_rejected_record_takes_one_comma_along(kinds, data, chunk, size):
    """Whichever records are rejected, first, last or all, the rest is an array, whatever the chunk size."""
    records = [{"a": str(number)} if good else number for number, good in enumerate(kinds)]
    text = (
        "["
        + ",".join(data.draw(_WHITE) + json.dumps(record) + data.draw(_WHITE) for record in records)
        + "\n]\n"
    )
    dispatch = Dispatch(
        FORMAT,
        BytesSource(text.encode()),
        chunk_bytes=chunk,
        exact=True,
        request=ReadRequest(columns=("a",), on_bad="collect", batch_bytes=size),
        replace=lambda _, value: value,
    )
    output = dispatch.output()
    assert json.loads(output) == [record for record in records if isinstance(record, dict)]
    assert [json.loads(row.data) for row in dispatch.bad] == [r for r in records if not isinstance(r, dict)]
    assert [text.encode()[row.position :].startswith(row.data) for row in dispatch.bad] == [True] * len(
        dispatch.bad
    )
    assert dispatch.rows == len(records)
    if all(kinds):
        assert output == text.encode()


def test_a_bad_record_is_named():
    data = b'[{"a":"1"}, {"a":"2"}, {"a": nope}]'
    with pytest.raises(
        RowInvalid, match="memory://source: row 2 of the chunk, at byte 23: it is not valid JSON: byte 6"
    ):
        read_all(FORMAT, BytesSource(data), request=ReadRequest(columns=("a",)))
    with pytest.raises(RowInvalid, match="row 1 of the chunk, at byte 4: it is not valid JSON"):
        rows_of(FORMAT, b"[1, tru]")


# --- notes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("white", [b"", b" " * 10, b"\n" * 300, b" " * 200_000], ids=len)
@pytest.mark.parametrize("records", [0, 1, 2, 5])
def test_what_stands_between_records_is_kept_however_much_it_is(white, records):
    data = white + b"[" + (white + b"," + white).join([white + b'{"a":1}'] * records) + white + b"]" + white
    for chunk in (5, 300, 1 << 20):
        dispatch = Dispatch(
            FORMAT, BytesSource(data, block=1000), chunk_bytes=max(chunk, len(data) // 20), exact=True
        )
        assert dispatch.output() == data
        assert dispatch.chain_closes()
        assert all(len(json.dumps(notes)) < 2000 for notes in dispatch.notes)


# --- from and to other formats ------------------------------------------------------------------------------


def test_records_are_objects_on_one_line():
    data = b'[ {\n "a" : 1.10,\r\n  "b": [\n1 ]\n} ,{"a":"\\n"}]'
    [batch] = read_all(FORMAT, BytesSource(data), request=ReadRequest(records=True))
    assert batch.records() == [b'{"a" : 1.10,"b": [1 ]}', b'{"a":"\\n"}']
    with pytest.raises(RowInvalid, match="it is a number, not an object"):
        read_all(FORMAT, BytesSource(b"[1]"), request=ReadRequest(records=True, objects=True))


@pytest.mark.parametrize("chunks", [[], [[]], [[], [b'{"a":1}']], [[b"{}", b'{"b":2}'], [], [b"{}"]]])
def test_records_of_another_format_become_an_array(chunks):
    target = FORMAT.target(Layout(extent=1), {}, native=False)
    parts, data = [], []
    for number, records in enumerate(chunks):
        encoder = FORMAT.encoder(target)
        pieces = [*encoder.convert(records[:1], 0), *encoder.convert(records[1:], 1)]
        data.append(b"".join(pieces))
        parts.append(
            Part(chunk=number, ref=number, size=len(data[-1]), rows=len(records), notes=encoder.notes())
        )
    output = assembled(FORMAT.join(target, parts, None), data, b"")
    records = [record for chunk in chunks for record in chunk]
    assert output == (b"[\n" + b",\n".join(records) + b"\n]\n" if records else b"[]\n")
