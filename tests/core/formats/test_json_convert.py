"""JSON records that become rows of other formats, and records of other formats that become JSON."""

from __future__ import annotations

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import RowInvalid
from chunkwise.core.formats.csv_format import Csv
from chunkwise.core.formats.json_array import JsonArray
from chunkwise.core.formats.json_lines import JsonLines
from chunkwise.core.formats.model import Column, Layout, Part, ReadRequest
from chunkwise.core.formats.parquet import Parquet
from tests.support.json_chunks import Dispatch, assembled, keys, spelled, texts, values
from tests.support.sources import BytesSource

FORMATS = {"jsonl": JsonLines(), "json": JsonArray()}
OTHER = {"jsonl": "json", "json": "jsonl"}

#: members of an object in their order, some keys twice or spelled in another way
members = st.lists(st.tuples(st.one_of(st.sampled_from(["ssn", "a", "b"]), keys), values), max_size=5)


def file_of(name, records):
    """A file of records that are texts."""
    if name == "json":
        return ("[" + ",\n ".join(records) + "]").encode()
    return "".join(f"{record}\n" for record in records).encode()


@st.composite
def objects(draw):
    """The text of an object, with any keys as often as it likes, and its members."""
    found = draw(members)
    spellings = [
        (
            draw(spelled(key, lines=True)).strip(),
            draw(st.sampled_from([":", " : ", ":\t"])),
            draw(spelled(value, lines=True)).strip(),
        )
        for key, value in found
    ]
    return "{" + ",".join(key + colon + value for key, colon, value in spellings) + "}", found


def converted(name, data, target, *, chunk_bytes=1 << 30, request=None, replace=None, schema=()):
    """A file of JSON in another format: its bytes, and the dispatch."""
    dispatch = Dispatch(
        FORMATS[name],
        BytesSource(data),
        chunk_bytes=chunk_bytes,
        exact=True,
        request=request or ReadRequest(records=True, objects=target.needs_objects),
        replace=replace,
    )
    layout = Layout(extent=1, columns=tuple(Column(name=column, type="json") for column in schema))
    pinned = target.target(layout, {}, native=False)
    dispatch.process(pinned, target)
    parts = [
        Part(
            chunk=number,
            ref=number if part else None,
            size=len(part),
            rows=dispatch.kept[number],
            notes=notes,
            source=BytesSource(part),
        )
        for number, (part, notes) in enumerate(zip(dispatch.parts, dispatch.notes, strict=True))
    ]
    return assembled(target.join(pinned, parts, None), dispatch.parts, b""), dispatch


def pairs(text):
    """Any JSON text, objects as lists of their members: the oracle that drops no key."""
    return json.loads(text, object_pairs_hook=lambda found: ("object", found))


def repeated(found):
    return len({key for key, _ in found}) < len(found)


# --- between the two forms of JSON --------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@given(
    records=st.lists(values.flatmap(lambda value: spelled(value, lines=True)), max_size=8),
    chunk=st.integers(1, 40),
)
def test_records_of_any_kind_go_from_one_form_of_json_to_the_other(name, records, chunk):
    """Numbers, texts, null and arrays, too; every record keeps its text, however the source is cut."""
    target = FORMATS[OTHER[name]]
    out, dispatch = converted(name, file_of(name, records), target, chunk_bytes=chunk)
    expected = [record.strip() for record in records]
    if OTHER[name] == "jsonl":
        assert out.decode().split("\n") == [*expected, ""]
    else:
        assert pairs(out) == [pairs(record) for record in expected]
    assert dispatch.rows == len(records)


@pytest.mark.parametrize("name", FORMATS)
@given(found=st.lists(objects(), max_size=6), chunk=st.integers(1, 40))
def test_between_forms_of_json_both_values_of_a_key_are_kept(name, found, chunk):
    records = [text for text, _ in found]
    out, _ = converted(name, file_of(name, records), FORMATS[OTHER[name]], chunk_bytes=chunk)
    lines = out.decode().split("\n")[:-1] if OTHER[name] == "jsonl" else None
    if lines is None:
        assert pairs(out) == [pairs(record) for record in records]
    else:
        assert lines == records


def test_records_on_several_lines_become_one_line_each():
    out, _ = converted("json", b'[\n {"a":\n 1,\n  "a": 2\n },\n [\n 1,\n\n 2],\n"x"\n]', JsonLines())
    assert out == b'{"a":1,"a": 2}\n[1,2]\n"x"\n'


