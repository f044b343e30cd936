"""A chunk needs memory for batches and blocks, not for its size."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.peaks import measured

# in a process of its own, whose peak nobody else has raised
SCRIPT = """
import json, os, sys
from chunkwise.core import memory
from chunkwise.core.formats.model import Boundary, ReadRequest, Span
from chunkwise.core.formats.parquet import Parquet

class File:
    def __init__(self, path):
        self.handle, self.size, self.name = os.open(path, os.O_RDONLY), os.path.getsize(path), path
    def read(self, start, end):
        return os.pread(self.handle, end - start, start)
    def stream(self, start, end):
        for place in range(start, end, 1 << 22):
            yield self.read(place, min(end, place + (1 << 22)))

path, mode, start, end = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
parquet, source = Parquet(), File(path)
layout = parquet.inspect(source, {})
before = memory.peak_rss()
columns = tuple(mode.removeprefix("replace ")) if mode.startswith("replace") else ()
request = ReadRequest(columns=columns, records=mode == "records", native=mode != "records")
span = Span(start=Boundary(position=start), end=Boundary(position=end))
reader = parquet.read(source, layout, span, request)
encoder = parquet.encoder(parquet.target(layout, {}, native=True))
out = 0
for batch in reader:
    if mode == "records":
        out += sum(map(len, batch.records()))
        continue
    for column in columns and batch.columns:
        batch.replace(column, [value[::-1] for value in batch.values(column)])
    out += sum(map(len, encoder.native(batch)))
if mode != "records":
    out += sum(map(len, encoder.finish(reader)))
print(json.dumps({"rows": reader.rows, "out": out, "grown": memory.peak_rss() - before}))
"""

ROWS = 400_000


@pytest.fixture(scope="module")
def giant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One row group of 240 MB that does not compress."""
    path = tmp_path_factory.mktemp("parquet") / "giant.parquet"
    names = ("a", "b", "c")
    columns = []
    for _ in names:
        texts = os.urandom(ROWS * 100).hex()
        offsets = pa.array(range(0, ROWS * 200 + 1, 200), pa.int32())
        columns.append(pa.StringArray.from_buffers(ROWS, offsets.buffers()[1], pa.py_buffer(texts.encode())))
    pq.write_table(
        pa.Table.from_arrays(columns, names=names),
        path,
        row_group_size=ROWS,
        compression="none",
        use_dictionary=False,
        write_page_index=True,
    )
    return path


@pytest.mark.parametrize(
    ("mode", "start", "end", "bound"),
    [
        ("copy", 0, ROWS, 24),
        ("replace a", 0, ROWS, 110),
        ("replace abc", 0, ROWS, 110),
        ("records", 0, ROWS, 90),
        ("copy", 1_000, ROWS - 1, 90),
        ("replace abc", 1_000, ROWS - 1, 110),
    ],
)
def test_peak_memory_is_bounded_whatever_the_row_group_has(giant, mode, start, end, bound):
    """Not 240 MB: blocks when copied, batches when read, a few MiB of one column when written anew."""
    found = measured(SCRIPT, str(giant), mode, str(start), str(end))
    assert found["rows"] == end - start
    assert found["out"] > (end - start) * 590
    assert found["grown"] < bound << 20, f"{found['grown'] >> 20} MiB"
