"""Footers: what is refused, what is read, and what joining costs."""

from __future__ import annotations

import io
import os
import random
import struct
from dataclasses import replace
from itertools import pairwise

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, InvalidSource, SchemaMismatch, UnsupportedSource
from chunkwise.core.formats.model import Boundary, Column, Layout, Part, ReadRequest
from chunkwise.core.formats.parquet import assembly, metadata, thrift
from chunkwise.core.formats.parquet import layout as layouts
from chunkwise.core.formats.parquet.layout import Groups
from chunkwise.core.formats.parquet.layout import groups_of as groups_of_layout
from tests.core.formats.parquet_files import (
    PARQUET,
    assembled,
    converted,
    part,
    span,
    table_of,
    trip,
    written,
)
from tests.support.sources import BytesSource


def wide(rows: int, columns: int = 8) -> pa.Table:
    chance = random.Random(1)
    return pa.table({f"c{n}": [chance.randbytes(12).hex() for _ in range(rows)] for n in range(columns)})


def test_inspecting_reads_the_footer_only():
    data = written(wide(3_000), row_group_size=1_000)
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    assert (source.reads, source.bytes_read) == (1, 64 * 1024)
    assert layout.extent == 3_000
    assert layout.columns is not None
    assert layout.columns[0] == Column(name="c0", type="string")
    big = written(wide(3_000, 30), row_group_size=50)
    source = BytesSource(big)
    PARQUET.inspect(source, {})
    length = struct.unpack("<I", big[-8:-4])[0] + 8
    assert (source.reads, source.bytes_read) == (2, length)


def test_a_plan_of_many_row_groups_is_small():
    chance = random.Random(1)
    rows = [1_000_000] * 8_000
    groups = Groups(
        rows, [chance.randrange(10**8) for _ in rows], [chance.randrange(2_000) for _ in rows], rows
    )
    packed = groups.pack()
    assert len(packed) < 8_000 * 10
    found = Groups.unpack(packed)
    assert (found.rows, found.sizes, found.lengths) == (groups.rows, groups.sizes, groups.lengths)


def test_chunks_are_balanced_by_compressed_size():
    chance = random.Random(2)
    sizes = [chance.randrange(1, 40) for _ in range(500)]
    groups = Groups([10] * 500, sizes, [1] * 500, [0] * 500)
    cuts = layouts.wanted(groups, 200)
    edges = [0, *cuts, groups.extent]
    weights = [layouts.weight(groups, a, b) for a, b in pairwise(edges)]
    assert sum(weights) == sum(sizes)
    assert len(weights) == round(sum(sizes) / 200)
    assert max(weights) <= 200 + 80
    assert all(cut % 10 == 0 for cut in cuts)


def test_only_a_giant_row_group_with_pages_is_split():
    groups = Groups([100, 1_000, 100], [10, 1_000, 10], [1] * 3, [1, 1, 1])
    assert layouts.wanted(groups, 250) == [100, 350, 600, 850, 1_100]
    assert layouts.wanted(groups.unsplit(), 250) == [100, 1_100]
    giant = Groups([1], [1 << 30], [1], [0])
    assert "1024 MiB" in layouts.warnings_of(giant, "memory://x")[0]
    assert layouts.warnings_of(groups, "memory://x") == ()


