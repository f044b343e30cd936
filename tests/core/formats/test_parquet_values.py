"""A value comes to Parquet exactly or not at all, and no member is lost on the way back."""

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, RowInvalid, UnsupportedSource
from chunkwise.core.formats.csv_format import Csv
from chunkwise.core.formats.json_lines import JsonLines
from chunkwise.core.formats.model import Column, Layout, ReadRequest
from chunkwise.core.formats.parquet.types import type_named
from tests.core.formats.parquet_files import PARQUET, converted, span, table_of, written
from tests.support.sources import BytesSource

# without shrinking: each try writes and reads files
PROPERTY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def column(kind: str, *texts: str) -> pa.ChunkedArray:
    """JSON texts as a column."""
    layout = Layout(extent=1, columns=(Column(name="c", type=kind),))
    rows = [b'{"c":%s}' % text.encode() for text in texts]
    return table_of(converted(layout, {}, rows))["c"]


def stored(kind: str, text: str) -> Any:
    """What came of one text: an integer for a time, ``None`` if it was refused."""
    try:
        found = column(kind, text)
    except RowInvalid:
        return None
    return plain(found.cast(type_named(kind, "c")))  # Parquet has no seconds: they are milliseconds there


def plain(found: pa.ChunkedArray) -> Any:
    kind = found.type
    if pa.types.is_list(kind):
        [inner] = [chunk.flatten() for chunk in found.chunks]
        return plain(pa.chunked_array([inner]))
    if pa.types.is_time32(kind) or pa.types.is_date32(kind):
        found = found.cast(pa.int32())
    elif pa.types.is_temporal(kind):
        found = found.cast(pa.int64())
    return found[0].as_py()


def quoted(kind: str, text: str, form: str) -> tuple[str, str]:
    """A type and a text of it, as a number or string, in a list or bare."""
    text = json.dumps(text) if "text" in form else text
    return (f"list<{kind}>", f"[{text}]") if "list" in form else (kind, text)


FORMS = st.sampled_from(["number", "text", "list", "text in a list"])

# --- numbers ------------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-(1 << 66), 1 << 66).map(str),
    st.sampled_from([8, 11, 16, 24, 31, 32, 53, 63, 64]).flatmap(
        lambda bits: st.integers(-3, 3).map(lambda delta: str((1 << bits) + delta))
    ),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.floats(allow_nan=False, allow_infinity=False, width=16).map(repr),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.tuples(st.integers(-(10**9), 10**9), st.integers(-420, 420)).map(lambda two: f"{two[0]}e{two[1]}"),
)
INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
#: bits of a fraction, and the exponents of the smallest and largest numbers (IEEE 754-2019, table 3.5)
FLOATS = {"halffloat": (11, -14, 15), "float": (24, -126, 127), "double": (53, -1022, 1023)}


def nearest(value: Fraction, bits: int, low: int, high: int) -> Fraction | None:
    """The oracle: the nearest number of a binary format, half to even; ``None``: an infinite one."""
    if value == 0:
        return value
    exponent = max(low, math.floor(abs(value)).bit_length() - 1 if abs(value) >= 1 else _below(abs(value)))
    unit = Fraction(2) ** (exponent - bits + 1)
    found = round(value / unit) * unit  # of Fraction: half to even
    return None if abs(found) >= Fraction(2) ** (high + 1) else found


