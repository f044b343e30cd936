"""A compaction needs memory for what is on its way, not for what there is."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

from tests.core.compact.folder import Folder, ids
from tests.support.peaks import measured
from tests.support.s3 import S3

# in a process of its own, whose peak nobody else has raised
SCRIPT = """
import json, sys
from chunkwise.core import memory
from chunkwise.core.compact.model import Options
from chunkwise.core.compact.prefix import compact_prefix
from chunkwise.core.compact.where import Where
from tests.support.s3 import s3_client

endpoint, bucket, way = sys.argv[1:]
client = s3_client(endpoint)

def run(prefix, **options):
    where = Where(uri=f"s3://{bucket}/{prefix}", sources="delete")
    return compact_prefix(client, where, options=Options(**options))

run("warm")
before = memory.peak_rss()
found = run("in", target_bytes=130 << 20, small_bytes=60 << 20, row_group_bytes=16 << 20,
            join_row_group_bytes=0 if way == "joined" else 1 << 40)
print(json.dumps({"grown": memory.peak_rss() - before, "rows": sum(one.rows for one in found.outputs),
                  "ways": sorted({one.way for one in found.outputs}), "files": found.merged}))
"""


@pytest.mark.long
@pytest.mark.parametrize(("way", "bound"), [("rewritten", 200), ("joined", 30)])
def test_peak_memory_is_bounded_whatever_the_folder_has(s3: S3, way: str, bound: int) -> None:
    """Not 200 MB: a row group that is filled, files that are read ahead, and parts under way."""
    folder, warm = Folder(s3), Folder(s3, "warm/")
    for number in range(2):
        warm.put(f"{number}.parquet", ids(10))
    rows = 0
    for number, megabytes in enumerate([6] * 20 + [45, 45]):
        count = megabytes * 10_000
        texts = os.urandom(count * 50).hex()
        offsets = pa.array(range(0, count * 100 + 1, 100), pa.int32())
        column = pa.StringArray.from_buffers(count, offsets.buffers()[1], pa.py_buffer(texts.encode()))
        folder.put(f"{number:02}.parquet", pa.table({"a": column}), compression="none", use_dictionary=False)
        rows += count
    found = measured(SCRIPT, s3.endpoint, s3.bucket, way)
    assert (found["rows"], found["ways"], found["files"]) == (rows, [way], 22)
    assert found["grown"] < bound << 20, f"{found['grown'] >> 20} MiB"
