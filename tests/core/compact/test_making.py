"""A file that is overwritten after it was looked at is left out with those that it was to be merged with."""

from __future__ import annotations

from typing import Any

import pytest

from chunkwise.core.compact import making
from chunkwise.core.compact.model import Compacted
from chunkwise.core.compact.table import compact_table
from tests.core.compact.folder import Folder, ids, written
from tests.support.delta import Lake
from tests.support.s3 import S3


def of_prefix(s3: S3, names: list[str]) -> Compacted:
    folder = Folder(s3)
    for name in names:
        folder.put(name, ids(3))
    return folder.compact()


def of_table(s3: S3, names: list[str]) -> Compacted:
    lake = Lake(s3)
    lake.append(*(lake.put(name, {"id": [1]}) for name in names))
    return compact_table(s3.client, lake.table)


@pytest.mark.parametrize(
    ("compact", "word"), [(of_prefix, "changed"), (of_table, "stale")], ids=["prefix", "table"]
)
def test_what_changed_meanwhile_is_left_out_and_stops_no_other(
    s3: S3, monkeypatch: pytest.MonkeyPatch, compact: Any, word: str
) -> None:
    make = making.make

    def overwriting(client: Any, one: Any, *more: Any) -> Any:
        key = one.files[0].ref.key
        if "ds=1/" in key:
            s3.put(key, written(ids(7)))
        return make(client, one, *more)

    monkeypatch.setattr(making, "make", overwriting)
    names = [f"ds={day}/{number}.parquet" for day in (1, 2) for number in range(2)]
    found = compact(s3, names)
    assert [(one.uri.partition("ds=")[2], one.reason) for one in found.skipped] == [
        ("1/0.parquet", word),
        ("1/1.parquet", word),
    ]
    assert [[uri.partition("ds=")[2] for uri in output.sources] for output in found.outputs] == [
        ["2/0.parquet", "2/1.parquet"]
    ]
    assert found.left_behind == []
