"""JSON Lines: cut, read, replaced, joined."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, InvalidSource, RowInvalid, UnsupportedSource
from chunkwise.core.formats.json_lines import JsonLines
from chunkwise.core.formats.model import RECORD, Boundary, Column, Layout, ReadRequest, Span
from chunkwise.core.units import KiB, MiB
from tests.support.json_chunks import (
    HOSTILE,
    Dispatch,
    boundaries,
    bytes_of,
    objects,
    read_all,
    rows_of,
    spelled,
    values,
)
from tests.support.sources import BytesSource

FORMAT = JsonLines()


@st.composite
def files(draw, records=values):
    """A JSON Lines file with all that may stand between records, and its records' texts."""
    texts = draw(st.lists(records.flatmap(lambda value: spelled(value, lines=True)), max_size=8))
    ends = st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n", " \n\n\n", "\n\r\n"])
    data = "".join(text + draw(ends) for text in texts)
    if draw(st.booleans()):
        data = data.rstrip("\n")
    lead = draw(st.sampled_from(["", "\n", "  \n\r\n"])) if data else ""
    bom = b"\xef\xbb\xbf" if draw(st.booleans()) else b""
    return bom + (lead + data).encode(), [text.encode() for text in texts]


# --- boundaries ---------------------------------------------------------------------------------------------


@given(file=files(), chunk=st.integers(1, 40), block=st.integers(1, 64))
def test_any_cut_gives_back_the_file(file, chunk, block):
    """However a file is cut, the joined parts are the file, byte for byte; every record is counted once."""
    data, texts = file
    source = BytesSource(data, block=block)
    dispatch = Dispatch(FORMAT, source, chunk_bytes=chunk)
    assert dispatch.output() == data
    assert dispatch.rows == len(texts)
    assert dispatch.chain_closes()


@given(file=files())
def test_a_cut_is_the_first_byte_after_a_newline(file):
    data, _ = file
    layout = FORMAT.inspect(BytesSource(data), {})
    wanted = range(len(data) + 1)
    starts = [0, *(found.end() for found in re.finditer(b"\n", data)), len(data)]
    expected = [Boundary(position=min(at for at in starts if at >= near)) for near in wanted]
    assert [FORMAT.cut(BytesSource(data), layout, near) for near in wanted] == expected
    assert list(FORMAT.exact(BytesSource(data), layout, wanted)) == expected


def test_a_cut_reads_one_window_and_more_only_for_longer_records():
    data = b'{"a": 1}\n' * 100_000
    source = BytesSource(data)
    layout = Layout(extent=len(data))
    assert FORMAT.cut(source, layout, 500_000).position % 9 == 0
    assert (source.reads, source.bytes_read) == (1, 64 * KiB)
    long = b'"' + b"x" * (250 * KiB) + b'"\n"next"\n'
    source = BytesSource(long)
    assert FORMAT.cut(source, Layout(extent=len(long)), 1).position == long.index(b'"next"')
    assert source.reads == 3
    assert source.bytes_read <= 256 * KiB


def test_other_line_ends_of_unicode_end_no_line():
    data = '{"a":"\u2028\u2029\u0085\x0b"}\n{"a":2}\n'.replace("\x0b", "").encode()
    assert rows_of(FORMAT, data) == 2
    assert boundaries(FORMAT, data, 1) == [0, data.index(b'{"a":2}'), len(data)]


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-32-be", "UTF-32"),
    ],
)
def test_wide_encodings_are_refused_by_name(encoding, name):
    with pytest.raises(UnsupportedSource, match=f"memory://source is JSON in {name}"):
        FORMAT.inspect(BytesSource('{"a":1}\n'.encode(encoding)), {})


def test_a_chunk_that_ends_within_a_line_says_so_and_gives_no_row_of_it():
    data = b'{"a":1}\n{"a":2}\n'
    layout = FORMAT.inspect(BytesSource(data), {})
    reader = FORMAT.read(
        BytesSource(data), layout, Span(start=Boundary(position=0), end=Boundary(position=11)), ReadRequest()
    )
    assert [batch.rows for batch in reader] == [1]
    assert reader.end.position == 11
    assert reader.end.state != RECORD


# --- inspect ------------------------------------------------------------------------------------------------


