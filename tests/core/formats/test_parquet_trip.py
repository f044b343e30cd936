"""Split, processed and joined, a Parquet file is what it was."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from chunkwise.core.formats.model import ReadRequest
from chunkwise.core.formats.parquet import columns, reader
from tests.core.formats.parquet_files import (
    PARQUET,
    all_types,
    groups_of,
    same,
    span,
    table_of,
    trip,
    written,
)
from tests.support.sources import BytesSource

WRITERS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "gzip", "zstd", "brotli", "lz4"]),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
        "write_page_index": st.booleans(),
        "use_dictionary": st.booleans(),
        "write_statistics": st.booleans(),
        "data_page_size": st.sampled_from([40, 400, 1 << 20]),
        "write_batch_size": st.sampled_from([3, 1000]),
        "row_group_size": st.sampled_from([7, 17, 1000]),
        "store_decimal_as_integer": st.booleans(),
    }
)
# without shrinking: each try writes and reads dozens of files
PROPERTY = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def raw(statistics: pq.Statistics) -> tuple[object, ...]:
    bounds = (statistics.min_raw, statistics.max_raw) if statistics.has_min_max else None
    return (statistics.null_count, bounds)


def facts(data: bytes) -> list[object]:
    """Schema with its metadata, and of each row group what must not change."""
    meta = pq.read_metadata(io.BytesIO(data))
    found: list[object] = [meta.schema.to_arrow_schema(), meta.metadata, str(meta.schema).partition("\n")[2]]
    for number in range(meta.num_row_groups):
        group = meta.row_group(number)
        found.append((group.num_rows, group.total_byte_size, group.sorting_columns))
        for place in range(group.num_columns):
            column = group.column(place)
            statistics = column.statistics
            found.append(
                (
                    column.path_in_schema,
                    column.compression,
                    column.encodings,
                    column.total_compressed_size,
                    column.has_column_index,
                    column.has_offset_index,
                    None if statistics is None else raw(statistics),
                )
            )
    return found


@PROPERTY
@given(
    rows=st.sampled_from([1, 5, 60]), seed=st.integers(0, 5), required=st.booleans(), options=WRITERS,
    chunk=st.sampled_from([2_500, 5_000, 10**9]),
)  # fmt: skip
def test_planned_split_process_as_identity_and_join_give_back_the_table(rows, seed, required, options, chunk):
    """However large the chunks are. Row groups that were not split are copied as they are, statistics
    included."""
    table = all_types(rows, seed, required=required)
    data = written(table, **options)
    found = trip(data, chunk)
    assert same(table_of(found.data), table_of(data))
    ends = set(_ends(groups_of(data)))
    if ends.issuperset(found.positions):
        assert facts(found.data) == facts(data)
    assert all(a < b for a, b in pairwise(found.positions))


@PROPERTY
@given(
    cuts=st.sets(st.integers(1, 119), max_size=3), seed=st.integers(0, 3), required=st.booleans(),
    options=WRITERS,
)  # fmt: skip
def test_cut_at_any_rows_the_pages_that_are_needed_give_exactly_these_rows(cuts, seed, required, options):
    table = all_types(120, seed, required=required)
    data = written(table, **{**options, "write_page_index": True})
    found = trip(data, cuts=sorted(cuts))
    assert same(table_of(found.data), table_of(data))
    before, after = pq.read_metadata(io.BytesIO(data)), pq.read_metadata(io.BytesIO(found.data))
    assert facts(found.data)[:3] == facts(data)[:3]
    assert after.metadata == before.metadata
    # the offset indexes of copied and of new columns lead to the pages: cut the output by them once more
    again = trip(found.data, cuts=[row for row in (13, 77) if row not in cuts])
    assert same(table_of(again.data), table_of(data))
    for place in range(before.num_columns):
        one, other = before.row_group(0).column(place), after.row_group(0).column(place)
        assert (one.compression, one.path_in_schema) == (other.compression, other.path_in_schema)
        assert other.has_offset_index


def test_untouched_rows_are_the_same_bytes():
    """Without a page index, whose place differs, even the whole file."""
    data = written(all_types(500), row_group_size=70)
    assert trip(data, 3000).data == data


@pytest.mark.parametrize("page_index", [True, False])
@pytest.mark.parametrize("column", ["text", "large", "word", "binary", "nothing"])
def test_only_the_replaced_column_changes(column, page_index):
    table = all_types(300).filter(pa.array([True] * 300))
    data = written(table, row_group_size=90, write_page_index=page_index, data_page_size=300)

    def change(value: str | None) -> str | None:
        return value if not value else f"<{value}>"

    found = trip(data, 20_000, columns=(column,), change=change)
    after = table_of(found.data)
    assert same(after.drop_columns([column]), table_of(data).drop_columns([column]))
    assert after.schema.equals(table_of(data).schema, check_metadata=True)
    before = table[column].to_pylist()
    if column == "binary":
        expected = [b"<%s>" % value if value else value for value in before]
    else:
        expected = [change(value) for value in before]
    assert after[column].to_pylist() == expected
    assert groups_of(found.data) == groups_of(data)
    copied = [fact for fact in facts(data) if isinstance(fact, tuple) and fact[0] != column and len(fact) > 3]
    assert [fact for fact in facts(found.data) if fact in copied] == copied


def test_offset_indexes_of_copied_columns_lead_to_their_pages():
    options = {"write_page_index": True, "data_page_size": 300, "write_batch_size": 10, "row_group_size": 150}
    data = written(all_types(600), **options)
    found = trip(data, len(data) // 2, columns=("text",), change=lambda text: text and text + "!")
    assert groups_of(found.data) == [150] * 4
    for cuts in ([70, 371], [1, 149, 151, 599]):
        assert same(table_of(trip(found.data, cuts=cuts).data), table_of(found.data))


@pytest.mark.parametrize("page_index", [True, False])
def test_a_column_that_is_written_in_several_goes_is_one_column(monkeypatch, page_index):
    """Pages, statistics and indexes of all goes add up."""
    monkeypatch.setattr(columns, "_WAITING", 400)
    monkeypatch.setattr(columns, "_COMPACTED", 200)
    table = all_types(700, 4)
    data = written(table, write_page_index=page_index, data_page_size=300, write_batch_size=10)
    changed = trip(data, 10**9, columns=("text", "word"), change=lambda text: text and text + "!")
    assert groups_of(changed.data) == [700]
    expected = [text and text + "!" for text in table["text"].to_pylist()]
    assert table_of(changed.data)["text"].to_pylist() == expected
    meta = pq.read_metadata(io.BytesIO(changed.data)).row_group(0)
    named = {meta.column(place).path_in_schema: meta.column(place) for place in range(meta.num_columns)}
    there = sorted(text.encode() for text in expected if text is not None)
    assert raw(named["text"].statistics) == (expected.count(None), (there[0], there[-1]))
    assert named["text"].num_values == 700
    if page_index:
        again = trip(changed.data, cuts=[99, 500])
        assert same(table_of(again.data), table_of(changed.data))
        # the cuts wrote every column anew, in several goes: each has the bounds of its own values
        twice = trip(again.data, cuts=[50, 300, 600])
        assert same(table_of(twice.data), table_of(changed.data))
        one, all_ = pq.ParquetFile(io.BytesIO(twice.data)), table_of(changed.data)
        first = 0
        for number in range(one.num_row_groups):
            group = one.metadata.row_group(number)
            for place in range(group.num_columns):
                column = group.column(place)
                if column.path_in_schema in ("i32", "u32", "u64", "i64", "f64", "date"):
                    values = all_[column.path_in_schema].slice(first, group.num_rows)
                    kind = {"date": pa.int32()}.get(column.path_in_schema, values.type)
                    low_high = pc.min_max(values.cast(kind)).as_py()
                    signed = values.type not in (pa.uint32(), pa.uint64())
                    if signed:
                        assert column.statistics.min_raw == low_high["min"]
                        assert column.statistics.max_raw == low_high["max"]
                    assert column.statistics.null_count == values.null_count
            first += group.num_rows


@pytest.mark.parametrize("page_index", [True, False])
def test_row_groups_stay_whole_however_many_of_their_columns_are_replaced(monkeypatch, page_index):
    """All columns of all their rows are there, in order, and nothing else is written anew."""
    monkeypatch.setattr(columns, "_WAITING", 4_000)
    monkeypatch.setattr(columns, "_COMPACTED", 2_000)
    data = written(all_types(3_000, 5), row_group_size=2_500, write_page_index=page_index)
    names = ("word", "text", "large", "binary")  # not in the order of the file
    found = trip(data, 10**9, columns=names, change=lambda text: text and text * 3, batch_rows=300)
    assert groups_of(found.data) == [2_500, 500]
    before, after = table_of(data), table_of(found.data)
    for name in names:
        assert after[name].to_pylist() == [value and value * 3 for value in before[name].to_pylist()]
    assert same(after.drop_columns(names), before.drop_columns(names))


@pytest.mark.parametrize("changed", [(0,), (699,), (137, 400), (650, 651), ()])
@pytest.mark.parametrize("cuts", [[], [120, 555]])
def test_new_values_may_come_late(monkeypatch, changed, cuts):
    """Nobody kept the rows before the first one: they are read once more."""
    monkeypatch.setattr(columns, "_WAITING", 400)
    table = pa.table({"n": range(700), "a": map(str, range(700)), "m": range(700), "b": map(str, range(700))})
    data = written(table, write_page_index=True, data_page_size=300, write_batch_size=10)
    texts = {str(row) for row in changed}
    found = trip(
        data, cuts=cuts, columns=("a", "b"), change=lambda t: f"new {t}" if t in texts else t, batch_rows=50
    )
    expected = [f"new {row}" if row in changed else str(row) for row in range(700)]
    for name in ("a", "b"):
        assert table_of(found.data)[name].to_pylist() == expected
    assert same(table_of(found.data).select(["n", "m"]), table.select(["n", "m"]))
    if not changed and not cuts:
        assert found.data == data


def test_a_split_row_group_is_written_in_pieces_that_fit_into_memory(monkeypatch):
    """Only what waits counts: columns of several leaves."""
    monkeypatch.setattr(reader, "_WAITING_BOUND", 1_000)
    options = {"write_page_index": True, "data_page_size": 500, "write_batch_size": 20}
    table = all_types(1_000, 6)
    found = trip(written(table, **options), cuts=[333], batch_rows=50)
    assert len(groups_of(found.data)) > 4
    assert same(table_of(found.data), table_of(written(table, **options)))
    flat = table.select(["text", "binary", "i64"])
    found = trip(written(flat, **options), cuts=[333], batch_rows=50)
    assert groups_of(found.data) == [333, 667]
    assert same(table_of(found.data), flat)


def test_a_row_group_is_no_longer_sorted_by_a_replaced_column():
    table = pa.table({"a": [1] * 50, "b": [f"{n:02d}" for n in range(50)], "c": [1] * 50})
    order = [pq.SortingColumn(0), pq.SortingColumn(1), pq.SortingColumn(2)]
    data = written(table, sorting_columns=order)
    found = trip(data, 10**9, columns=("b",), change=lambda text: text and text[::-1])
    assert pq.read_metadata(io.BytesIO(found.data)).row_group(0).sorting_columns == (order[0],)
    assert pq.read_metadata(io.BytesIO(trip(data, 10**9).data)).row_group(0).sorting_columns == tuple(order)


def test_small_row_groups_are_read_together():
    data = written(all_types(400), row_group_size=4)
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    source.reads = 0
    request = ReadRequest(columns=("text",))
    assert sum(batch.rows for batch in PARQUET.read(source, layout, span(0, 400), request)) == 400
    assert source.reads == 2


def test_null_stays_null_and_equal_values_leave_the_bytes():
    data = written(all_types(300), row_group_size=90)
    found = trip(data, 20_000, columns=("text", "word"))
    assert found.data == data
    assert trip(data, 20_000, columns=("text",), change=lambda _: None).data == data


@pytest.mark.parametrize("cut", [None, [2], [2, 5], [3], [2, 4]])
def test_empty_row_groups_stay_where_they_are(cut):
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    out = io.BytesIO()
    with pq.ParquetWriter(out, schema, write_page_index=True) as writer:
        for rows in (0, 2, 0, 0, 3, 1, 0):
            writer.write_table(pa.table({"a": [1] * rows, "b": ["x"] * rows}, schema))
    data = out.getvalue()
    cuts = [row for row in cut or [] if row]
    found = trip(data, cuts=cuts, columns=("b",), change=lambda text: text and text.upper())
    assert table_of(found.data)["b"].to_pylist() == ["X"] * 6
    if not {3, 4} & set(cuts):
        assert groups_of(found.data) == [0, 2, 0, 0, 3, 1, 0]


def test_a_file_without_rows_comes_out_with_its_schema():
    for groups in (0, 1):
        schema = all_types(0).schema
        out = io.BytesIO()
        with pq.ParquetWriter(out, schema) as writer:
            for _ in range(groups):
                writer.write_table(schema.empty_table())
        found = trip(out.getvalue(), 100)
        assert found.positions == [0, 0]
        assert table_of(found.data).schema.equals(table_of(out.getvalue()).schema, check_metadata=True)
        assert groups_of(found.data) == [0] * groups


def test_batches_are_bounded_by_bytes_and_rows():
    table = pa.table({"wide": [f"{n:06d}" * 2_000 for n in range(400)], "n": list(range(400))})
    data = written(table, row_group_size=400, use_dictionary=False)
    found = trip(data, 10**9, columns=("wide",), change=lambda t: t and t[:6], batch_bytes=100_000)
    assert table_of(found.data)["wide"].to_pylist() == [f"{n:06d}" for n in range(400)]
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    request = ReadRequest(columns=("wide",), batch_bytes=100_000, batch_rows=5)
    sizes = [batch.rows for batch in PARQUET.read(source, layout, span(0, 400), request)]
    assert sum(sizes) == 400
    assert max(sizes) == 5
    request = ReadRequest(columns=("wide",), batch_bytes=100_000)
    assert max(batch.rows for batch in PARQUET.read(source, layout, span(0, 400), request)) <= 16


def test_pyarrow_duckdb_and_polars_read_the_output_equal_with_filters(tmp_path):
    """The filters use the statistics and the page index of copied and of rewritten columns."""
    rows = 6_000
    table = pa.table(
        {
            "id": list(range(rows)),
            "name": [f"n{n:05d}" for n in range(rows)],
            "x": [n / 7 for n in range(rows)],
        }
    )
    options = {"write_page_index": True, "data_page_size": 1_000, "write_batch_size": 50}
    data = written(table, row_group_size=1_500, **options)
    found = trip(data, 20_000, columns=("name",), change=lambda text: text and text.upper())
    assert len(found.positions) > 4
    path = tmp_path / "out.parquet"
    path.write_bytes(found.data)
    expected = [(n, f"N{n:05d}", n / 7) for n in range(rows)]
    for low, high in ((0, rows), (1_499, 1_502), (2_990, 3_010), (5_999, 6_000)):
        wanted = expected[low:high]
        where = f"id >= {low} AND id < {high}"
        assert duckdb.sql(f"SELECT * FROM '{path}' WHERE {where} ORDER BY id").fetchall() == wanted
        names = f"name >= 'N{low:05d}' AND name <= 'N{high - 1:05d}'"
        assert duckdb.sql(f"SELECT * FROM '{path}' WHERE {names} ORDER BY id").fetchall() == wanted
        lazy = pl.scan_parquet(path)
        picked = lazy.filter((pl.col("id") >= low) & (pl.col("id") < high)).collect()
        assert picked.rows() == wanted
        named = lazy.filter(
            pl.col("name").is_between(pl.lit(f"N{low:05d}"), pl.lit(f"N{high - 1:05d}"))
        ).collect()
        assert named.rows() == wanted
    # in a process of its own: pyarrow's scanner leaves threads behind that may abort the interpreter at its
    # end
    script = (
        "import os, sys, pyarrow.parquet as pq\n"
        "for low, high in ((0, 6000), (1499, 1502), (2990, 3010), (5999, 6000)):\n"
        "    f = [('name', '>=', f'N{low:05d}'), ('id', '<', high)]\n"
        "    t = pq.read_table(sys.argv[1], filters=f, use_threads=False)\n"
        "    assert t['id'].to_pylist() == list(range(low, high)), low\n"
        "    assert t['name'].to_pylist() == [f'N{n:05d}' for n in range(low, high)], low\n"
        "print('equal', flush=True)\n"
        "os._exit(0)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == "equal\n", ran.stderr


@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_files_of_other_writers_come_out_as_they_were(tmp_path, engine):
    path = tmp_path / "in.parquet"
    if engine == "polars":
        frame = pl.DataFrame({"a": range(500), "s": [f"v{n % 7}" for n in range(500)], "l": [[1, 2]] * 500})
        frame.write_parquet(path, row_group_size=100)
    else:
        duckdb.sql(
            "COPY (SELECT i, 'v' || (i % 7) AS s, [i, i] AS l, i::DECIMAL(9, 2) AS d, {'x': i} AS st FROM"
            f" range(5000) t(i)) TO '{path}' (ROW_GROUP_SIZE 2048)"
        )
    data = path.read_bytes()
    found = trip(data, len(data) // 3, columns=("s",), change=lambda text: text and text + "!")
    after, before = table_of(found.data), table_of(data)
    assert same(after.drop_columns(["s"]), before.drop_columns(["s"]))
    assert after["s"].to_pylist() == [f"{text}!" for text in before["s"].to_pylist()]
    assert groups_of(found.data) == groups_of(data)
    path.write_bytes(found.data)
    assert duckdb.sql(f"SELECT count(*), count(s) FROM '{path}' WHERE s = 'v3!'").fetchall()[0][0] > 0


def _ends(rows: list[int]) -> list[int]:
    ends = [0]
    for count in rows:
        ends.append(ends[-1] + count)
    return ends