def test_a_chunk_of_a_giant_row_group_reads_little_more_than_its_share():
    table = wide(40_000)
    data = written(
        table, row_group_size=10**9, write_page_index=True, data_page_size=8_000, use_dictionary=False
    )
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    cuts = PARQUET.wanted(layout, len(data) // 8)
    assert len(cuts) == 7
    source.bytes_read = 0
    request = ReadRequest(records=True)
    rows = [
        row
        for batch in PARQUET.read(source, layout, span(cuts[2], cuts[3]), request)
        for row in batch.records()
    ]
    assert len(rows) == cuts[3] - cuts[2]
    assert source.bytes_read < 1.3 * PARQUET.weight(layout, cuts[2], cuts[3])


def test_a_cut_is_the_row_itself_without_reading():
    data = written(wide(100))
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    source.reads = 0
    assert PARQUET.cut(source, layout, 7) == Boundary(position=7)
    assert list(PARQUET.exact(source, layout, [7, 400])) == [Boundary(position=7), Boundary(position=100)]
    assert source.reads == 0


def test_joining_moves_the_footer_only():
    data = written(wide(40_000), row_group_size=5_000, write_page_index=True)
    found = trip(data, len(data) // 8)
    assert len(found.parts) == 8
    assert found.through < 0.03 * len(data)
    for one in found.parts:
        assert isinstance(one.source, BytesSource)
        assert one.source.reads == 1
        assert table_of(one.source.data).num_rows == 5_000


def test_bloom_filters_of_copied_columns_move_along():
    table = wide(2_000, 2)
    data = written(table, row_group_size=500, bloom_filter_options={"c0": True, "c1": True})
    found = trip(data, len(data) // 3, columns=("c1",), change=lambda text: text and text[::-1])
    assert (
        table_of(found.data)["c0"].equals(table["c0"])
        or table_of(found.data)["c0"].to_pylist() == table["c0"].to_pylist()
    )
    import duckdb

    before = _bloom(duckdb, data, table["c0"][3].as_py())
    assert before != 0
    assert _bloom(duckdb, found.data, table["c0"][3].as_py()) == before
    assert _bloom(duckdb, found.data, "not there") == 4


def _bloom(duckdb, data: bytes, value: str) -> int:
    """Row groups that the bloom filters of ``c0`` exclude."""
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(data)
        file.flush()
        rows = duckdb.sql(
            f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{file.name}', 'c0', '{value}')"
        ).fetchall()
    return sum(bool(row[0]) for row in rows)


def broken(data: bytes) -> dict[str, bytes]:
    return {
        "no Parquet file: it has 3 bytes": b"PAR",
        "does not end with PAR1": data[:-1],
        "says that its footer has": data[:-8] + b"\xff\xff\xff\x00PAR1",
        "the footer of memory://source is damaged at its byte": _overwritten(data),
    }


def _overwritten(data: bytes) -> bytes:
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little") if data else 0
    return data[: start + 4] + b"\xff" * 20 + data[start + 24 :]


@pytest.mark.parametrize("reason", list(broken(b"")))
def test_damaged_files_are_named(reason):
    with pytest.raises(InvalidSource, match=reason):
        PARQUET.inspect(BytesSource(broken(written(wide(10)))[reason]), {})


def test_a_damaged_page_is_named():
    data = bytearray(written(wide(1_000), compression="zstd"))
    data[2_000:2_400] = os.urandom(400)
    with pytest.raises(InvalidSource, match="memory://source, row group 0 cannot be read"):
        trip(bytes(data), 10**9, columns=("c0",))


def test_summaries_and_encrypted_files_are_refused(tmp_path):
    with pytest.raises(UnsupportedSource, match="encrypted"):
        PARQUET.inspect(BytesSource(b"PAR1" + bytes(50) + b"PARE"), {})
    collector: list[pq.FileMetaData] = []
    out = io.BytesIO()
    pq.write_table(wide(3), out, metadata_collector=collector)
    collector[0].set_file_path("part-0.parquet")
    collector[0].write_metadata_file(str(tmp_path / "_metadata"))
    with pytest.raises(UnsupportedSource, match=r"summary \(_metadata\)"):
        PARQUET.inspect(BytesSource((tmp_path / "_metadata").read_bytes()), {})
    with pytest.raises(ConfigError, match="no option 'sep'"):
        PARQUET.inspect(BytesSource(out.getvalue()), {"sep": ","})


def test_files_whose_sizes_are_wrong_are_refused():
    data = written(wide(3), store_schema=False)
    footer = metadata.read_footer(BytesSource(data))
    for version, refused in (
        (b"1.2.8", True),
        (b"1.1.0 (build x)", True),
        (b"1.2.9", False),
        (b"1.13.0", False),
    ):
        head = {**footer.head, metadata.File.CREATED_BY: (8, b"parquet-mr version " + version)}
        old = data[: footer.start] + metadata.footer_bytes(head, 3, footer.groups, 1)
        if refused:
            with pytest.raises(UnsupportedSource, match="PARQUET-816"):
                PARQUET.inspect(BytesSource(old), {})
        else:
            assert PARQUET.inspect(BytesSource(old), {}).extent == 3


def layout_of(**types: str) -> Layout:
    return Layout(extent=0, columns=tuple(Column(name=name, type=kind) for name, kind in types.items()))


def one_part(options: dict[str, object], rows: list[bytes], **types: str) -> tuple[dict, Part]:
    target = PARQUET.target(layout_of(**types), options, native=False)
    encoder = PARQUET.encoder(target)
    data = b"".join([*encoder.convert(rows, 0), *encoder.finish(None)])  # type: ignore[arg-type]
    return target, part(3, data, len(rows), encoder.notes())


def test_parts_with_another_schema_are_refused_with_a_readable_difference():
    target, _ = one_part({}, [b"{}"], a="string", b="integer")
    _, other = one_part({}, [b"{}"], a="string", b="string")
    with pytest.raises(SchemaMismatch) as found:
        list(PARQUET.join(target, [other], None))
    lines = str(found.value).split("\n")
    assert lines[0].startswith("the part of chunk 3 has another schema than was planned")
    assert lines[1] == "- b: optional int64"
    assert lines[2].startswith("+ b: optional byte_array")


def test_a_part_that_lost_rows_is_refused():
    target, good = one_part({}, [b"{}", b"{}"], a="string")
    short = Part(chunk=3, ref=good.ref, size=good.size, rows=3, notes=good.notes, source=good.source)
    with pytest.raises(SchemaMismatch, match="has 2 rows, and its done record says 3"):
        list(PARQUET.join(target, [short], None))


def numbered(data: bytes) -> bytes:
    """A file whose row groups have ordinals, which pyarrow does not write."""
    footer = metadata.read_footer(BytesSource(data))
    groups = [thrift.Reader(group, 0, "").struct() for group in footer.groups]
    for number, group in enumerate(groups):
        thrift.put(group, metadata.Group.ORDINAL, thrift.I16, number)
    rows = thrift.get(footer.head, metadata.File.NUM_ROWS)
    return data[: footer.start] + metadata.footer_bytes(
        footer.head, rows, [thrift.dump(group) for group in groups], len(groups)
    )


def ordinals(data: bytes) -> list[int | None]:
    footer = metadata.read_footer(BytesSource(data))
    return [thrift.get(thrift.Reader(g, 0, "").struct(), metadata.Group.ORDINAL) for g in footer.groups]


@pytest.mark.long
def test_more_row_groups_than_can_be_numbered_have_no_numbers(tmp_path):
    """An ordinal is an i16, and may be missing: nobody minds."""
    out = io.BytesIO()
    schema = pa.schema([("n", pa.int64())])
    with pq.ParquetWriter(out, schema) as writer:
        for number in range(1_000):
            writer.write_table(pa.table({"n": [number]}, schema))
    source = numbered(out.getvalue())
    [one] = trip(source, 10**9).parts
    target = PARQUET.target(PARQUET.inspect(BytesSource(source), {}), {}, native=True)
    data = assembled(list(PARQUET.join(target, [replace(one, chunk=n) for n in range(33)], None)))
    assert ordinals(data) == [None] * 33_000
    path = tmp_path / "many.parquet"
    path.write_bytes(data)
    total = 33 * sum(range(1_000))
    assert pc.sum(table_of(data)["n"]).as_py() == total
    assert duckdb.sql(f"SELECT sum(n) FROM '{path}'").fetchall() == [(total,)]
    assert pl.read_parquet(path)["n"].sum() == total


@pytest.mark.parametrize("most", [4, 5])
def test_row_groups_have_numbers_as_long_as_there_are_enough(monkeypatch, most):
    """All of an output, or none."""
    monkeypatch.setattr(assembly, "MAX_NUMBERED", most)
    data = numbered(written(wide(50), row_group_size=10))
    assert ordinals(trip(data, cuts=[20]).data) == ([None] * 5 if most == 4 else [0, 1, 2, 3, 4])
    [one] = trip(data, cuts=[]).parts
    assert ordinals(one.source.data) == [0, 1, 2, 3, None if most == 4 else 4]


@given(
    rows=st.lists(st.integers(0, 4), max_size=12),
    cuts=st.tuples(st.integers(0, 48), st.integers(0, 48)),
)
def test_a_narrow_layout_has_what_its_span_needs(rows, cuts):
    groups = Groups(rows, [7] * len(rows), list(range(100, 100 + len(rows))), [1] * len(rows))
    start, end = sorted(min(cut, groups.extent) for cut in cuts)
    whole = Layout(extent=groups.extent, details={"groups": groups.pack()})
    narrow = groups_of_layout(PARQUET.narrow(whole, span(start, end)))
    wanted = groups.owned(start, end)
    assert [narrow.base.number + n for n in narrow.owned(start, end)] == list(wanted)
    assert len(narrow) == len(wanted)
    for here, there in enumerate(wanted):
        assert narrow.starts[here] == groups.starts[there]
        assert narrow.places[here : here + 2] == groups.places[there : there + 2]
    assert layouts.weight(narrow, start, end) == layouts.weight(groups, start, end)


def test_converted_row_groups_are_numbered_and_bounded():
    rows = [b'{"a":"%s"}' % (b"x" * 1_000_000)] * 70
    data = converted(layout_of(a="string"), {}, rows[:40], rows[40:])
    meta = pq.read_metadata(io.BytesIO(data))
    assert meta.num_rows == 70
    assert [meta.row_group(n).num_rows for n in range(meta.num_row_groups)] == [40, 30]