def test_columns_are_the_union_of_keys_in_order_of_appearance():
    data = b"""
{"b": "x", "a": 1, "n": null}

{"c": [1], "a": 1.5, "b": "y", "d": true, "n": null}
{"b": 1, "e": {"f": 1}, "\\u0064": false}
"""
    layout = FORMAT.inspect(BytesSource(data), {})
    assert layout.columns == (
        Column(name="b", type="json"),
        Column(name="a", type="number"),
        Column(name="n", type="string"),
        Column(name="c", type="json"),
        Column(name="d", type="boolean"),
        Column(name="e", type="json"),
    )
    assert layout.extent == len(data)


@pytest.mark.parametrize("data", [b"1\n", b"[1]\n2\n", b'"a"', b"null\n"])
def test_records_that_are_no_objects_have_no_columns(data):
    assert FORMAT.inspect(BytesSource(data), {}).columns is None


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n\n"])
def test_a_file_without_records_is_fine(data):
    assert FORMAT.inspect(BytesSource(data), {}).columns == ()
    assert rows_of(FORMAT, data) == 0


def test_what_is_not_json_is_refused():
    with pytest.raises(InvalidSource, match="none of the first 2 lines is valid JSON"):
        FORMAT.inspect(BytesSource(b"a,b\n1,2,\n"), {})


def test_inspect_reads_one_head_and_more_only_for_a_longer_first_line():
    source = BytesSource(b'{"a": 1}\n' * 100_000)
    FORMAT.inspect(source, {})
    assert (source.reads, source.bytes_read) == (1, 128 * KiB)
    source = BytesSource(b'{"a": "%b"}\n{"b": 1}\n' % (b"x" * MiB))
    assert [column.name for column in FORMAT.inspect(source, {}).columns] == ["a", "b"]


def test_the_last_line_of_a_head_is_not_taken_for_a_record():
    source = BytesSource(b'{"a": 12345678}\n' * 10_000)
    assert FORMAT.inspect(source, {}).columns == (Column(name="a", type="integer"),)


@pytest.mark.parametrize("options", [{"sep": ","}, {"lines": False}, {"orient": "split"}, {"nrows": 5}])
def test_options_that_mean_something_else_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        FORMAT.inspect(BytesSource(b"{}\n"), options)


def test_options_that_change_nothing_are_taken():
    options = {
        "lines": True,
        "orient": "records",
        "dtype": False,
        "encoding": "UTF-8",
        "convert_dates": False,
    }
    assert FORMAT.inspect(BytesSource(b'{"a":1}\n'), options).extent == 8
    with pytest.raises(UnsupportedSource, match="latin-1"):
        FORMAT.inspect(BytesSource(b"{}\n"), {"encoding": "latin-1"})
    with pytest.raises(ConfigError, match="indent"):
        FORMAT.target(Layout(extent=1), {"indent": 2}, native=True)


# --- bounds -------------------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(0, 30), max_size=30),
    rows=st.integers(1, 7),
    size=st.integers(1, 60),
    block=st.integers(1, 50),
)
def test_batches_keep_within_their_bounds(lengths, rows, size, block):
    data = b"".join(b'"%b"\n' % (b"x" * length) for length in lengths)
    batches = read_all(
        FORMAT, BytesSource(data, block=block), request=ReadRequest(batch_rows=rows, batch_bytes=size)
    )
    assert sum(batch.rows for batch in batches) == len(lengths)
    assert b"".join(bytes_of(FORMAT, batch) for batch in batches) == data
    assert [batch.first for batch in batches] == [
        sum(b.rows for b in batches[:i]) for i in range(len(batches))
    ]
    for batch in batches:
        assert batch.rows <= rows
        assert len(bytes_of(FORMAT, batch)) <= size or batch.rows == 1


# --- values -------------------------------------------------------------------------------------------------


