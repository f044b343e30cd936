"""How often a compaction asks S3: the docstring of the operator says these numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from chunkwise.core.compact import holding
from chunkwise.core.compact.table import compact_table
from tests.core.compact.folder import SCALED, Folder, ids
from tests.support.delta import Lake, lake
from tests.support.s3 import S3
from tests.support.strict_s3 import StrictS3

__all__ = ["lake"]

#: prefix and depth of it, of outputs elsewhere and depth of it, and what becomes of sources
PLACES: dict[str, tuple[str, int, str, int, str]] = {
    "beside": ("in/", 1, "", 0, "delete"),
    "deep": ("a/b/c/", 3, "", 0, "delete"),
    "elsewhere": ("in/", 1, "out", 1, "delete"),
    "keep": ("in/", 1, "x/out", 2, "keep"),
}


@pytest.fixture(autouse=True)
def long_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow a machine is, none is renewed."""
    monkeypatch.setattr(holding, "_TTL", 86_400.0)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize(("busy", "lone"), [(0, 0), (1, 0), (2, 3)], ids=str)
def test_requests_for_a_prefix(s3: S3, places: str, busy: int, lone: int) -> None:
    prefix, depth, output, output_depth, sources = PLACES[places]
    folder = Folder(s3, prefix)
    for day in range(busy):
        for number in range(3):
            folder.put(f"busy={day}/{number}.parquet", ids(5, number * 5))
    for day in range(lone):
        folder.put(f"lone={day}/0.parquet", ids(5))
    s3.calls.clear()
    more: dict[str, Any] = {"output_uri": f"s3://{s3.bucket}/{output}"} if output else {}
    assert len(folder.compact(sources=sources, **more).outputs) == busy
    above = 4 * (depth + 1) + (4 * (output_depth + 1) if output else 0)
    leftovers = lone if output and sources == "delete" else 0
    assert s3.calls == +Counter(
        ListObjectsV2=1 + above + busy * (2 if output else 1) + leftovers,
        GetObject=busy * (3 + 3 + 1),
        HeadObject=busy * 2,
        PutObject=busy * (1 + 1),
        ListMultipartUploads=busy,
        DeleteObject=busy * (1 + (3 if sources == "delete" else 0)),
    )


def test_requests_for_an_output_of_parts(scaled_s3: StrictS3) -> None:
    folder = Folder(scaled_s3)
    for number in range(3):
        folder.put(f"{number}.parquet", ids(4000, number * 10), row_group_size=4000)
    scaled_s3.calls.clear()
    (output,) = folder.compact(join_row_group_bytes=1, limits=SCALED).outputs
    assert output.way == "joined"
    assert scaled_s3.calls == Counter(
        ListObjectsV2=1 + 4 * 2 + 1,
        GetObject=3 + 3 + 1,
        HeadObject=2,
        PutObject=1,
        CreateMultipartUpload=1,
        UploadPartCopy=3,
        UploadPart=1,
        CompleteMultipartUpload=1,
        ListMultipartUploads=1,
        DeleteObject=1 + 3,
    )


@pytest.mark.parametrize("files", [1, 3, 5])
def test_requests_for_a_table(lake: Lake, files: int) -> None:
    for number in range(files):
        lake.append(lake.put(f"{number}.parquet", {"id": [number]}))
    lake.s3.calls.clear()
    outputs = len(compact_table(lake.s3.client, lake.table).outputs)
    assert outputs == (files > 1)
    assert lake.s3.calls == +Counter(
        ListObjectsV2=3,
        GetObject=2 * files + outputs * (2 * files + 2),
        HeadObject=2 * outputs,
        PutObject=outputs * (1 + 1),
    )