def _below(value: Fraction) -> int:
    """The exponent of a number below 1."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if value >= Fraction(2) ** guess else guess - 1


@PROPERTY
@given(text=NUMBERS, kind=st.sampled_from(INTEGERS), form=FORMS)
@example(text="1e3", kind="int16", form="list")
def test_an_integer_is_the_one_that_was_written(text, kind, form):
    exact = Fraction(text)
    bits = int(kind.removeprefix("u").removeprefix("int"))
    low, high = (0, 1 << bits) if kind[0] == "u" else (-(1 << bits - 1), 1 << bits - 1)
    fits = exact.denominator == 1 and low <= exact < high
    assert stored(*quoted(kind, text, form)) == (int(exact) if fits else None)


@PROPERTY
@given(text=NUMBERS, kind=st.sampled_from(list(FLOATS)), form=FORMS)
@example(text="1e300", kind="float", form="number")
@example(text="16777217", kind="float", form="number")
@example(text="16777217", kind="float", form="list")
@example(text="100000", kind="halffloat", form="list")
@example(text="65520.0", kind="halffloat", form="number")
@example(text="65519.999", kind="halffloat", form="number")
@example(text="1e-400", kind="double", form="number")
@example(text="-0.0", kind="double", form="number")
@example(text="1e-50", kind="float", form="list")
# the nearest double lies between two floats, and the number beside it
@example(text="1.00000005960464477540", kind="float", form="number")
@example(text="1.00000017881393432617", kind="float", form="text")
def test_a_float_is_the_nearest_one_and_no_integer_another_one(text, kind, form):
    exact = Fraction(text)
    want = nearest(exact, *FLOATS[kind])
    is_digits = text.lstrip("-").isdigit()
    if want is None or (is_digits and want != exact) or (want == 0 and exact != 0):
        assert stored(*quoted(kind, text, form)) is None
    else:
        found = stored(*quoted(kind, text, form))
        assert Fraction(found) == want
        assert math.copysign(1, found) == (-1 if text.startswith("-") and not is_digits else
                                           math.copysign(1, want)) or found == 0 == exact  # fmt: skip


@PROPERTY
@given(text=NUMBERS, precision=st.integers(1, 38), scale=st.integers(0, 20), form=FORMS)
@example(text="4.654716694609894e-231", precision=10, scale=10, form="number")  # Arrow alone makes it zero
@example(text="1200.000", precision=4, scale=0, form="list")
@example(text="0e-999", precision=1, scale=1, form="text")
def test_a_decimal_is_exact(text, precision, scale, form):
    scale = min(scale, precision)
    kind = f"decimal128({precision}, {scale})"
    exact = Fraction(text)
    unscaled = exact * 10**scale
    found = stored(*quoted(kind, text, form))
    if unscaled.denominator != 1 or abs(unscaled) >= 10**precision:
        assert found is None
    else:
        assert Fraction(found) == exact


@pytest.mark.parametrize(
    "kind", ["int64", "uint8", "float", "double", "halffloat", "decimal128(20, 2)", "duration[us]"]
)
@pytest.mark.parametrize(
    "text",
    [
        "1_000",
        "1_0.5",
        "\u0661\u0662",
        "\uff11\uff12",
        " 12",
        "12 ",
        "12\n",
        "0x1f",
        "1e",
        "--1",
        "1e5_0",
        "sNaN",
        "+",
        ".",
    ],
)
def test_what_is_no_number_of_json_or_csv_is_refused(kind, text):
    for form in ("text", "text in a list"):
        with pytest.raises(RowInvalid, match="does not fit: it is no number"):
            column(*quoted(kind, text, form))


def test_numbers_as_csv_has_them():
    assert column("int64", '"007"', '"+5"', '""', '"-0"', '"1.0"').to_pylist() == [7, 5, None, 0, 1]
    assert column("double", '".5"', '"5."', '"+1e3"', '""').to_pylist() == [0.5, 5.0, 1000.0, None]
    for kind in FLOATS:
        found = column(kind, '"NaN"', '"-Infinity"', '"inf"').to_pylist()
        assert math.isnan(found[0])
        assert found[1:] == [-math.inf, math.inf]


@PROPERTY
@given(value=st.floats(width=32), half=st.floats(width=16), double=st.floats())
def test_floats_come_back_from_json_bit_by_bit(value, half, double):
    table = pa.table(
        {
            "f": pa.array([value], pa.float32()),
            "h": pa.array([half], pa.float16()),
            "d": pa.array([double], pa.float64()),
        }
    )
    back = again(table)
    for name, code in (("f", "<f"), ("h", "<e"), ("d", "<d")):
        before, after = (struct.pack(code, one[name][0].as_py()) for one in (table, back))
        assert before == after or (table[name][0].as_py() != table[name][0].as_py() != back[name][0].as_py())


def again(table: pa.Table, options: dict[str, Any] | None = None) -> pa.Table:
    """Parquet to JSON and back."""
    layout = PARQUET.inspect(BytesSource(written(table)), {})
    return table_of(converted(layout, options or {}, records_of(table)))


def records_of(table: pa.Table) -> list[bytes]:
    source = BytesSource(written(table))
    layout = PARQUET.inspect(source, {})
    reader = PARQUET.read(source, layout, span(0, layout.extent), ReadRequest(records=True))
    return [row for batch in reader for row in batch.records()]


# --- times --------------------------------------------------------------------------------------------------

UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
CLOCKS = st.tuples(
    st.integers(0, 86_399),
    st.one_of(
        st.just(""), st.text("0123456789", min_size=1, max_size=12), st.sampled_from(["5", "500000000"])
    ),
    st.sampled_from([".", ","]),
)
ZONES = st.sampled_from(["", "Z", "+00:00", "+02:00", "-0730", "+14", "-23:59"])


def clock_text(seconds: int, fraction: str, point: str) -> str:
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return text + (point + fraction if fraction else "")


def ahead(zone: str) -> int:
    """Seconds that a zone is ahead of UTC."""
    if zone in ("", "Z"):
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if zone[0] == "-" else 1)


def counted(seconds: int, fraction: str, unit: str) -> int | None:
    """The oracle: a time in a unit, if it is a whole number of them."""
    exact = (Fraction(seconds) + Fraction(int(fraction or 0), 10 ** len(fraction))) * 10 ** UNITS[unit]
    return int(exact) if exact.denominator == 1 else None


@PROPERTY
@given(
    clock=CLOCKS,
    kind=st.sampled_from(["time32[s]", "time32[ms]", "time64[us]", "time64[ns]"]),
    zone=st.sampled_from(["", "", "", "Z", "+02:00"]),
    listed=st.booleans(),
)
@example(clock=(43_200, "123456789", "."), kind="time64[ns]", zone="", listed=False)
@example(clock=(43_200, "123456789", "."), kind="time64[ns]", zone="", listed=True)
@example(clock=(43_200, "123456", "."), kind="time32[ms]", zone="", listed=False)
@example(clock=(43_200, "5", "."), kind="time32[s]", zone="", listed=True)
@example(clock=(43_200, "", "."), kind="time64[us]", zone="+02:00", listed=False)
def test_a_time_is_exact(clock, kind, zone, listed):
    form = "text in a list" if listed else "text"
    want = None if zone else counted(clock[0], clock[1], kind[-3:-1].lstrip("["))
    assert stored(*quoted(kind, clock_text(*clock) + zone, form)) == want


@PROPERTY
@given(
    moment=st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),
    clock=CLOCKS,
    unit=st.sampled_from(list(UNITS)),
    zone=ZONES,
    of=st.sampled_from([None, "UTC", "Europe/Berlin"]),
    gap=st.sampled_from("T t"),
    basic=st.booleans(),
    listed=st.booleans(),
)
@example(
    moment=datetime(2024, 1, 1), clock=(0, "5", ","), unit="us", zone="", of=None, gap="T", basic=False,
    listed=False,
)  # fmt: skip
@example(
    moment=datetime(2024, 1, 1), clock=(0, "5", ","), unit="s", zone="", of=None, gap="T", basic=False,
    listed=False,
)  # fmt: skip
def test_a_timestamp_is_exact(moment, clock, unit, zone, of, gap, basic, listed):
    day, time = moment.date().isoformat(), clock_text(*clock)
    text = (day.replace("-", "") + gap + time.replace(":", "") if basic else day + gap + time) + zone
    kind = f"timestamp[{unit}, tz={of}]" if of else f"timestamp[{unit}]"
    days = (moment.date() - date(1970, 1, 1)) // timedelta(days=1)
    want = counted(days * 86_400 + clock[0] - ahead(zone), clock[1], unit)
    refused = bool(zone) if of is None else (not zone and of != "UTC")
    if refused or (want is not None and not -(1 << 63) < want < 1 << 63):
        want = None
    assert stored(*quoted(kind, text, "text in a list" if listed else "text")) == want
    if want is not None and unit == "ns" and of is None:
        # Arrow's own reading, where it knows the form
        shown = f"{day}T{clock_text(clock[0], clock[1][:9], '.')}"
        assert pa.array([shown]).cast(pa.timestamp("ns")).cast(pa.int64())[0].as_py() == want


@pytest.mark.parametrize("kind", ["date32", "date64", "timestamp[us]", "time64[us]"])
@pytest.mark.parametrize(
    "text",
    ["2024-01-01T12.5", "12.5", "12:30.5", "2024-01-01.5", "20240101120", "12:00:60", "24:00", "1200",
     "2024-02-30", "2024-01-01x10:00", "2024-01-01T10:00Z+02:00", "2024-01-0\u0661", "2024-0101", "12:0000",
     " 12:00", "2024-01-01 ", "10000-01-01", "-0001-01-01", "2024-01-01T10:00+24:00"],
)  # fmt: skip
def test_what_is_no_time_is_refused(kind, text):
    assert stored(kind, json.dumps(text)) is None


def test_days_and_times_in_other_forms():
    assert column("date32", '"2024-02-29"', '"20240229"', '""').to_pylist() == [date(2024, 2, 29)] * 2 + [
        None
    ]
    assert column("time32[s]", '"T1200"', '"12:00"', '""').cast(pa.int32()).to_pylist() == [
        43_200_000
    ] * 2 + [None]
    found = column("timestamp[s, tz=UTC]", '"2024-01-01"', '"2024-01-01T01+01:00"', '""').to_pylist()
    assert found == [datetime(2024, 1, 1, tzinfo=UTC)] * 2 + [None]


@PROPERTY
@given(
    time=st.integers(0, 86_400 * 10**9 - 1),
    moment=st.integers(-(1 << 60), 1 << 60),
    length=st.integers(-(1 << 63) + 1, (1 << 63) - 1),
)
def test_times_of_every_unit_come_back_from_json(time, moment, length):
    """Durations, too, whose counts are plain numbers."""
    columns = {
        "t": pa.array([time], pa.int64()).cast(pa.time64("ns")),
        "ts": pa.array([moment], pa.timestamp("ns", "UTC")),
        "wall": pa.array([moment // 10**6], pa.timestamp("ms")),
        "d": pa.array([length], pa.duration("us")),
        "l": pa.array([[{"t": time}, None]], pa.list_(pa.struct({"t": pa.time64("ns")}))),
    }
    table = pa.table(columns)
    back = again(table, {"schema": {"d": "duration[us]"}})
    assert back["d"].type == pa.duration("us") or back["d"].type == pa.int64()  # which Parquet stores it as
    for name in columns:
        one, other = (found[name].combine_chunks() for found in (table, back))
        if name == "l":
            one, other = (found.flatten().flatten()[0] for found in (one, other))
        assert one.cast(pa.int64()).equals(other.cast(pa.int64()))


@pytest.mark.parametrize("kind", ["duration[s]", "duration[ms]", "duration[us]", "duration[ns]"])
def test_a_duration_is_a_count_of_its_unit(kind):
    found = column(kind, "5", '"7"', '"-7"', '""', "null", '"1e3"')
    assert found.cast(pa.int64()).to_pylist() == [5, 7, -7, None, None, 1000]
    listed = column(f"list<{kind}>", '[5,"7",null]')
    assert listed.combine_chunks().flatten().cast(pa.int64()).to_pylist() == [5, 7, None]
    for text in ("PT5S", "x", "1.5", str(1 << 63), "00:00:05"):
        for form in ("text", "text in a list"):
            with pytest.raises(RowInvalid, match="row 0 of the chunk: the value of column 'c' does not fit"):
                column(*quoted(kind, text, form))


@pytest.mark.parametrize("text", ['"1"', '"x"', "1", "true"])
def test_a_column_of_nulls_holds_nothing_else(text):
    assert column("null", "null", '""').null_count == 2
    with pytest.raises(RowInvalid, match="holds nothing but null; give it a type"):
        column("null", text)


# --- nested values ------------------------------------------------------------------------------------------


def test_texts_inside_of_nested_values_keep_their_spelling():
    assert column("list<string>", '[1.10, 1e5, "x", null, true, {"a": 1.10, "b": []}]')[0].as_py() == [
        "1.10", "1e5", "x", None, "true", '{"a": 1.10, "b": []}',
    ]  # fmt: skip
    kind = "struct<a: map<string, list<decimal128(4, 2)>>, b: binary>"
    assert column(kind, '{"b":"AP8=","a":{"\\u00e9 k": [1.10, "2", null]}}')[0].as_py() == {
        "a": [("é k", [Decimal("1.10"), Decimal("2.00"), None])],
        "b": b"\x00\xff",
    }
    assert column("map<int64, bool>", '[[1, true], ["2", "false"]]')[0].as_py() == [(1, True), (2, False)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("binary", '"QR=="'), ("binary", '"QQ==QQ=="'), ("binary", "1"), ("map<string, int64>", "[[1]]"),
     ("map<string, int64>", "5"), ("map<string, int64>", '{"a":1,"a":2}'),
     ("struct<a: int64>", '{"a":1,"a":2}'),
     ("struct<a: float>", '{"a":1e300}'), ("map<string, float>", '{"a":16777217}'), ("int64", "[1]"),
     ("bool", "{}"), ("list<timestamp[s]>", '["2024-01-01T00:00:00.5"]'), ("time32[s]", "5")],
)  # fmt: skip
def test_nested_values_that_do_not_fit_are_refused(kind, text):
    assert stored(kind, text) is None


def struct_twins() -> pa.Array:
    return pa.StructArray.from_arrays([pa.array([1, 3]), pa.array([2, 4])], ["a", "a"])


@pytest.mark.parametrize("wrap", ["struct", "list", "deep"])
def test_a_struct_with_two_members_of_a_name_is_no_json(wrap):
    """Neither for a plan nor for a reader."""
    inner = struct_twins()
    array = {
        "struct": lambda: inner,
        "list": lambda: pa.ListArray.from_arrays([0, 1, 2], inner),
        "deep": lambda: pa.StructArray.from_arrays([pa.ListArray.from_arrays([0, 1, 2], inner)], ["b"]),
    }[wrap]()
    data = written(pa.table({"n": [1, 2], "s": array}))
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    PARQUET.check(layout, [], "s3://b/f", native=True)
    with pytest.raises(UnsupportedSource, match=r"column 's' of s3://b/f has .* several members 'a'"):
        PARQUET.check(layout, [], "s3://b/f", native=False)
    reader = PARQUET.read(source, layout, span(0, 2), ReadRequest(records=True))
    with pytest.raises(UnsupportedSource, match=r"column 's' of memory://source has .* several members 'a'"):
        next(iter(reader))


def test_a_map_with_a_key_twice_is_no_json():
    kind = pa.map_(pa.string(), pa.int64())
    rows = [[("k", 1)], None, [("k", 1), ("l", 1)], [("k", 1), ("k", 2)]]
    for array, number in (
        (pa.array(rows, kind), 3),
        (pa.array([None, [rows[0], rows[3]]], pa.list_(kind)), 1),
    ):
        with pytest.raises(
            RowInvalid,
            match=rf"memory://source: row {number} of the chunk: column 'm' has a map with a key twice",
        ):
            records_of(pa.table({"m": array}))
    pairs = pa.table({"m": pa.array([[(1, 1), (1, 2)]], pa.map_(pa.int64(), pa.int64()))})
    assert records_of(pairs) == [b'{"m":[[1,1],[1,2]]}']  # a list of pairs loses none


# --- plans --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_a_type_for_a_column_that_the_source_has_not_is_refused(format_):
    if format_ == "csv":
        layout = Csv().inspect(BytesSource(b"x,y\n1,2\n"), {})
    else:
        layout = PARQUET.inspect(BytesSource(written(pa.table({"x": [1], "y": [2]}))), {})
    assert PARQUET.target(layout, {"schema": {"x": "int64"}}, native=False)["columns"][0] == ["x", "int64"]
    with pytest.raises(ConfigError, match=r"column 'X', which the source has not: it has 'x', .* case"):
        PARQUET.target(layout, {"schema": {"X": "int64"}}, native=False)
    with pytest.raises(ConfigError, match=r"column 'total', which the source has not: it has 'x', 'y'$"):
        PARQUET.target(layout, {"schema": {"total": "int64"}}, native=False)


def test_a_column_that_a_sample_of_json_lacks_may_have_a_type():
    layout = JsonLines().inspect(BytesSource(b'{"x":1}\n'), {})
    target = PARQUET.target(layout, {"schema": {"late": "int64"}}, native=False)
    assert [name for name, _ in target["columns"]] == ["x", "late"]


@pytest.mark.parametrize("zone", ["Nope/Zone", "America", "utc", "+2", "../UTC", "+25:00", ""])
def test_a_time_zone_that_nobody_knows_is_refused(zone):
    layout = Layout(extent=1, columns=(Column(name="c"),))
    for kind in (f"timestamp[us, tz={zone}]", f"list<timestamp[us, tz={zone}]>"):
        with pytest.raises(ConfigError, match=r"column 'c': .* is no "):
            PARQUET.target(layout, {"schema": {"c": kind}}, native=False)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "+02:00", "-07:30"])
def test_a_time_zone_that_is_known_is_kept(zone):
    kind = f"timestamp[us, tz={zone}]"
    assert column(kind, '"2024-01-01T00:00:00Z"').type == pa.timestamp("us", zone)
    layout = Layout(extent=1, columns=(Column(name="c"),))
    assert PARQUET.target(layout, {"schema": {"c": kind}}, native=False)["columns"] == [["c", kind]]


def test_a_type_of_a_struct_with_two_members_of_a_name_is_refused():
    layout = Layout(extent=1, columns=(Column(name="c"),))
    with pytest.raises(ConfigError, match=r"column 'c': .* several members 'a'"):
        PARQUET.target(layout, {"schema": {"c": "list<struct<a: int64, a: int64>>"}}, native=False)
    for wrong in ([], "", 0, 5):
        with pytest.raises(ConfigError, match="schema must give"):
            PARQUET.target(layout, {"schema": wrong}, native=False)