@given(
    records=st.lists(objects, min_size=1, max_size=8),
    data=st.data(),
    chunk=st.integers(1, 200),
    size=st.sampled_from([1, 50, 10_000]),
)
def test_only_the_replaced_values_change(records, data, chunk, size):
    """Whatever else a record holds, its other members keep their bytes; Python's json is the oracle."""
    texts = [data.draw(spelled(record, lines=True)).encode() for record in records]
    source = b"".join(text + b"\n" for text in texts)
    dispatch = Dispatch(
        FORMAT,
        BytesSource(source),
        chunk_bytes=chunk,
        request=ReadRequest(columns=("ssn", "name"), batch_bytes=size),
        replace=lambda _column, found: None if found is None else f"<{found[::-1]}>",
    )
    lines = dispatch.output().split(b"\n")
    assert lines.pop() == b""
    for record, text, line in zip(records, texts, lines, strict=True):
        after = {
            key: f"<{as_text(value)[::-1]}>" if key in ("ssn", "name") and value is not None else value
            for key, value in record.items()
        }
        assert json.loads(line) == after
        if after == record:
            assert line == text


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("other", ["", HOSTILE])
@pytest.mark.parametrize(
    "odd", [b"", b'{"ssn": 5}\n', b'{"ssn": "\\u0041"}\n', b'{"a": "\\"ssn\\": \\"x\\""}\n']
)
def test_bytes_that_nobody_asked_for_stay(other, odd):
    line = (
        b'{"n":1.10 , "big":18446744073709551616,"e":-0.0E+5,"in":{"ssn":"deep"},'
        b'"t":"\\u00e9\\/\\"ssn\\":",%b"ssn" :  "%b" }\r\n'
    )
    extra = b'"other":' + json.dumps(other).encode() + b","
    data = odd + b"".join(line % (extra, b"%d" % number) for number in range(5))
    dispatch = Dispatch(
        FORMAT, BytesSource(data), request=ReadRequest(columns=("ssn",)), replace=lambda *_: "new"
    )
    expected = b"".join(line % (extra, b"new") for number in range(5))
    changed = {
        b"": b"",
        b'{"ssn": 5}\n': b'{"ssn": "new"}\n',
        b'{"ssn": "\\u0041"}\n': b'{"ssn": "new"}\n',
        b'{"a": "\\"ssn\\": \\"x\\""}\n': b'{"a": "\\"ssn\\": \\"x\\""}\n',
    }[odd]
    assert dispatch.output() == changed + expected


def test_an_escaped_key_is_found():
    data = b'{"ssn":"1"}\n{"\\u0073sn":"2"}\n{"s\\u0073n" : "3", "x":"ssn"}\n'
    dispatch = Dispatch(
        FORMAT, BytesSource(data), request=ReadRequest(columns=("ssn",)), replace=lambda _, value: value + "!"
    )
    assert dispatch.output() == b'{"ssn":"1!"}\n{"\\u0073sn":"2!"}\n{"s\\u0073n" : "3!", "x":"ssn"}\n'


def test_values_come_as_their_text():
    data = (
        b'{"v":"a\\n\\u00fc"}\n{"v":1.10}\n{"v":true}\n{"v":null}\n{}\n{"v":18446744073709551616}\n{"v":""}\n'
    )
    [batch] = read_all(FORMAT, BytesSource(data), request=ReadRequest(columns=("v",)))
    assert batch.values("v") == ["a\nü", "1.10", "true", None, None, "18446744073709551616", ""]


def test_none_and_an_equal_value_leave_the_bytes_as_they_are():
    data = b'{"v":"\\u0041"}\n{"v":"\\u0042"}\n{"v":1.10}\n{"v":null}\n{"v":"c"}\n'
    [batch] = read_all(FORMAT, BytesSource(data), request=ReadRequest(columns=("v",)))
    batch.replace("v", ["A", None, "1.10", None, 'q"\\\n\u2028'])
    assert bytes_of(FORMAT, batch) == data.replace(b'"c"', '"q\\"\\\\\\n\u2028"'.encode())


def test_a_null_can_get_a_value_and_a_missing_member_stays_missing():
    data = b'{"v":null}\n{"w":1}\n{"v":"x"}\n'
    [batch] = read_all(FORMAT, BytesSource(data), request=ReadRequest(columns=("v",)))
    batch.replace("v", ["a", "b", "c"])
    assert bytes_of(FORMAT, batch) == b'{"v":"a"}\n{"w":1}\n{"v":"c"}\n'


@pytest.mark.parametrize("odd", [b"", b'{"a":1,"b":"y"}\n'])
def test_new_values_that_look_like_members_are_text(odd):
    """A value that one column got is not searched for the key of the next one."""
    data = odd + b'{"a":"1","b":"x"}\n' * 4
    first = ['x",', '","b":"no', ',"b', '\\"b"', "\n"]
    second = ['"a":"', "z", '{"a":"1"}', '",', '\\","']
    [batch] = read_all(FORMAT, BytesSource(data), request=ReadRequest(columns=("a", "b")))
    batch.replace("a", first[: batch.rows])
    batch.replace("b", second[: batch.rows])
    found = [json.loads(line) for line in bytes_of(FORMAT, batch).splitlines()]
    assert [row["a"] for row in found] == first[: batch.rows]
    assert [row["b"] for row in found] == second[: batch.rows]


