"""What a plan says of a Parquet file before anything is processed."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chunkwise.core.dispatch.model import Manifest
from chunkwise.core.errors import ConfigError, SchemaMismatch, UnsupportedSource
from chunkwise.core.protect.mapping import parse_mapping
from chunkwise.core.protect.protector import ProtectorSpec
from tests.core.dispatch.driver import Job
from tests.core.formats.parquet_files import all_types, groups_of, same, table_of, written

VALUES: dict[str, Any] = {
    "text": pa.array(["x"]),
    "bytes": pa.array([b"x"]),
    "number": pa.array([1]),
    "price": pa.array([Decimal("1.10")]),
    "day": pa.array([0], pa.date32()),
    "fixed": pa.array([b"four"], pa.binary(4)),
    "list": pa.array([["x"]]),
    "struct": pa.array([{"a": "x"}]),
}


def protecting(*columns: str, of: list[str]) -> dict[str, Any]:
    mapping = {
        "columns": {name: {"operation": "protect", "data_element": name} for name in columns},
        "ignored-columns": [name for name in of if name not in columns],
    }
    return {
        "mapping": parse_mapping(json.dumps(mapping).encode(), "mapping.json"),
        "protector": ProtectorSpec(name="hmac", secret="key"),
    }


def test_a_manifest_has_the_row_groups_of_its_chunk_only(s3):
    """However many others there are."""
    sizes = {}
    for groups in (20, 200):
        table = pa.table({"n": list(range(groups * 10)), "t": [f"{n:040d}" for n in range(groups * 10)]})
        data = written(table, row_group_size=10, compression="none", use_dictionary=False)
        key = f"{groups}.parquet"
        s3.put(key, data)
        job = Job(s3, key, chunk_bytes=len(data) * 4 // groups, **protecting("t", of=["n", "t"]))
        job.secrets = {"key": "k" * 32}
        plan = job.plan()
        manifests = [job.staging.manifest_key(chunk) for chunk in range(plan.chunks)]
        sizes[groups] = max(len(s3.get(key)) for key in manifests)
        numbers = []
        for chunk, manifest in enumerate(manifests):
            found = job.staging.get(manifest, Manifest)[0]
            assert found.layout.extent == plan.layout.extent
            count, before = map(int, found.layout.details["groups"].split(":")[:2])
            numbers += range(before, before + count)
            assert plan.span(chunk).start.position == before * 10
        assert numbers == list(range(groups))
        if groups == 20:
            job.process()
            job.merge()
            assert groups_of(job.output) == [10] * groups
            assert table_of(job.output)["n"].equals(table["n"])
    assert sizes[200] < sizes[20] + 50


def test_chunks_within_a_row_group_are_narrowed_too(s3):
    data = written(all_types(2_000), write_page_index=True, data_page_size=500, write_batch_size=20)
    s3.put("one.parquet", data)
    job = Job(s3, "one.parquet", chunk_bytes=len(data) // 5)
    assert job.plan().chunks > 2
    job.process()
    job.merge()
    assert same(table_of(job.output), table_of(data))


@pytest.mark.parametrize("column", ["number", "price", "day", "fixed", "list", "struct"])
@pytest.mark.parametrize("output", ["preserve_input_format", "jsonl"])
def test_a_column_that_holds_no_texts_cannot_be_protected(s3, column, output):
    """The plan says so, not the first chunk."""
    s3.put("f.parquet", written(pa.table(VALUES)))
    job = Job(s3, "f.parquet", output_format=output, **protecting("text", column, of=list(VALUES)))
    with pytest.raises(SchemaMismatch, match=rf"column '{column}' of s3://.*/f.parquet is of type .*string"):
        job.plan()
    assert s3.keys() == ["f.parquet"]


def test_texts_and_bytes_can_be_protected(s3):
    s3.put("f.parquet", written(pa.table(VALUES)))
    job = Job(s3, "f.parquet", **protecting("text", "bytes", of=list(VALUES)))
    job.secrets = {"key": "k" * 32}
    job.run()
    found = table_of(job.output)
    assert found["text"].to_pylist() != ["x"]
    assert len(found["bytes"].to_pylist()[0]) > 1
    names = [name for name in VALUES if name not in ("text", "bytes")]
    assert found.select(names).equals(pa.table(VALUES).select(names))


def test_twins_cannot_be_converted_but_kept(s3):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    out = io.BytesIO()
    pq.write_table(table, out)
    s3.put("f.parquet", out.getvalue())
    with pytest.raises(UnsupportedSource, match=r"f.parquet has several columns 'a'"):
        Job(s3, "f.parquet", output_format="jsonl").plan()
    job = Job(s3, "f.parquet")
    job.run()
    assert job.output == out.getvalue()


def test_members_of_one_name_cannot_be_converted_but_kept(s3):
    """Wherever in a column they stand."""
    twins = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    data = written(pa.table({"s": pa.ListArray.from_arrays([0, 1], twins)}))
    s3.put("f.parquet", data)
    with pytest.raises(UnsupportedSource, match=r"column 's' of s3://.*f.parquet has .* several members 'a'"):
        Job(s3, "f.parquet", output_format="jsonl").plan()
    job = Job(s3, "f.parquet")
    job.run()
    assert job.output == data


def test_a_type_for_a_column_that_the_header_lacks_ends_the_plan(s3):
    s3.put("f.csv", b"x,y\n1,2\n")
    wrong = {"schema": {"X": "int64"}}
    with pytest.raises(ConfigError, match=r"column 'X', which the source has not: it has 'x', .* case"):
        Job(s3, "f.csv", output_format="parquet", output_options=wrong).plan()
    assert s3.keys() == ["f.csv"]


def test_durations_go_from_csv_to_parquet(s3):
    s3.put("f.csv", b"d,t\n5,12:00:00.123456789\n,\n-7,00:00\n")
    schema = {"d": "duration[us]", "t": "time64[ns]"}
    job = Job(s3, "f.csv", output_format="parquet", output_options={"schema": schema})
    job.run()
    found = table_of(job.output)
    assert found["d"].cast(pa.int64()).to_pylist() == [5, None, -7]
    assert found["t"].cast(pa.int64()).to_pylist() == [43_200_123_456_789, None, 0]
