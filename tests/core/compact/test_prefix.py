"""Small files below a prefix become few."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chunkwise.core.compacted import is_named
from chunkwise.core.errors import ConfigError
from chunkwise.core.units import KiB
from tests.core.compact.folder import SCALED, Folder, ids, read_alike
from tests.support.s3 import S3
from tests.support.strict_s3 import StrictS3


@pytest.fixture
def folder(s3: S3) -> Folder:
    return Folder(s3)


def test_small_files_become_one_and_are_deleted(folder: Folder) -> None:
    for number in range(4):
        folder.put(f"{number}.parquet", ids(10, number * 10))
    found = folder.compact()
    (name,) = folder.names()
    assert is_named(name)
    assert folder.rows() == [{"id": n, "name": f"n{n}"} for n in range(40)]
    told = found.to_json(most=50)
    assert (told["files_before"], told["files_after"], told["files_merged"], told["files_deleted"]) == (
        4,
        1,
        4,
        4,
    )
    assert (told["rows"], told["ways"], told["not_merged"]) == (40, {"rewritten": 1}, [])
    read_alike(folder.s3.get(folder.prefix + name))
    assert folder.s3.open_uploads() == []


def test_a_repetition_finds_nothing_to_do(folder: Folder) -> None:
    for number in range(3):
        folder.put(f"{number}.parquet", ids(5))
    folder.compact()
    before = folder.names()
    again = folder.compact()
    assert (again.outputs, again.deleted) == ([], 0)
    assert folder.names() == before


@pytest.mark.parametrize("name", ["a.parquet", "zz.parquet"])
def test_a_file_that_took_over_the_metadata_of_an_output_is_a_file_like_any_other(
    folder: Folder, name: str
) -> None:
    """Readers give such metadata to whatever is written by their schema."""
    for number in range(3):
        folder.put(f"{number}.parquet", {"id": [number], "v": ["old"]}, store_schema=False)
    folder.compact()
    (output,) = folder.names()
    read = pq.read_table(io.BytesIO(folder.s3.get(folder.prefix + output)))
    assert b"chunkwise.compacted" in read.schema.metadata
    folder.put(name, pa.table({"id": [7, 8, 9], "v": ["new"] * 3}).cast(read.schema))
    folder.compact()
    assert sorted(row["id"] for row in folder.rows()) == [0, 1, 2, 7, 8, 9]


@pytest.mark.parametrize(
    "options", [{"min_age": timedelta(days=1)}, {"pattern": "**/other*.parquet"}], ids=["age", "pattern"]
)
def test_what_is_left_of_merged_files_goes_whatever_is_looked_for(
    folder: Folder, options: dict[str, Any]
) -> None:
    for number in range(3):
        folder.put(f"{number}.parquet", ids(5, number * 5))
    folder.compact()
    folder.put("1.parquet", ids(5, 5))  # by a producer who repeats himself
    for number in range(2):
        folder.put(f"other{number}.parquet", ids(1, 15 + number))
    folder.compact(**options)
    assert sorted(row["id"] for row in folder.rows()) == list(range(17))


def test_what_is_compacted_beside_its_sources_takes_nothing_from_another_target(folder: Folder) -> None:
    elsewhere: dict[str, Any] = {"sources": "keep", "output_uri": f"s3://{folder.s3.bucket}/out"}
    for number in range(3):
        folder.put(f"{number}.parquet", ids(5, number * 5))
    folder.compact(**elsewhere)
    folder.compact()
    for number in range(3, 5):
        folder.put(f"{number}.parquet", ids(5, number * 5))
    folder.compact(**elsewhere)
    assert sorted(row["id"] for row in folder.rows("out/")) == list(range(25))


def test_files_that_stay_are_merged_elsewhere_and_once(folder: Folder) -> None:
    for number in range(3):
        folder.put(f"ds=1/{number}.parquet", ids(5, number))
    elsewhere: dict[str, Any] = {"sources": "keep", "output_uri": f"s3://{folder.s3.bucket}/out"}
    first = folder.compact(**elsewhere)
    assert len(folder.names()) == 3
    (name,) = folder.names("out/")
    assert name.startswith("ds=1/compacted-")
    assert len(first.outputs) == 1
    folder.put("ds=1/3.parquet", ids(5, 3))
    folder.put("ds=1/4.parquet", ids(5, 4))
    second = folder.compact(**elsewhere)
    assert [len(output.sources) for output in second.outputs] == [2]
    assert sorted(row["id"] for row in folder.rows("out/")) == sorted(row["id"] for row in folder.rows())
    third = folder.compact(**elsewhere)
    assert (third.outputs, third.deleted) == ([], 0)


def test_outputs_that_are_merged_again_where_they_lie_still_stand_for_their_sources(folder: Folder) -> None:
    """An hourly compaction to another prefix, and a daily one of that prefix."""
    hourly: dict[str, Any] = {"sources": "keep", "output_uri": f"s3://{folder.s3.bucket}/out"}
    out = Folder(folder.s3, "out/")
    for hour in range(3):
        for number in range(2):
            folder.put(f"{hour}{number}.parquet", ids(5, hour * 10 + number * 5))
        folder.compact(**hourly)
    assert len(out.names()) == 3
    out.compact()
    assert len(out.names()) == 1
    again = folder.compact(**hourly)
    assert (again.outputs, again.deleted) == ([], 0)
    assert sorted(row["id"] for row in out.rows()) == list(range(30))
    assert len(folder.names()) == 6


def test_an_output_of_somebody_late_is_deleted_although_sources_are_kept(folder: Folder) -> None:
    hourly: dict[str, Any] = {"sources": "keep", "output_uri": f"s3://{folder.s3.bucket}/out"}
    for number in range(2):
        folder.put(f"{number}.parquet", ids(5, number * 5))
    folder.compact(**hourly)
    (first,) = folder.names("out/")
    late = folder.s3.get(f"out/{first}")
    folder.put("2.parquet", ids(5, 10))
    folder.s3.client.delete_object(Bucket=folder.s3.bucket, Key=f"out/{first}")
    folder.compact(**hourly)
    folder.s3.put(f"out/{first}", late)
    assert folder.compact(**hourly).deleted == 1
    assert sorted(row["id"] for row in folder.rows("out/")) == list(range(15))
    assert len(folder.names()) == 3


def test_folders_are_never_mixed(folder: Folder) -> None:
    for day in (1, 2):
        for number in range(2):
            folder.put(f"ds={day}/{number}.parquet", ids(2, day))
    folder.put("ds=3/alone.parquet", ids(2))
    folder.put("beside.parquet", ids(2))
    found = folder.compact()
    assert sorted(name.rpartition("/")[0] for name in folder.names()) == ["", "ds=1", "ds=2", "ds=3"]
    assert sorted(one.reason for one in found.skipped) == ["alone", "alone"]


def test_what_is_merged_is_chosen_by_name_size_and_age(folder: Folder) -> None:
    for name in ("a.parquet", "b.parquet", "c.parq", "_hidden.parquet", "d.dispatch/x.parquet"):
        folder.put(name, ids(2))
    folder.put("large.parquet", ids(9_000))
    assert folder.compact(min_age=timedelta(hours=1)).outputs == []
    assert folder.compact(pattern="other/*").outputs == []
    assert folder.compact(min_files=3, target_bytes=64 * KiB).outputs == []
    (output,) = folder.compact(target_bytes=64 * KiB).outputs
    assert [uri.rpartition("/")[2] for uri in output.sources] == ["a.parquet", "b.parquet"]


def test_outputs_have_about_the_target_size(folder: Folder) -> None:
    size = len(folder.s3.get(folder.put("00.parquet", ids(50)).rpartition(folder.s3.bucket + "/")[2]))
    for number in range(1, 10):
        folder.put(f"{number:02}.parquet", ids(50, number * 50))
    found = folder.compact(target_bytes=4 * size + 200, small_bytes=2 * size)
    assert [len(output.sources) for output in found.outputs] == [4, 4, 2]
    assert sorted(row["id"] for row in folder.rows()) == list(range(500))


def test_an_output_that_is_small_is_merged_with_what_comes_later(folder: Folder) -> None:
    expected = []
    for day in range(3):
        for number in range(2):
            start = day * 20 + number * 10
            folder.put(f"{day}{number}.parquet", ids(10, start))
            expected += range(start, start + 10)
        folder.compact()
        assert len(folder.names()) == 1
        assert sorted(row["id"] for row in folder.rows()) == expected
    # a producer that repeats itself, long after: the same object is known
    for day in range(3):
        folder.put(f"{day}0.parquet", ids(10, day * 20))
    assert folder.compact().deleted == 3
    assert sorted(row["id"] for row in folder.rows()) == expected


@pytest.mark.parametrize("more", [{}, {"pattern": "in/part-*"}], ids=["another suffix", "a pattern, too"])
def test_outputs_are_known_although_they_have_other_names_than_their_sources(
    folder: Folder, more: dict[str, str]
) -> None:
    chosen: dict[str, Any] = {"suffix": ".pq", **more}
    for number in range(2):
        folder.put(f"part-{number}.pq", ids(5, number * 5))
    assert len(folder.compact(**chosen).outputs) == 1
    folder.put("part-0.pq", ids(5))
    folder.put("part-2.pq", ids(5, 10))
    folder.compact(**chosen)
    assert sorted(row["id"] for row in folder.rows()) == list(range(15))
    assert "part-0.pq" not in folder.names()


def test_files_of_other_schemas_are_merged_among_themselves_and_named(folder: Folder) -> None:
    for number in range(3):
        folder.put(f"a{number}.parquet", ids(2))
    for number in range(2):
        folder.put(f"b{number}.parquet", {"id": ["text"]})
    lone = folder.put("c.parquet", {"id": [1.5], "name": ["x"]})
    found = folder.compact()
    assert sorted(len(output.sources) for output in found.outputs) == [2, 3]
    (skipped,) = found.skipped
    assert (skipped.uri, skipped.reason) == (lone, "schema")
    assert "+ id: double" in skipped.detail
    assert "- id: int64" in skipped.detail


def test_a_file_that_cannot_be_used_is_named_and_stops_no_other(folder: Folder) -> None:
    for number in range(2):
        folder.put(f"{number}.parquet", ids(2))
    folder.s3.put("in/text.parquet", b"this is some text, and no more than that")
    folder.s3.put("in/empty.parquet", b"")
    cut = folder.s3.get("in/0.parquet")
    folder.s3.put("in/cut.parquet", cut[:-40])
    found = folder.compact()
    assert {one.uri.rpartition("/")[2]: one.reason for one in found.skipped} == {
        "text.parquet": "damaged",
        "empty.parquet": "not_parquet",
        "cut.parquet": "damaged",
    }
    assert len(found.outputs) == 1
    assert len(folder.names()) == 4


def test_a_preview_changes_nothing(folder: Folder) -> None:
    for number in range(3):
        folder.put(f"{number}.parquet", ids(2))
    before = folder.names()
    folder.s3.calls.clear()
    told = folder.compact(preview=True).to_json(most=2)
    assert folder.names() == before
    assert set(folder.s3.calls) <= {"ListObjectsV2", "GetObject"}
    assert (told["preview"], told["files_after"], told["bytes"]) == (True, 1, None)
    assert len(told["outputs"][0]["sources"]) == 2
    assert told["outputs"][0]["files"] == 3


def test_large_row_groups_are_copied_by_s3(scaled_s3: StrictS3) -> None:
    """No byte of a row comes to the client."""
    folder = Folder(scaled_s3)
    for number in range(4):
        table = pa.table({"text": [f"{number * 7919 + n:064x}" for n in range(400)]})
        folder.put(
            f"{number}.parquet", table, write_page_index=True, compression="none", use_dictionary=False
        )
    scaled_s3.calls.clear()
    found = folder.compact(join_row_group_bytes=10 * KiB, limits=SCALED)
    (output,) = found.outputs
    assert (output.way, output.client_bytes) == ("joined", 0)
    assert output.server_bytes > 4 * 400 * 64
    assert (output.row_groups, output.rows) == (4, 1_600)
    assert scaled_s3.calls["UploadPartCopy"] == 4
    assert scaled_s3.calls["UploadPart"] == 1
    (name,) = folder.names()
    table = read_alike(scaled_s3.get(folder.prefix + name))
    assert table["text"].to_pylist() == [f"{m * 7919 + n:064x}" for m in range(4) for n in range(400)]
    assert not scaled_s3.refused


def test_codec_dictionaries_and_metadata_stay_where_files_agree(folder: Folder) -> None:
    schema = pa.schema(
        [("word", pa.dictionary(pa.int32(), pa.string())), ("at", pa.timestamp("us", "Europe/Berlin"))],
        metadata={"owner": "me", "part": "x"},
    )
    for number in range(2):
        metadata = {"owner": "me", "part": str(number)}
        columns = [pa.array(["a", "b"]).dictionary_encode(), pa.array([1, 2], schema.types[1])]
        table = pa.table(columns, schema=schema.with_metadata(metadata))
        folder.put(f"{number}.parquet", table, compression="zstd", use_dictionary=["word"])
    folder.compact()
    (name,) = folder.names()
    file = pq.ParquetFile(io.BytesIO(folder.s3.get(folder.prefix + name)))
    assert file.schema_arrow.equals(schema)
    metadata = file.schema_arrow.metadata
    assert metadata[b"owner"] == b"me"
    assert b"part" not in metadata
    group = file.metadata.row_group(0)
    assert [group.column(n).compression for n in range(2)] == ["ZSTD", "ZSTD"]
    assert [group.column(n).has_dictionary_page for n in range(2)] == [True, False]
    assert file.read()["word"].to_pylist() == ["a", "b", "a", "b"]


def test_files_of_pandas_are_of_one_schema(folder: Folder) -> None:
    """What they say of their index differs from file to file."""
    for number in range(2):
        metadata = {b"pandas": b'{"index_columns": [{"kind": "range", "stop": %d}]}' % number}
        folder.put(f"{number}.parquet", pa.table(ids(2)).replace_schema_metadata(metadata))
    assert len(folder.compact().outputs) == 1


@pytest.mark.parametrize(
    "table",
    ["in/_delta_log/0.json", "_delta_log/0.json", "in/.hoodie/x", "in/metadata/v1.metadata.json"],
    ids=["delta", "above", "hudi", "iceberg"],
)
def test_a_table_is_refused(folder: Folder, table: str) -> None:
    folder.put("ds=1/a.parquet", ids(2))
    folder.s3.put(table, b"{}")
    with pytest.raises(ConfigError, match="would break it"):
        folder.compact()


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ({"sources": "keep"}, "would be there twice"),
        ({"sources": "move"}, "sources is 'move'"),
        ({"output_uri": "s3://{bucket}/in/below"}, "lies below"),
        ({"output_uri": "out"}, "output_uri is 'out'"),
        ({"small_bytes": 2, "target_bytes": 1}, "small_bytes is 2"),
        ({"min_files": 1}, "min_files is 1"),
    ],
    ids=["keep", "word", "below", "uri", "sizes", "min"],
)
def test_what_cannot_work_is_refused_first(folder: Folder, places: dict[str, Any], text: str) -> None:
    places = {n: v.format(bucket=folder.s3.bucket) if isinstance(v, str) else v for n, v in places.items()}
    with pytest.raises(ConfigError, match=re.escape(text)):
        folder.compact(**places)
    assert folder.s3.calls == {}
