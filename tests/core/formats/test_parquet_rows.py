"""Rows of Parquet as texts and JSON, and JSON as rows of Parquet."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from chunkwise.core.errors import ConfigError, RowInvalid, SchemaMismatch
from chunkwise.core.formats import parquet
from chunkwise.core.formats.model import Column, Layout, ReadRequest
from chunkwise.core.formats.parquet import encoder
from tests.core.formats.parquet_files import PARQUET, all_types, converted, span, table_of, trip, written
from tests.support.sources import BytesSource


def records_of(data: bytes, **options) -> list[bytes]:
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    request = ReadRequest(records=True, **options)
    return [
        row
        for batch in PARQUET.read(source, layout, span(0, layout.extent), request)
        for row in batch.records()
    ]


def expected(value, kind):
    """The oracle: what a value is in JSON, from Python's own objects."""
    if value is None:
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "") if value.tzinfo else value.isoformat()
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Decimal | int | str | bool):
        return value
    if pa.types.is_map(kind):
        return {key: expected(item, kind.item_type) for key, item in value}
    if isinstance(value, list):
        return [expected(item, kind.value_type) for item in value]
    if isinstance(value, dict):
        return {name: expected(item, kind.field(name).type) for name, item in value.items()}
    return value.isoformat()


def test_records_hold_every_value_exactly():
    table = all_types(80, 3)
    rows = [json.loads(row, parse_float=Decimal) for row in records_of(written(table, row_group_size=33))]
    assert len(rows) == 80
    for name, column in zip(table.column_names, table.columns):
        got = [row[name] for row in rows]
        if name == "ns":
            assert [text is None or text[:4].isdigit() for text in got] == [True] * 80
            continue
        for found, value in zip(got, column.to_pylist()):
            want = expected(value, column.type)
            if name in ("plain_ts", "zoned_ts", "time") and found is not None:
                instant = found.endswith("Z")
                assert instant == (name == "zoned_ts")
                parse = datetime.fromisoformat if name != "time" else type(value).fromisoformat
                assert parse(found.rstrip("Z")) == parse(want)
            elif name == "f32" and found is not None:
                assert float(found) == pytest.approx(float(want), rel=1e-6)
            elif isinstance(want, float):
                assert float(found) == want
            else:
                assert found == want
    assert b'"decimal":' in records_of(written(table))[0]


def test_numbers_keep_their_text():
    table = pa.table(
        {
            "d": pa.array([Decimal("1.10"), Decimal("-0.05")], pa.decimal128(10, 2)),
            "u": pa.array([2**64 - 1, 0], pa.uint64()),
            "f": pa.array([1.0, float("nan")]),
        }
    )
    assert records_of(written(table)) == [
        b'{"d":1.10,"u":18446744073709551615,"f":1.0}',
        b'{"d":-0.05,"u":0,"f":"NaN"}',
    ]


def test_values_of_other_types_come_as_text_and_cannot_be_replaced():
    table = pa.table({"n": [1, None], "b": [True, False], "l": [[1], None]})
    data = written(table)
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    request = ReadRequest(columns=("n", "b", "l"))
    batch = next(iter(PARQUET.read(source, layout, span(0, 2), request)))
    assert (batch.values("n"), batch.values("b"), batch.values("l")) == (
        ["1", None],
        ["true", "false"],
        ["[1]", None],
    )
    batch.replace("n", ["1", None])
    with pytest.raises(SchemaMismatch, match=r"column 'n' of memory://source is of type int64"):
        batch.replace("n", ["token", None])


def test_binary_that_is_no_text_comes_back_as_it_was():
    table = pa.table({"b": pa.array([b"\xff\x00", b"ok", None], pa.binary())})
    found = trip(written(table), 10**9, columns=("b",), change=lambda text: text and text + "!")
    assert table_of(found.data)["b"].to_pylist() == [b"\xff\x00!", b"ok!", None]


def test_a_string_that_is_no_utf8_is_named():
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    data = written(pa.table({"s": broken}))
    with pytest.raises(RowInvalid, match=r"row 0 of the chunk: column 's' is a string that is no UTF-8"):
        trip(data, 10**9, columns=("s",))
    assert trip(data, 10**9).data == data


def layout_of(**types: str) -> Layout:
    return Layout(extent=0, columns=tuple(Column(name=name, type=kind) for name, kind in types.items()))


def test_records_become_the_same_table_again():
    """Parquet to JSON objects to Parquet, with the types that the plan took from the source."""
    table = all_types(60, 2).drop_columns(["f32", "f64", "word", "map"])
    data = written(table)
    layout = PARQUET.inspect(BytesSource(data), {})
    rows = records_of(data)
    back = table_of(converted(layout, {}, rows[:20], [], rows[20:]))
    plain = table.set_column(
        table.column_names.index("zoned_ts"), "zoned_ts", table["zoned_ts"].cast(pa.timestamp("us", "UTC"))
    )
    for name in table.column_names:
        kind = pa.int64() if name == "ns" else back[name].type  # Python's times have no nanoseconds
        assert back[name].cast(kind).to_pylist() == plain[name].cast(kind).to_pylist()


