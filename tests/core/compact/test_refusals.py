"""Tables are refused wherever the prefix, or that of the outputs, lies in them."""

from __future__ import annotations

from typing import Any

import pytest

from chunkwise.core.compact.table import compact_table
from chunkwise.core.errors import ConfigError
from tests.core.compact.folder import Folder, ids
from tests.support.delta import Lake
from tests.support.s3 import S3

_MARKS = {
    "delta": "lake/t/_delta_log/00000000000000000000.json",
    "iceberg": "lake/t/metadata/00001-1a2b.metadata.json",
    "iceberg-fs": "lake/t/metadata/v1.metadata.json",
    "hudi": "lake/t/.hoodie/hoodie.properties",
    "hudi-partition": "lake/t/ds=1/.hoodie_partition_metadata",
    "hudi-parquet": "lake/t/ds=1/.hoodie_partition_metadata.parquet",
}


@pytest.mark.parametrize("mark", _MARKS.values(), ids=_MARKS)
def test_folders_inside_of_tables_are_refused(s3: S3, mark: str) -> None:
    folder = Folder(s3, "lake/t/ds=1/hour=2/")
    for number in range(2):
        folder.put(f"{number}.parquet", ids(2))
    s3.put(mark, b"{}")
    with pytest.raises(ConfigError, match="would break it"):
        folder.compact()
    assert len(folder.names()) == 2


@pytest.mark.parametrize("mark", _MARKS.values(), ids=_MARKS)
def test_outputs_inside_of_tables_are_refused(s3: S3, mark: str) -> None:
    folder = Folder(s3)
    for number in range(2):
        folder.put(f"{number}.parquet", ids(2))
    s3.put(mark, b"{}")
    before = s3.keys()
    for place in ("lake/t/ds=1", "lake/t/ds=1/hour=2"):
        with pytest.raises(ConfigError, match="give another output_uri") as caught:
            folder.compact(output_uri=f"s3://{s3.bucket}/{place}")
        assert caught.value.parameters == ("output_uri",)
    assert s3.keys() == before


def test_partitions_of_hudi_below_the_prefix_are_refused(s3: S3) -> None:
    folder = Folder(s3)
    for number in range(2):
        folder.put(f"ds=1/{number}.parquet", ids(2))
    s3.put("in/ds=1/.hoodie_partition_metadata", b"x")
    with pytest.raises(ConfigError, match="is a Hudi table, or a part of one"):
        folder.compact()


def test_folders_of_other_metadata_are_no_table(s3: S3) -> None:
    folder = Folder(s3, "lake/t/ds=1/")
    for number in range(2):
        folder.put(f"{number}.parquet", ids(2))
    for key in ("metadata/notes.json", "lake/metadata/old/v1.metadata.json", "lake/.hoodies", "metadata"):
        s3.put(key, b"{}")
    assert len(folder.compact().outputs) == 1


def test_one_source_that_was_left_is_deleted_although_outputs_lie_elsewhere(s3: S3) -> None:
    folder = Folder(s3)
    elsewhere = f"s3://{s3.bucket}/out"
    for number in range(3):
        folder.put(f"ds=1/{number}.parquet", ids(2, number * 2))
    left = s3.get("in/ds=1/1.parquet")
    folder.compact(output_uri=elsewhere)
    s3.put("in/ds=1/1.parquet", left)  # as if the run had ended before its last deletion
    assert folder.compact(output_uri=elsewhere).deleted == 1
    assert folder.names() == []
    assert [row["id"] for row in folder.rows("out/")] == [*range(6)]


@pytest.mark.parametrize("value", [1, True, ["1"]], ids=["number", "bool", "list"])
def test_values_of_partitions_are_text(s3: S3, value: Any) -> None:
    lake = Lake(s3)
    lake.append(*(lake.put(f"ds=1/{number}.parquet", {"id": [number]}) for number in range(2)))
    with pytest.raises(ConfigError, match="values for 'ds' that are no text"):
        compact_table(s3.client, lake.table, partition={"ds": value})


def test_a_partition_that_the_table_has_not_is_told(s3: S3, caplog: pytest.LogCaptureFixture) -> None:
    lake = Lake(s3)
    lake.append(*(lake.put(f"ds=1/{number}.parquet", {"id": [number]}) for number in range(2)))
    compact_table(s3.client, lake.table, partition={"ds": "1"}, preview=True)
    assert "no file in the partition" not in caplog.text
    assert compact_table(s3.client, lake.table, partition={"ds": "2"}).outputs == []
    assert "no file in the partition" in caplog.text