def test_a_key_further_down_is_another_one():
    data = b'{"in":{"ssn":"deep"}}\n{"in":[{"ssn":"deep"}],"a":"ssn"}\n{"ssn":"top"}\n'
    dispatch = Dispatch(
        FORMAT,
        BytesSource(data),
        request=ReadRequest(columns=("ssn",)),
        replace=lambda _, value: value and "new",
    )
    assert dispatch.output() == data.replace(b"top", b"new")


@pytest.mark.parametrize("odd", [b"", b'{"a":5}\n'])
def test_values_go_to_their_own_rows_in_batches_of_any_size(odd):
    data = b"".join(b'{"a":"%d","b":"%b"}\n' % (number, b"x" * 90) for number in range(3000)) + odd
    dispatch = Dispatch(
        FORMAT, BytesSource(data), request=ReadRequest(columns=("a",)), replace=lambda _, value: f"n{value}"
    )
    expected = re.sub(rb'"a":"?(\d+)"?', rb'"a":"n\1"', data)
    assert dispatch.output() == expected


# --- bad rows -----------------------------------------------------------------------------------------------

GOOD = b'{"ssn":"1","name":"x"}\n'
BAD = {
    b'{"ssn":"1","ssn":"2"}': "the key 'ssn' stands twice",
    b'{"ssn":"1","\\u0073sn":"1"}': "the key 'ssn' stands twice",
    b'{"ssn":{"a":1}}': "the value of 'ssn' is nested",
    b'{"name":["x"]}': "the value of 'name' is nested",
    b'{"ssn":"1","shoe":42}': "the key 'shoe' is unknown",
    b'{"ssn":"1"': "cut off",
    b'{"ssn":NaN}': "byte 7 of it cannot stand there",
    b"{'ssn':1}": "byte 1 of it cannot stand there",
    b'{"ssn":"1"} {"ssn":"2"}': "byte 12 of it cannot stand there",
    b'{"ssn":"1"},{"ssn":"2"}': "byte 11 of it cannot stand there",
    b"[1]": "it is an array, not an object",
    b'"ssn"': "it is a string, not an object",
    b"-1": "it is a number, not an object",
    b"null": "it is null, not an object",
    b'{"ssn":"\xff"}': "is not UTF-8",
}
KNOWN = frozenset({"ssn", "name"})


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_row_fails_or_is_put_aside(bad):
    data = GOOD * 3 + b"\n" + bad + b"\r\n" + GOOD
    request = ReadRequest(columns=("ssn", "name"), known=KNOWN)
    with pytest.raises(
        RowInvalid, match=re.escape("memory://source: row 3 of the chunk, at byte 70: ")
    ) as error:
        read_all(FORMAT, BytesSource(data), request=request)
    assert BAD[bad] in str(error.value)
    request = ReadRequest(columns=("ssn", "name"), known=KNOWN, on_bad="collect")
    dispatch = Dispatch(FORMAT, BytesSource(data), request=request, replace=lambda _, value: value + value)
    assert dispatch.output() == (GOOD * 3 + b"\n" + GOOD).replace(b'"1"', b'"11"').replace(b'"x"', b'"xx"')
    [row] = dispatch.bad
    assert (row.row, row.position, row.data) == (3, 70, bad + b"\r")
    assert BAD[bad] in row.reason
    assert dispatch.rows == 5


@pytest.mark.parametrize(
    "odd",
    [
        b'{"a":\n"1"}\n{"a":"2"} {"a":"3"}\n',
        b'{"a":"1\n"}\n{"a":"2"},{"a":"3"}\n',
        b'[\n{"a":"1"}]\n{"a":"2"},{"a":"3"}\n',
    ],
)
def test_a_value_that_spans_lines_is_two_bad_rows(odd):
    """Two values on one line do not make up for it, though the numbers of values and lines are the same."""
    good = b'{"a":"0"}\n'
    dispatch = Dispatch(
        FORMAT,
        BytesSource(good + odd),
        request=ReadRequest(columns=("a",), on_bad="collect"),
        replace=lambda _, value: value,
    )
    found = dispatch.output()
    assert found == good
    assert dispatch.rows == 4
    assert len(dispatch.bad) == 3


