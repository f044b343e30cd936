"""What a footer says of a file, and what it does not say."""

from __future__ import annotations

import datetime as dt
import io
import json
import math
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.core.delta.footer import GUESS, Footer, Unusable, described, read_footer
from chunkwise.core.delta.statistics import COLUMNS, stats_of
from chunkwise.core.formats.parquet.metadata import File, footer_bytes, parse_footer
from chunkwise.core.storage import Retries
from tests.support.delta import Lake, parquet
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3

NO_PAUSE = Retries(attempts=3, sleep=lambda _: None)


def footer(s3: S3, body: bytes, key: str = "f.parquet", client: Any = None) -> Footer | Unusable:
    s3.put(key, body)
    return read_footer(client or s3.client, s3.bucket, key, retries=NO_PAUSE)


def stats(data: Any, **options: Any) -> dict[str, Any]:
    """The statistics that the log would have."""
    body = parquet(data, **options)
    length = int.from_bytes(body[-8:-4], "little")
    rows, columns, bounds, _ = described(
        parse_footer(body[-8 - length : -8], len(body) - 8 - length, "f"), "f"
    )
    return dict(json.loads(stats_of(rows, bounds, [column.name for column in columns])))


# --- which files --------------------------------------------------------------------------------------------


def test_one_request_tells_size_rows_and_etag(s3: S3) -> None:
    body = parquet({"id": list(range(100))}, row_group_size=7)
    etag = s3.put("f.parquet", body)
    found = read_footer(s3.client, s3.bucket, "f.parquet")
    assert isinstance(found, Footer)
    assert (found.rows, found.size, found.etag) == (100, len(body), etag)
    assert s3.calls == {"GetObject": 1}


def test_a_large_footer_costs_a_second_request(s3: S3) -> None:
    body = parquet({"id": list(range(3000))}, row_group_size=2)
    assert int.from_bytes(body[-8:-4], "little") > GUESS
    found = footer(s3, body)
    assert isinstance(found, Footer)
    assert found.rows == 3000
    assert s3.calls == {"GetObject": 2}


def flipped(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]


def of_polars(numbers: list[int]) -> bytes:
    sink = io.BytesIO()
    pl.DataFrame({"id": numbers}).write_parquet(sink, compression="uncompressed", statistics=False)
    return sink.getvalue()


GOOD = parquet({"id": [1, 2, 3], "name": ["a", "b", "c"]})
#: most of it lies outside of what the first request brings
LARGE = parquet({"id": list(range(40_000))}, use_dictionary=False, compression="none")
OF_POLARS = of_polars(list(range(40_000)))
BAD = {
    "empty": (b"", "empty"),
    "one byte": (b"x", "not_parquet"),
    "text": (b"id,name\n1,a\n" * 10, "not_parquet"),
    "cut off": (GOOD[:-1], "not_parquet"),
    "magic only": (b"PAR1", "not_parquet"),
    "encrypted": (GOOD[:-4] + b"PARE", "encrypted"),
    "length": (GOOD[:-8] + struct.pack("<I", len(GOOD)) + b"PAR1", "damaged"),
    "front is missing": (GOOD[200:], "damaged"),
    "no footer": (GOOD[:-8] + struct.pack("<I", 0) + b"PAR1", "damaged"),
    "front is another": (b"XXXX" + GOOD[4:], "damaged"),
    "something before it": (b"junk" + GOOD, "damaged"),
    "one byte before it": (b"j" + GOOD, "damaged"),
    "another file before it": (parquet({"id": [7], "name": ["z"]}) + GOOD, "damaged"),
    "large, with something before it": (b"junk" + LARGE, "damaged"),
    "large, with a file before it": (GOOD + LARGE, "damaged"),
    "twice": (LARGE + LARGE, "damaged"),
    "of Polars, with something before it": (b"junk" + OF_POLARS, "damaged"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_file_that_is_none_is_said_to_be_none(s3: S3, name: str) -> None:
    body, reason = BAD[name]
    found = footer(s3, body)
    assert isinstance(found, Unusable)
    assert found.reason == reason


@pytest.mark.parametrize(
    "options",
    [
        {"write_page_index": True},
        {"write_page_index": True, "row_group_size": 1000},
        {"bloom_filter_options": {"id": {"ndv": 50_000}}},
        {"use_dictionary": True, "data_page_version": "2.0", "store_schema": False},
    ],
    ids=["index", "indexes", "filter", "dictionary"],
)
def test_what_writers_put_before_a_footer_costs_no_request(s3: S3, options: dict[str, Any]) -> None:
    found = footer(s3, parquet({"id": list(range(40_000)), "n": list(range(40_000))}, **options))
    assert isinstance(found, Footer)
    assert s3.calls == {"GetObject": 1}


def test_files_of_other_writers_cost_one_request_too(s3: S3, tmp_path: Path) -> None:
    rows = pa.table({"id": list(range(40_000))})
    deltalake.write_deltalake(tmp_path, rows)
    (written,) = tmp_path.glob("*.parquet")
    for body in (of_polars(list(range(40_000))), written.read_bytes()):
        assert isinstance(footer(s3, body), Footer)
    assert s3.calls == {"GetObject": 2}


@pytest.mark.parametrize("body", [GOOD, LARGE], ids=["small", "large"])
def test_a_gap_before_the_footer_is_no_damage_in_itself(s3: S3, body: bytes) -> None:
    """All columns lie where the footer says: readers have no trouble with it."""
    start = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    padded = body[:start] + bytes(5) + body[start:]
    assert pq.read_table(io.BytesIO(padded)) == pq.read_table(io.BytesIO(body))
    assert isinstance(footer(s3, padded), Footer)
    assert s3.calls["GetObject"] <= 2


@settings(max_examples=50)
@given(at=st.integers(0, len(GOOD) - 1), cut=st.booleans())
def test_a_damaged_file_is_an_answer_never_an_exception(s3: S3, at: int, cut: bool) -> None:
    found = footer(s3, GOOD[:at] if cut else flipped(GOOD, at))
    assert isinstance(found, Footer | Unusable)


def test_a_summary_of_other_files_is_no_file(s3: S3) -> None:
    """``_metadata`` has the row groups of files beside it."""
    collector: list[Any] = []
    pq.write_table(pa.table({"id": [1]}), io.BytesIO(), metadata_collector=collector)
    collector[0].set_file_path("part-0.parquet")
    sink = io.BytesIO()
    collector[0].write_metadata_file(sink)
    found = footer(s3, sink.getvalue())
    assert isinstance(found, Unusable)
    assert found.reason == "damaged"


def test_what_passes_is_tried_again(s3: S3, faults: Faults) -> None:
    faults.fail("GetObject", status=503, times=3)
    assert isinstance(footer(s3, GOOD, client=faults.client), Footer)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 403}, "unread"),
        ({"status": 503, "times": FOREVER}, "unread"),
        ({"status": 404}, "not_found"),
    ],
    ids=["forbidden", "unavailable", "missing"],
)
def test_what_s3_does_not_give_is_said_without_an_exception(
    s3: S3, faults: Faults, fault: dict[str, Any], reason: str
) -> None:
    faults.fail("GetObject", **fault)
    found = footer(s3, GOOD, client=faults.client)
    assert isinstance(found, Unusable)
    assert found.reason == reason


