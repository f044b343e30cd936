"""What is in the files is in the output, value for value, whatever writers and types there are."""

from __future__ import annotations

import io
import tempfile
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.formats.parquet import metadata, thrift
from tests.core.compact.folder import SCALED, Folder, ids, read_alike, written
from tests.core.formats.parquet_files import all_types, same
from tests.support.examples import examples
from tests.support.sources import BytesSource
from tests.support.strict_s3 import StrictS3

WRITERS = st.fixed_dictionaries(
    {
        "compression": st.sampled_from(["none", "snappy", "zstd", "gzip", "lz4"]),
        "row_group_size": st.sampled_from([3, 20, 1000]),
        "use_dictionary": st.booleans(),
        "write_page_index": st.booleans(),
        "write_statistics": st.booleans(),
        "data_page_version": st.sampled_from(["1.0", "2.0"]),
    }
)
#: what all of them know
COMMON = ["i32", "i64", "f64", "bool", "text", "date", "words"]


@examples(60)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=2, max_size=4),
    writers=st.lists(WRITERS, min_size=4, max_size=4),
    version=st.sampled_from(["1.0", "2.6"]),
    told=st.booleans(),
    joins=st.booleans(),
    required=st.booleans(),
    group_bytes=st.sampled_from([1, 2_000, 10**9]),
)
def test_any_files_of_one_schema_become_one_with_the_same_rows(
    scaled_s3: StrictS3,
    sizes: list[int],
    writers: list[dict[str, Any]],
    version: str,
    told: bool,
    joins: bool,
    required: bool,
    group_bytes: int,
) -> None:
    folder = Folder(scaled_s3, "in/")
    for name in folder.names():
        scaled_s3.client.delete_object(Bucket=scaled_s3.bucket, Key=f"in/{name}")
    found = []
    for number, (rows, options) in enumerate(zip(sizes, writers)):
        table = all_types(rows, number, required=required)
        if version == "1.0":
            table = table.drop_columns(["ns"])  # it has no nanoseconds
        body = written(table, version=version, store_schema=told, **options)
        scaled_s3.put(f"in/{number}.parquet", body)
        found.append(pq.ParquetFile(io.BytesIO(body)).read(use_threads=False))
    (output,) = folder.compact(
        join_row_group_bytes=0 if joins else 10**9, row_group_bytes=group_bytes, limits=SCALED
    ).outputs
    assert output.way == ("joined" if joins else "rewritten")
    (name,) = folder.names()
    data = scaled_s3.get(f"in/{name}")
    table = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)
    expected = pa.concat_tables([one.replace_schema_metadata(None) for one in found])
    assert same(table.replace_schema_metadata(None), expected)
    assert pl.read_parquet(data, columns=COMMON).height == sum(sizes)
    assert duck(data, COMMON) == [
        tuple(row[one] for one in COMMON) for row in expected.select(COMMON).to_pylist()
    ]
    assert output.row_groups is not None
    assert joins or group_bytes == 1 or output.row_groups <= max(1, sum(sizes) // 2)


def duck(data: bytes, columns: list[str]) -> list[tuple[Any, ...]]:
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as connection:
        file.write(data)
        file.flush()
        return connection.execute(f"SELECT {', '.join(columns)} FROM read_parquet('{file.name}')").fetchall()


def excluded(data: bytes, word: str) -> int:
    """Row groups that do not have a word, as their bloom filters say."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as connection:
        file.write(data)
        file.flush()
        query = f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{file.name}', 'word', '{word}')"
        return sum(bool(row[0]) for row in connection.execute(query).fetchall())


def test_files_whose_writers_differ_are_written_anew_although_they_are_large(scaled_s3: StrictS3) -> None:
    """Readers correct the errors of a writer by its name: row groups must not get another one's."""
    folder = Folder(scaled_s3)
    folder.put("0.parquet", ids(50))
    body = written(ids(50, 50))
    footer = metadata.read_footer(BytesSource(body))
    head = {**footer.head, metadata.File.CREATED_BY: (thrift.BINARY, b"parquet-mr version 1.13.1 (build x)")}
    scaled_s3.put("in/1.parquet", body[: footer.start] + metadata.footer_bytes(head, 50, footer.groups, 1))
    (output,) = folder.compact(join_row_group_bytes=0, limits=SCALED).outputs
    assert (output.way, output.why) == (
        "rewritten",
        "their writers, or their spellings of the schema, differ",
    )
    assert [row["id"] for row in folder.rows()] == list(range(100))


def test_timestamps_that_cannot_be_written_anew_are_copied(scaled_s3: StrictS3) -> None:
    """Twelve bytes hold dates that no timestamp of pyarrow does."""
    folder = Folder(scaled_s3)
    for number in range(2):
        table = pa.table({"at": pa.array([number * 1_000], pa.timestamp("ns"))})
        folder.put(f"{number}.parquet", table, use_deprecated_int96_timestamps=True)
    (output,) = folder.compact(limits=SCALED).outputs
    assert (output.way, output.why) == (
        "joined",
        "pyarrow would write a column of them as another type",
    )
    assert [row["at"].microsecond for row in folder.rows()] == [0, 1]


def test_small_files_between_large_ones_pass_through_the_client(scaled_s3: StrictS3) -> None:
    folder = Folder(scaled_s3)
    for number, rows in enumerate([400, 3, 400]):
        table = pa.table({"text": [f"{number * 7919 + n:064x}" for n in range(rows)]})
        folder.put(f"{number}.parquet", table, compression="none", use_dictionary=False)
    (output,) = folder.compact(join_row_group_bytes=5_000, limits=SCALED).outputs
    assert output.way == "joined"
    assert 0 < output.client_bytes < 2 * 12_000
    assert output.server_bytes > 2 * 400 * 64 - 12_000
    (name,) = folder.names()
    read_alike(scaled_s3.get(f"in/{name}"))
    assert not scaled_s3.refused


def test_page_indexes_and_bloom_filters_of_copied_row_groups_move_along(scaled_s3: StrictS3) -> None:
    folder = Folder(scaled_s3)
    options = {"row_group_size": 500, "write_page_index": True, "bloom_filter_options": {"word": True}}
    words, before = ("1-000777", "nothing"), [0, 0]
    for number in range(2):
        table = pa.table({"word": [f"{number}-{n:06}" for n in range(2_000)]})
        folder.put(f"{number}.parquet", table, **options)
        for place, word in enumerate(words):
            before[place] += excluded(scaled_s3.get(f"in/{number}.parquet"), word)
    assert before[0] < 8
    assert before[1] > 0
    (output,) = folder.compact(join_row_group_bytes=0, limits=SCALED).outputs
    assert (output.way, output.row_groups) == ("joined", 8)
    (name,) = folder.names()
    data = scaled_s3.get(f"in/{name}")
    assert [excluded(data, word) for word in words] == before
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as connection:
        file.write(data)
        file.flush()
        query = f"SELECT count(*) FROM '{file.name}' WHERE word BETWEEN '1-000100' AND '1-000199'"
        assert connection.execute(query).fetchall() == [(100,)]
    meta = pq.ParquetFile(io.BytesIO(data)).metadata
    assert all(meta.row_group(number).column(0).has_offset_index for number in range(8))


def test_types_that_only_arrow_tells_apart_are_not_mixed(scaled_s3: StrictS3) -> None:
    """A duration is a number to Parquet."""
    folder = Folder(scaled_s3)
    for number in range(2):
        folder.put(f"a{number}.parquet", pa.table({"x": pa.array([1], pa.duration("us"))}))
        folder.put(f"b{number}.parquet", pa.table({"x": pa.array([1], pa.int64())}))
    assert [len(output.sources) for output in folder.compact(limits=SCALED).outputs] == [2, 2]
    kinds = {
        str(pq.read_schema(io.BytesIO(scaled_s3.get(f"in/{name}"))).field("x").type)
        for name in folder.names()
    }
    assert kinds == {"duration[us]", "int64"}


def test_files_that_say_nothing_to_arrow_go_with_those_that_say_nothing_new(scaled_s3: StrictS3) -> None:
    folder = Folder(scaled_s3)
    folder.put("0.parquet", ids(5), store_schema=True)
    folder.put("1.parquet", ids(5, 5), store_schema=False)
    assert len(folder.compact(limits=SCALED).outputs) == 1


@pytest.mark.parametrize("rows", [[0, 0], [0, 5]], ids=["all", "one"])
def test_files_without_rows_are_files(scaled_s3: StrictS3, rows: list[int]) -> None:
    folder = Folder(scaled_s3)
    schema = pa.schema([("id", pa.int64())])
    for number, count in enumerate(rows):
        folder.put(f"{number}.parquet", pa.table({"id": list(range(count))}, schema=schema))
    (output,) = folder.compact(limits=SCALED).outputs
    assert output.rows == sum(rows)
    assert len(folder.rows()) == sum(rows)