def test_common_types_and_their_options():
    layout = layout_of(s="string", i="integer", n="number", b="boolean", j="json", d="string")
    rows = [
        b'{"s":"007","i":9223372036854775807,"n":1.5,"b":true,"j":{"a":[1, 2.0]},"d":"1.10"}',
        b'{"s":1.10,"i":"12","n":2,"b":"false","j":"x","d":3}',
        b'{"s":null,"n":"","j":null}',
    ]
    options = {"schema": {"d": "decimal128(10, 2)"}, "compression": "gzip"}
    assert table_of(converted(layout, options, rows)).to_pylist() == [
        {"s": "007", "i": 2**63 - 1, "n": 1.5, "b": True, "j": '{"a":[1, 2.0]}', "d": Decimal("1.10")},
        {"s": "1.10", "i": 12, "n": 2.0, "b": False, "j": '"x"', "d": Decimal("3.00")},
        {"s": None, "i": None, "n": None, "b": None, "j": None, "d": None},
    ]


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("integer", "9223372036854775808", "beyond int64; pin the column as string"),
        ("integer", "1.5", "no integer"),
        ("integer", '"x"', "no number"),
        ("integer", "true", "no number"),
        ("number", '"abc"', "no number"),
        ("boolean", "1", "neither true nor false"),
        ("int8", "128", "beyond int8"),
        ("decimal128(4, 2)", "1.234", "no decimal128"),
        ("date32[day]", '"yesterday"', "no date32"),
        ("timestamp[ms]", '"2024-01-01T00:00:00.0001"', "finer than timestamp"),
        ("binary", '"?"', "no base64"),
        ("list<int64>", "1", "a list was expected"),
        ("struct<a: int64>", '{"b":1}', "an object with the members"),
    ],
)
def test_a_value_that_does_not_fit_is_named(kind, value, reason):
    rows = [b"{}", b'{"c":' + value.encode() + b"}"]
    with pytest.raises(
        RowInvalid, match=f"row 1 of the chunk: the value of column 'c' does not fit: .*{reason}"
    ) as found:
        converted(layout_of(c=kind), {}, rows)
    assert "yesterday" not in str(found.value)


def test_rows_with_unknown_columns_and_rows_that_are_no_objects_are_named():
    with pytest.raises(RowInvalid, match="row 0 of the chunk has columns that the plan does not know: 'x'"):
        converted(layout_of(a="string"), {}, [b'{"a":"1","x":2}'])
    for row in (b"[1]", b"1", b"{", b'{"a":"\\ud800"}'):
        with pytest.raises(RowInvalid, match=r"row 0 of the chunk (is|has) "):
            converted(layout_of(a="string"), {}, [row])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"schema": {"a": "text"}}, "column 'a': 'text' is no type of Arrow"),
        ({"compression": "lzma"}, "compression is 'lzma'"),
        ({"codec": "zstd"}, "no option 'codec'"),
        ({"schema": "a"}, "schema must give"),
    ],
)
def test_wrong_options_are_named(options, reason):
    with pytest.raises(ConfigError, match=reason):
        PARQUET.target(layout_of(a="string"), options, native=False)
    with pytest.raises(ConfigError, match="columns of the source are not known"):
        PARQUET.target(Layout(extent=0), {}, native=False)
    with pytest.raises(ConfigError, match="no option"):
        PARQUET.target(layout_of(a="string"), {"schema": {}}, native=True)


def test_nothing_but_empty_chunks_become_a_file_with_the_schema():
    found = table_of(converted(layout_of(a="string", b="integer"), {}, [], []))
    assert found.schema == pa.schema([("a", pa.string()), ("b", pa.int64())])
    assert found.num_rows == 0


def test_a_number_that_a_double_cannot_hold_is_no_row():
    """It would become another one, and nobody would notice."""
    target = PARQUET.target(Layout(extent=1, columns=(Column(name="v", type="number"),)), {}, native=False)
    for text in (b"9007199254740993", b"1e400", b"-9007199254740993"):
        with pytest.raises(
            RowInvalid, match=r"row 7 of the chunk: .*'v' .*pin the column as string or decimal"
        ):
            list(PARQUET.encoder(target).convert([b'{"v":1.5}', b'{"v":%b}' % text], 6))
    layout = Layout(extent=1, columns=(Column(name="v", type="number"),))
    fine = [b"9007199254740992", b"0.1", b'"Infinity"', b'"-Infinity"', b"1e300", b"null"]
    found = table_of(converted(layout, {}, [b'{"v":%b}' % text for text in fine]))
    assert found["v"].to_pylist() == [2.0**53, 0.1, math.inf, -math.inf, 1e300, None]


def test_a_column_that_cannot_be_written_anew_is_never_left_as_it_was(monkeypatch):
    """Its new values would be lost, and its old ones published."""
    monkeypatch.setattr(encoder, "way_of", lambda *_: None)
    data = written(pa.table({"s": ["secret", "other"], "n": [1, 2]}))
    with pytest.raises(SchemaMismatch, match="column 's' of memory://source cannot be written anew"):
        trip(data, 10**9, columns=("s",), change=lambda _: "token")
    assert trip(data, 10**9, columns=("s",)).data == data


def test_a_plan_refuses_a_column_that_cannot_be_written_anew(monkeypatch):
    data = written(pa.table({"s": ["secret"], "n": [1]}))
    layout = PARQUET.inspect(BytesSource(data), {})
    PARQUET.check(layout, ["s"], "s3://b/f", native=True)
    monkeypatch.setattr(parquet, "way_of", lambda *_: None)
    PARQUET.check(layout, [], "s3://b/f", native=True)
    PARQUET.check(layout, ["s"], "s3://b/f", native=False)
    with pytest.raises(SchemaMismatch, match="column 's' of s3://b/f cannot be written anew"):
        PARQUET.check(layout, ["s"], "s3://b/f", native=True)
