"""Files with good footers and bad pages, or with types that few readers know, cost no other file."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from chunkwise.core.compact import outputs
from chunkwise.core.compact.table import compact_table
from tests.core.compact.folder import SCALED, Folder, ids, written
from tests.support.delta import Lake
from tests.support.s3 import S3
from tests.support.strict_s3 import StrictS3

_IDS = [bytes([number]) * 16 for number in range(2)]
_LIST = pa.list_(pa.uuid())


@pytest.fixture
def folder(s3: S3) -> Folder:
    return Folder(s3)


def spoilt(data: bytes) -> bytes:
    """A file whose first page has no header that could be read, and whose footer is as it was."""
    return data[:4] + b"\xff" * 30 + data[34:]


@pytest.mark.parametrize(
    ("column", "logical"),
    [
        (pa.array([_IDS[0], None, _IDS[1]], pa.uuid()), "UUID"),
        (pa.array(['{"a": 1}', None, "[]"], pa.json_()), "JSON"),
        (pa.ListArray.from_arrays([0, 1, 1, 2], pa.array(_IDS, pa.uuid())), "UUID"),
    ],
    ids=["uuid", "json", "list"],
)
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_extension_types_are_written_anew_as_they_are_copied(
    scaled_s3: StrictS3, column: Any, logical: str, told: bool
) -> None:
    found = {}
    for way, size in (("rewritten", 1 << 30), ("joined", 0)):
        folder = Folder(scaled_s3, f"{way}/")
        for number in range(2):
            folder.put(f"{number}.parquet", pa.table({"x": column}), store_schema=told)
        (output,) = folder.compact(join_row_group_bytes=size, limits=SCALED).outputs
        assert output.way == way
        (name,) = folder.names()
        file = pq.ParquetFile(io.BytesIO(scaled_s3.get(folder.prefix + name)))
        assert file.schema.column(0).logical_type.type == logical
        found[way] = file.read().replace_schema_metadata(None)
    assert found["rewritten"].equals(found["joined"])
    assert found["joined"]["x"].to_pylist() == 2 * column.to_pylist()


def test_what_pyarrow_cannot_write_is_named_and_stops_no_other_folder(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        for number in range(2):
            folder.put(f"{name}/{number}.parquet", ids(2))
    rewrite = outputs.rewrite

    def failing(client: Any, files: Any, *more: Any) -> int:
        if "/a/" in files[0].ref.uri:
            raise pa.ArrowInvalid("a secret value does not fit")
        return rewrite(client, files, *more)

    monkeypatch.setattr(outputs, "rewrite", failing)
    found = folder.compact()
    assert [one.reason for one in found.skipped] == ["unsupported", "unsupported"]
    assert "ArrowInvalid" in found.skipped[0].detail
    assert "secret" not in found.skipped[0].detail
    assert [len(output.sources) for output in found.outputs] == [2]
    assert len(folder.names("in/a/")) == 2


def test_a_file_with_damaged_pages_is_named_and_the_others_are_merged(folder: Folder) -> None:
    for number in range(4):
        folder.put(f"{number}.parquet", ids(100, number * 100), use_dictionary=False)
    bad = spoilt(folder.s3.get("in/1.parquet"))
    folder.s3.put("in/1.parquet", bad)
    found = folder.compact()
    assert [(one.uri.rpartition("/")[2], one.reason) for one in found.skipped] == [("1.parquet", "damaged")]
    assert [len(output.sources) for output in found.outputs] == [3]
    assert folder.s3.get("in/1.parquet") == bad
    folder.s3.client.delete_object(Bucket=folder.s3.bucket, Key="in/1.parquet")
    assert [row["id"] for row in folder.rows()] == [*range(100), *range(200, 400)]


def test_one_file_that_is_left_of_several_damaged_ones_is_alone(folder: Folder) -> None:
    for number in range(3):
        folder.s3.put(f"in/{number}.parquet", spoilt(written(ids(100), use_dictionary=False)))
    folder.put("3.parquet", ids(100))
    found = folder.compact()
    assert [one.reason for one in found.skipped] == ["damaged", "damaged", "damaged", "alone"]
    assert (found.outputs, len(folder.names())) == ([], 4)


def test_a_file_of_a_table_with_damaged_pages_is_named_and_the_others_are_merged(s3: S3) -> None:
    lake = Lake(s3)
    data = written(ids(100), use_dictionary=False)
    bodies = [spoilt(data) if number == 2 else data for number in range(4)]
    lake.append(*(lake.put_bytes(f"{number}.parquet", body) for number, body in enumerate(bodies)))
    found = compact_table(s3.client, lake.table)
    assert [(one.uri.rpartition("/")[2], one.reason) for one in found.skipped] == [("2.parquet", "damaged")]
    assert [len(output.sources) for output in found.outputs] == [3]
    assert len(lake.open().file_uris()) == 2