@pytest.mark.parametrize("name", FORMATS)
@given(found=st.lists(objects(), max_size=6), chunk=st.integers(1, 40), looked_at=st.booleans())
def test_without_a_change_nothing_changes(name, found, chunk, looked_at):
    """Keys that stand twice, whether or not the rows are looked into."""
    data = file_of(name, [text for text, _ in found])
    request = ReadRequest(records=looked_at)
    dispatch = Dispatch(FORMATS[name], BytesSource(data), chunk_bytes=chunk, exact=True, request=request)
    assert dispatch.output() == data
    assert dispatch.rows == len(found)
    assert dispatch.chain_closes()


# --- to rows of columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@given(
    found=st.lists(objects(), max_size=8),
    chunk=st.integers(1, 60),
    size=st.sampled_from([1, 60, 10_000]),
)
def test_a_record_with_a_key_twice_is_refused_and_no_other_one(name, found, chunk, size):
    """Whichever way a key is spelled, and whatever its values look like; the oracle counts members."""
    data = file_of(name, [text for text, _ in found])
    request = ReadRequest(records=True, objects=True, on_bad="collect", batch_bytes=size)
    source = BytesSource(data)
    dispatch = Dispatch(FORMATS[name], source, chunk_bytes=chunk, exact=True, request=request)
    dispatch.process(JsonLines().target(dispatch.layout, {}, native=False), JsonLines())
    kept = b"".join(dispatch.parts).decode().split("\n")[:-1]
    assert kept == [text for text, found_ in found if not repeated(found_)]
    assert [row.data.decode().strip() for row in dispatch.bad] == [
        text for text, found_ in found if repeated(found_)
    ]
    assert all(data[row.position :].lstrip().startswith(row.data.strip()) for row in dispatch.bad)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("target", [Csv(), Parquet()], ids=["csv", "parquet"])
@pytest.mark.parametrize("many", [1, 500])
def test_a_value_that_would_be_lost_is_an_error(name, target, many):
    good = '{"a":"1","b":{"a":1,"a":2}}'
    out, _ = converted(name, file_of(name, [good] * many), target, schema=("a", "b"))
    assert out
    bad = '{"a":"1","b":2,"\\u0061":"3"}'
    data = file_of(name, [good] * many + [bad])
    at = data.index(bad.encode())
    message = f"memory://source: row {many} of the chunk, at byte {at}: the key 'a' stands"
    with pytest.raises(RowInvalid, match=message) as error:
        converted(name, data, target, schema=("a", "b"))
    assert "twice" in str(error.value)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("target", [Csv(), Parquet()], ids=["csv", "parquet"])
@pytest.mark.parametrize(
    ("record", "kind"),
    [("1", "a number"), ('"x"', "a string"), ("null", "null"), ("[1]", "an array"), ("true", "a boolean")],
)
def test_records_that_are_no_objects_become_no_rows(name, target, record, kind):
    data = file_of(name, ['{"a":1}', '{"a":2}', record])
    with pytest.raises(RowInvalid, match=f"row 2 of the chunk, at byte [0-9]+: it is {kind}, not an object"):
        converted(name, data, target, schema=("a",))


@given(found=st.lists(st.dictionaries(st.sampled_from(["a", "b", "ssn"]), values), min_size=1, max_size=6))
def test_rows_of_csv_have_the_values_of_the_records(found):
    """Python's json and csv are the oracle; nested values are JSON in a cell."""
    data = file_of("jsonl", [json.dumps(record) for record in found])
    columns = ("a", "b", "ssn")
    out, _ = converted("jsonl", data, Csv(), chunk_bytes=30, schema=columns)
    rows = list(csv.DictReader(io.StringIO(out.decode(), newline="")))
    assert len(rows) == len(found)
    for row, record in zip(rows, found, strict=True):
        for column in columns:
            value = record.get(column)
            if isinstance(value, str):
                assert row[column] == value
            elif value is None:
                assert row[column] == ""
            else:
                assert json.loads(row[column]) == value


@given(found=st.lists(st.dictionaries(st.sampled_from(["a", "b"]), texts), min_size=1, max_size=6))
def test_rows_of_parquet_have_the_values_of_the_records(found):
    data = file_of("json", [json.dumps(record) for record in found])
    layout = Layout(extent=1, columns=(Column(name="a"), Column(name="b")))
    dispatch = Dispatch(JsonArray(), BytesSource(data), request=ReadRequest(records=True, objects=True))
    dispatch.process(Parquet().target(layout, {}, native=False), Parquet())
    table = pq.ParquetFile(pa.BufferReader(dispatch.parts[0])).read(use_threads=False)
    assert table.to_pylist() == [{"a": row.get("a"), "b": row.get("b")} for row in found]