def test_two_values_on_a_line_are_a_bad_row():
    data = b'{"a":"1"}\n{"a":"2"},{"a":"3"}\n'
    with pytest.raises(RowInvalid, match="row 1 of the chunk, at byte 10: it is not valid JSON: byte 9"):
        read_all(FORMAT, BytesSource(data), request=ReadRequest(columns=("a",)))


@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
@pytest.mark.parametrize("chunk_bytes", [5, 1000])
def test_a_rejected_row_takes_only_its_own_line_along(end, chunk_bytes):
    data = b'{"ssn":"1"}\n[]\n\n{"ssn":"2"}\n[]' + end
    request = ReadRequest(columns=("ssn",), on_bad="collect")
    dispatch = Dispatch(
        FORMAT, BytesSource(data), request=request, replace=lambda _, value: value, chunk_bytes=chunk_bytes
    )
    assert dispatch.output() == b'{"ssn":"1"}\n\n{"ssn":"2"}\n' + end[1:]
    assert [row.data for row in dispatch.bad] == [b"[]", b"[]"]


def test_reasons_hold_no_values():
    data = (
        b'{"ssn":{"secret-1":"secret-2"}}\n"secret-3"\n'
        b'{"ssn":"secret-4","ssn":"secret-5"}\n{"ssn":secret-6}\n'
    )
    request = ReadRequest(columns=("ssn",), on_bad="collect")
    [batch] = read_all(FORMAT, BytesSource(data), request=request)
    assert len(batch.bad) == 4
    assert not any("secret" in row.reason for row in batch.bad)


def test_what_rfc_8259_allows_and_parsers_refuse_is_kept():
    """A lone surrogate, deep nesting, a 5,000 digit integer, bytes that are not UTF-8 in other members."""
    odd = [
        b'{"a":"1","x":"\\ud800"}',
        b'{"a":"2","x":%b1%b}' % (b"[" * 5000, b"]" * 5000),
        b'{"a":"3","x":%b}' % (b"7" * 5000),
        b'{"a":"4","x":"\xff"}',
        b'{"x":"\\ud800\\ud800\\"a\\":","a":"5"}',
    ]
    data = b"".join(line + b"\n" for line in odd)
    dispatch = Dispatch(
        FORMAT,
        BytesSource(data),
        request=ReadRequest(columns=("a",), known=frozenset({"a", "x"})),
        replace=lambda _, value: f"n{value}",
    )
    assert dispatch.output() == re.sub(rb'"a":"(\d)"', rb'"a":"n\1"', data)


# --- from and to other formats ------------------------------------------------------------------------------


def test_records_are_objects_on_one_line():
    data = b' {"a":1.10, "b":[1]}\t\r\n\n{"a":\r2}\n{"a":"x"}'
    batches = read_all(FORMAT, BytesSource(data), request=ReadRequest(records=True))
    found = [record for batch in batches for record in batch.records()]
    assert found == [b'{"a":1.10, "b":[1]}', b'{"a":2}', b'{"a":"x"}']
    with pytest.raises(RowInvalid, match="it is a number, not an object"):
        read_all(FORMAT, BytesSource(b"1\n"), request=ReadRequest(records=True, objects=True))


@pytest.mark.parametrize("odd", [b"", b'{"a":3}\n'])
def test_records_have_the_replaced_values(odd):
    [batch] = read_all(
        FORMAT,
        BytesSource(b'{"a":"1"}\n\n{"a":"2"}\n' + odd),
        request=ReadRequest(columns=("a",), records=True),
    )
    batch.replace("a", ["x"] * batch.rows)
    assert batch.records() == [b'{"a":"x"}'] * batch.rows


def test_records_of_another_format_become_lines():
    encoder = FORMAT.encoder(FORMAT.target(Layout(extent=1), {}, native=False))
    pieces = [
        *encoder.convert([b'{"a":1}', b"{}"], 0),
        *encoder.convert([], 2),
        *encoder.convert([b'{"b":2}'], 2),
    ]
    assert b"".join(pieces) == b'{"a":1}\n{}\n{"b":2}\n'
    assert encoder.notes() == {}