def test_an_object_without_a_byte_is_empty_where_s3_answers_416(s3: S3, faults: Faults) -> None:
    faults.fail("GetObject", status=416, code="InvalidRange")
    found = footer(s3, b"", client=faults.client)
    assert isinstance(found, Unusable)
    assert found.reason == "empty"


def test_a_file_that_is_replaced_between_two_requests_is_read_anew(s3: S3) -> None:
    small, large = GOOD, parquet({"id": list(range(3000))}, row_group_size=2)
    s3.put("f.parquet", large)
    seen: list[str] = []

    def replace(params: dict[str, Any], **_: Any) -> None:
        seen.append(params["headers"].get("If-Match", ""))
        if len(seen) == 2:
            s3.put("f.parquet", small)

    s3.client.meta.events.register("before-call.s3.GetObject", replace)
    found = read_footer(s3.client, s3.bucket, "f.parquet", retries=NO_PAUSE)
    assert isinstance(found, Footer)
    assert (found.rows, found.size) == (3, len(small))
    assert len(seen) == 3


# --- statistics ---------------------------------------------------------------------------------------------

INSTANTS = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31), timezones=st.just(dt.UTC))
COLUMN_KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "byte": (pa.int8(), st.integers(-128, 127)),
    "short": (pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "integer": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "long": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "unsigned": (pa.uint32(), st.integers(0, 2**32 - 1)),
    "double": (pa.float64(), st.floats()),
    "boolean": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.text(max_size=80)),
    "bytes": (pa.binary(), st.binary(max_size=10)),
    "day": (pa.date32(), st.dates()),
    "micros": (pa.timestamp("us", "UTC"), INSTANTS),
    "naive": (pa.timestamp("us"), INSTANTS.map(lambda found: found.replace(tzinfo=None))),
    "decimal": (pa.decimal128(9, 2), st.integers(-(10**8), 10**8).map(lambda n: Decimal(n) / 100)),
}


def as_shown(value: Any) -> Any:
    """A value in a form that compares with the bounds of the log."""
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value
    return value


def bound(kind: str, shown: Any) -> Any:
    if kind in ("micros", "naive"):
        return dt.datetime.fromisoformat(shown)
    return dt.date.fromisoformat(shown) if kind == "day" else shown