# --- a protected column that is there twice -----------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@given(found=st.lists(objects(), max_size=8), size=st.sampled_from([1, 10_000]))
def test_no_value_of_a_protected_column_stays_in_clear(name, found, size):
    """Of a column that stands twice in a record none is left: the record is refused. Other keys may."""
    data = file_of(name, [text for text, _ in found])
    request = ReadRequest(columns=("ssn",), on_bad="collect", batch_bytes=size)
    dispatch = Dispatch(
        FORMATS[name],
        BytesSource(data),
        chunk_bytes=50,
        exact=True,
        request=request,
        replace=lambda _, value: None if value is None else "<new>",
    )
    out = dispatch.output().decode()
    after = pairs(out) if name == "json" else [pairs(line) for line in out.split("\n")[:-1]]
    expected = []
    for text, items in found:
        own = [value for key, value in items if key == "ssn"]
        if len(own) > 1 or any(isinstance(value, dict | list) for value in own):
            continue
        changed = [
            (key, "<new>" if key == "ssn" and value is not None else value) for key, value in pairs(text)[1]
        ]
        expected.append(("object", changed))
    assert after == expected


# --- bytes that are not UTF-8 -------------------------------------------------------------------------------

_BYTES = st.lists(
    st.sampled_from([b"x", "é".encode(), "\U0001f600".encode(), b"\xff", b"\xc3", b"\xed\xa0\x80"]),
    max_size=3,
).map(b"".join)


@pytest.mark.parametrize("name", FORMATS)
@given(
    found=st.lists(st.tuples(_BYTES, _BYTES), max_size=8),
    chunk=st.integers(1, 40),
    columns=st.sampled_from([(), ("a",)]),
)
def test_records_that_are_not_utf_8_become_no_records_of_another_document(name, found, chunk, columns):
    """Python's decoder is the oracle; the others get through, and the reason names the byte."""
    records = [b'{"a":"1","%b":"%b"}' % pair for pair in found]
    data = b"[" + b",\n".join(records) + b"]" if name == "json" else b"".join(map(b"%b\n".__mod__, records))
    good, reasons = [], []
    for record in records:
        try:
            good.append(record.decode())
        except UnicodeDecodeError as error:
            reasons.append(f"byte {error.start} of it is not UTF-8 (RFC 8259, section 8.1)")
    request = ReadRequest(records=True, utf8=True, columns=columns, on_bad="collect")
    dispatch = Dispatch(
        FORMATS[name],
        BytesSource(data),
        chunk_bytes=chunk,
        exact=True,
        request=request,
        replace=lambda _, value: value + "2",
    )
    dispatch.process(JsonLines().target(dispatch.layout, {}, native=False), JsonLines())
    if columns:
        good = [record.replace('{"a":"1"', '{"a":"12"') for record in good]
    assert b"".join(dispatch.parts).decode().split("\n")[:-1] == good
    assert [row.reason for row in dispatch.bad] == reasons
    assert all(data[row.position :].startswith(row.data.strip()) for row in dispatch.bad)


@pytest.mark.parametrize("name", FORMATS)
def test_a_record_that_is_not_utf_8_is_named_where_bad_rows_fail(name):
    records = [b'{"a":"1"}', b'{"a":"\xff"}', b'{"a":"3"}']
    data = b"[" + b",\n".join(records) + b"]" if name == "json" else b"\n".join(records)
    at = data.index(records[1])
    with pytest.raises(
        RowInvalid, match=f"row 1 of the chunk, at byte {at}: byte 6 of it is not UTF-8"
    ) as error:
        converted(name, data, FORMATS[OTHER[name]], request=ReadRequest(records=True, utf8=True))
    assert "xff" not in str(error.value)


# --- messages -----------------------------------------------------------------------------------------------

_MISFITS = {
    '{"a":"\\ud800"}': "has half of a surrogate pair in the value of 'a'",
    '{"a":{"b":["\\udc00\\ud800"]}}': "has half of a surrogate pair in the value of 'a'",
    '{"\\ud800":1}': "has half of a surrogate pair in the key",
    '{"a":%s}' % ("[" * 3000 + "]" * 3000): "is nested too deeply",
}


@pytest.mark.parametrize("target", [Csv(), Parquet()], ids=["csv", "parquet"])
@pytest.mark.parametrize("record", _MISFITS, ids=range(len(_MISFITS)))
def test_what_only_json_can_hold_is_named(target, record):
    pinned = target.target(Layout(extent=1, columns=(Column(name="a"),)), {}, native=False)
    with pytest.raises(RowInvalid, match="row 8 of the chunk") as error:
        list(target.encoder(pinned).convert([b'{"a":"\\ud83d\\ude00"}', record.encode()], 7))
    assert _MISFITS[record] in str(error.value)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("record", _MISFITS, ids=range(len(_MISFITS)))
def test_what_only_json_can_hold_goes_from_json_to_json(name, record):
    out, _ = converted(name, file_of(name, ["1", record]), FORMATS[OTHER[name]])
    assert record.encode() in out
