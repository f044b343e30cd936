"""Thrift's compact protocol: what was read comes out as it was."""

from __future__ import annotations

import io

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import InvalidSource
from chunkwise.core.formats.parquet import metadata, thrift
from chunkwise.core.formats.parquet.thrift import Reader
from tests.core.formats.parquet_files import all_types, written
from tests.support.sources import BytesSource


def footer_of(data: bytes) -> bytes:
    length = int.from_bytes(data[-8:-4], "little")
    return data[-8 - length : -8]


def options() -> list[dict[str, object]]:
    return [
        {},
        {"compression": "zstd", "data_page_version": "2.0", "write_page_index": True, "row_group_size": 7},
        {"use_dictionary": False, "write_statistics": False, "compression": "none"},
        {"version": "1.0", "store_schema": False, "use_deprecated_int96_timestamps": True},
        {"sorting_columns": [pq.SortingColumn(0)], "write_page_checksum": True, "row_group_size": 1},
        {"store_decimal_as_integer": True, "compression": "gzip", "use_byte_stream_split": ["f64"],
         "use_dictionary": False},
    ]  # fmt: skip


@pytest.mark.parametrize("chosen", options())
def test_footers_of_pyarrow_come_out_byte_for_byte(chosen):
    footer = footer_of(written(all_types(40), **chosen))
    assert thrift.dump(Reader(footer).struct()) == footer


def test_footers_of_duckdb_and_polars_come_out_byte_for_byte(tmp_path):
    frame = pl.DataFrame({"a": [1, 2, None], "b": ["x", None, "ü"], "c": [[1.5], [], None]})
    frame.write_parquet(tmp_path / "polars.parquet", row_group_size=1)
    duckdb.sql(
        f"COPY (SELECT i, i::VARCHAR AS s, [i] AS l, i::DECIMAL(9, 2) AS d FROM range(9) t(i))"
        f" TO '{tmp_path / 'duck.parquet'}' (ROW_GROUP_SIZE 3)"
    )
    for path in tmp_path.iterdir():
        footer = footer_of(path.read_bytes())
        assert thrift.dump(Reader(footer).struct()) == footer


@pytest.mark.parametrize("chosen", options())
def test_a_footer_taken_apart_and_put_together_is_the_same(chosen):
    data = written(all_types(40), **chosen)
    footer = metadata.read_footer(BytesSource(data))
    rows = thrift.get(footer.head, metadata.File.NUM_ROWS)
    again = metadata.footer_bytes(footer.head, rows, footer.groups, len(footer.groups))
    assert again == data[footer.start :]
    head = metadata.unpack_head(metadata.pack_head(footer.head))
    assert head == footer.head


def test_a_footer_without_anything_after_its_row_groups_can_be_read():
    data = written(pa.table({"a": [1]}), store_schema=False)
    footer = metadata.read_footer(BytesSource(data))
    head = {number: footer.head[number] for number in (1, 2, 3)}
    again = data[: footer.start] + metadata.footer_bytes(head, 1, footer.groups, 1)
    assert pq.ParquetFile(io.BytesIO(again)).read(use_threads=False).to_pydict() == {"a": [1]}


KINDS = {
    thrift.BYTE: st.integers(0, 255),
    thrift.I16: st.integers(-(1 << 15), (1 << 15) - 1),
    thrift.I32: st.integers(-(1 << 31), (1 << 31) - 1),
    thrift.I64: st.integers(-(1 << 63), (1 << 63) - 1),
    thrift.DOUBLE: st.binary(min_size=8, max_size=8),
    thrift.BINARY: st.binary(max_size=300),
    thrift.UUID: st.binary(min_size=16, max_size=16),
}


@st.composite
def values(draw, kind: int, depth: int):
    if kind in KINDS:
        return draw(KINDS[kind])
    if kind == thrift.STRUCT:
        return draw(structs(depth + 1))
    inner = draw(st.sampled_from([*KINDS, thrift.STRUCT, thrift.LIST] if depth < 2 else [*KINDS]))
    if kind == thrift.MAP:
        pairs = st.tuples(KINDS[thrift.I32], values(inner, depth + 1))
        found = draw(st.lists(pairs, max_size=4))
        return (thrift.I32, inner, found) if found else (0, 0, [])
    return inner, draw(st.lists(values(inner, depth + 1), max_size=20))


@st.composite
def structs(draw, depth: int = 0):
    kinds = [*KINDS, thrift.LIST, thrift.SET, thrift.MAP] + ([thrift.STRUCT] if depth < 3 else [])
    ids = sorted(draw(st.sets(st.integers(1, 400), max_size=6)))
    found = {}
    for number in ids:
        kind = draw(st.sampled_from([*kinds, thrift.TRUE]))
        if kind == thrift.TRUE:
            there = draw(st.booleans())
            found[number] = (thrift.TRUE if there else thrift.FALSE, there)
        else:
            found[number] = (kind, draw(values(kind, depth)))
    return found


@given(fields=structs())
def test_any_struct_comes_back(fields):
    assert Reader(thrift.dump(fields)).struct() == fields


@given(fields=structs(), cut=st.integers(0, 200))
def test_a_struct_that_was_cut_off_is_named(fields, cut):
    data = thrift.dump(fields)
    cut = min(cut, len(data) - 1)
    with pytest.raises(InvalidSource, match="is damaged at its byte"):
        Reader(data[:cut]).struct()


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_struct_or_an_error_of_ours(data):
    reader = Reader(data)
    try:
        reader.struct()
    except InvalidSource:
        return
    assert reader.position <= len(data)
