"""What a compaction wrote is lost: the report says which of the files that it was made of are still there."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from chunkwise.core.compact.table import compact_table
from chunkwise.core.delta import Settings, reconcile
from chunkwise.core.delta.findings import Reconciled
from tests.support.delta import Lake, kinds


def look(lake: Lake, **options: Any) -> Reconciled:
    return reconcile(
        lake.s3.client, lake.table, settings=Settings(), **{"grace": timedelta(seconds=-60), **options}
    )


def by_chunkwise(lake: Lake) -> None:
    compact_table(lake.s3.client, lake.table)


def by_deltalake(lake: Lake) -> None:
    lake.open().optimize.compact()


def lose(lake: Lake, day: int) -> str:
    """Delete the file of a day; its URI."""
    (uri,) = (one for one in lake.open().file_uris() if f"ds={day}/" in one)
    lake.delete(uri.partition(f"{lake.uri}/")[2])
    return uri


@pytest.mark.parametrize("merge", [by_chunkwise, by_deltalake])
def test_the_report_names_what_is_left_of_the_sources_and_how_rows_come_back(
    lake: Lake, merge: Callable[[Lake], None]
) -> None:
    files = [lake.put(f"ds={day}/{at}.parquet", {"id": [10 * day + at]}) for day in (1, 2) for at in range(3)]
    lake.append(*files)
    merge(lake)
    uri = lose(lake, 1)
    lake.delete("ds=1/2.parquet")
    lake.put("ds=1/1.parquet", {"id": [7, 7]})
    found = look(lake, repair=["missing"], report_uri=f"s3://{lake.s3.bucket}/report.jsonl")
    (lost,) = (one for one in found.examples if one.kind == "missing")
    assert (lost.uri, lost.made_of, lost.sources) == (uri, 3, (files[0].uri,))
    (line,) = (
        one for one in map(json.loads, lake.s3.get("report.jsonl").splitlines()) if one["kind"] == "missing"
    )
    assert line.items() >= {"made_of": 3, "sources": [files[0].uri], "verdict": "removed"}.items()
    assert "copy what it was made of" in line["detail"]
    assert [row["id"] for row in lake.rows("id")] == [20, 21, 22]
    # as it is said: under its own name it is known, under another one it is new
    assert kinds(lake.append(files[0])) == ["replay"]
    assert kinds(lake.append(lake.put("ds=1/again.parquet", {"id": [10]}))) == ["added"]
    assert [row["id"] for row in lake.rows("id")] == [10, 20, 21, 22]


def test_a_missing_file_that_no_compaction_wrote_has_no_sources(lake: Lake) -> None:
    lake.append(*(lake.put(f"{name}.parquet", {"id": [1]}) for name in "abc"))
    lake.delete("a.parquet")
    (lost,) = look(lake).examples
    assert (lost.made_of, lost.sources, "sources" in lost.to_json()) == (0, (), False)


def test_where_the_log_is_cleaned_nothing_is_known_of_sources(lake: Lake) -> None:
    for name in "abc":
        lake.append(lake.put(f"ds=1/{name}.parquet", {"id": [1]}))
    by_chunkwise(lake)
    lake.append(lake.put("ds=1/d.parquet", {"id": [2]}))
    lake.open().create_checkpoint()
    lake.drop_log(4)
    lake.delete(
        next(one for one in lake.open().file_uris() if "compacted" in one).partition(f"{lake.uri}/")[2]
    )
    (lost,) = (one for one in look(lake).examples if one.kind == "missing")
    assert lost.made_of == 0


def test_sources_of_so_many_files_are_looked_for(lake: Lake) -> None:
    for day in range(3):
        lake.append(*(lake.put(f"ds={day}/{at}.parquet", {"id": [at]}) for at in range(3)))
    by_chunkwise(lake)
    for day in range(3):
        lose(lake, day)
    lake.s3.calls.clear()
    found = look(lake, most=2)
    assert [(one.made_of, len(one.sources)) for one in found.examples if one.kind == "missing"] == [
        (3, 2)
    ] * 2
    before = lake.s3.calls["ListObjectsV2"]
    lake.s3.calls.clear()
    assert look(lake, most=0).counts == found.counts
    assert before - lake.s3.calls["ListObjectsV2"] == 4