@pytest.mark.parametrize("kind", list(COLUMN_KINDS))
def test_no_value_lies_outside_of_its_bounds(kind: str) -> None:
    """Whatever the values and the row groups: a row that is there is never left out."""
    arrow, values = COLUMN_KINDS[kind]

    @given(rows=st.lists(st.none() | values, min_size=1, max_size=12), group=st.integers(1, 5))
    def check(rows: list[Any], group: int) -> None:
        found = stats({"x": pa.array(rows, arrow)}, row_group_size=group)
        assert found["numRecords"] == len(rows)
        assert found["nullCount"] == {"x": sum(value is None for value in rows)}
        present = [as_shown(value) for value in rows if value is not None]
        if "x" in found["minValues"]:
            assert bound(kind, found["minValues"]["x"]) <= min(present, key=in_utf8)
            assert bound(kind, found["maxValues"]["x"]) >= max(present, key=in_utf8)
        assert found["minValues"].keys() == found["maxValues"].keys()

    check()


def in_utf8(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def test_bounds_are_there_where_nothing_is_in_doubt() -> None:
    instants = [
        dt.datetime(2024, 1, 1, 0, 0, 0, 1500, dt.UTC),
        dt.datetime(2024, 1, 1, 0, 0, 0, 2001, dt.UTC),
    ]
    found = stats(
        {
            "long": [3, 2**53 + 1],
            "text": ["a", "b"],
            "day": pa.array([dt.date(2024, 1, 2), dt.date(2024, 1, 3)]),
            "instant": pa.array(instants, pa.timestamp("us", "UTC")),
            "all_null": pa.array([None, None], pa.int64()),
        },
    )
    assert found["minValues"] == {
        "long": 3,
        "text": "a",
        "day": "2024-01-02",
        "instant": "2024-01-01T00:00:00.001Z",
    }
    assert found["maxValues"] == {
        "long": 2**53 + 1,
        "text": "b",
        "day": "2024-01-03",
        "instant": "2024-01-01T00:00:00.003Z",
    }
    assert found["nullCount"] == {"long": 0, "text": 0, "day": 0, "instant": 0, "all_null": 2}


DOUBTFUL = {
    "nan": pa.array([1.0, math.nan]),
    "float": pa.array([1.0]),
    "decimal": pa.array([Decimal("1.5")]),
    "boolean": pa.array([True]),
    "unsigned": pa.array([1], pa.uint16()),
    "long_text": pa.array(["x" * 65]),
    "beyond_utf16": pa.array(["\U0001f600"]),
    "old_day": pa.array([dt.date(1500, 1, 1)]),
    "old_instant": pa.array([dt.datetime(1899, 12, 31, tzinfo=dt.UTC)]),
    "nested": pa.array([[1]]),
    "struct": pa.array([{"a": 1}]),
    "bytes": pa.array([b"x"]),
}


@pytest.mark.parametrize("name", list(DOUBTFUL))
def test_doubtful_bounds_are_left_out(name: str) -> None:
    found = stats({name: DOUBTFUL[name]})
    assert (found["minValues"], found["maxValues"]) == ({}, {})


def test_a_file_without_statistics_has_its_number_of_rows() -> None:
    found = stats({"id": [1, None]}, write_statistics=False)
    assert found == {"numRecords": 2, "minValues": {}, "maxValues": {}, "nullCount": {}}


def test_a_file_that_does_not_say_how_its_columns_order_has_no_bounds() -> None:
    """So says parquet.thrift of ``column_orders``."""
    body = parquet({"id": [1, 2]})
    length = int.from_bytes(body[-8:-4], "little")
    start = len(body) - 8 - length
    found = parse_footer(body[start:-8], start, "f")
    head = {number: field for number, field in found.head.items() if number != File.COLUMN_ORDERS}
    data = footer_bytes(head, 2, found.groups, len(found.groups))[:-8]
    rows, _, bounds, _ = described(parse_footer(data, start, "f"), "f")
    assert (rows, bounds["id"].low, bounds["id"].high, bounds["id"].nulls) == (2, None, None, 0)


def test_one_row_group_without_bounds_takes_those_of_all() -> None:
    """A text that is too long has none in its row group, in many writers."""
    found = stats({"x": ["a", "y" * 70]}, row_group_size=1)
    assert (found["minValues"], found["maxValues"]) == ({}, {})


def test_only_as_many_columns_have_statistics_as_delta_looks_at() -> None:
    found = stats({f"c{number:03d}": [1] for number in range(COLUMNS + 8)})
    assert len(found["minValues"]) == COLUMNS


def test_engines_that_leave_out_files_by_them_find_every_row(lake: Lake) -> None:
    instants = [dt.datetime(2024, 1, 1, 0, 0, second, 123_456, dt.UTC) for second in range(6)]
    for at, instant in enumerate(instants):
        values = pa.array([instant, None], pa.timestamp("us", "UTC"))
        lake.append(lake.put(f"{at}.parquet", {"t": values, "n": [at, at + 1]}))
    session = deltalake.QueryBuilder().register("t", lake.open())
    for instant in instants:
        text = instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        found = pa.table(session.execute(f"select n from t where t = timestamp '{text}'").read_all())
        assert found.num_rows == 1
    found = pa.table(session.execute("select n from t where n = 3").read_all())
    assert found.num_rows == 2
