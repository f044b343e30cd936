"""Plans, exact plans and merges: figures that have no peer to stand beside."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.dispatch.people import blocks, row
from chunkwise.core import memory
from chunkwise.core.dispatch import boundaries
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.process import process_group
from chunkwise.core.dispatch.spec import DEFAULT_CHUNK, Config, Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.formats.registry import format_named
from chunkwise.core.storage import S3Writer

MB, MIB = 1e6, 2**20
TERABYTE = 10**12


class Repeated:
    """A source of any size that repeats one block of records, and counts what is read of it."""

    name = "memory://repeated"

    def __init__(self, head: bytes, block: bytes, tail: bytes, size: int) -> None:
        self._head, self._block, self._tail = head, block, tail
        self._times = max(1, (size - len(head) - len(tail)) // len(block))
        self.size = len(head) + self._times * len(block) + len(tail)
        self.reads = self.bytes_read = 0

    def read(self, start: int, end: int) -> bytes:
        """One ranged read."""
        data = b"".join(self._pieces(start, min(end, self.size)))
        self.reads += 1
        self.bytes_read += len(data)
        return data

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """Blocks of 8 MiB."""
        for position in range(start, end, 8 * MIB):
            yield b"".join(self._pieces(position, min(position + 8 * MIB, end)))

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        body_end = self.size - len(self._tail)
        yield self._head[start:end]
        position = max(start, len(self._head))
        while position < min(end, body_end):
            offset = (position - len(self._head)) % len(self._block)
            piece = self._block[offset : offset + min(end, body_end) - position]
            yield piece
            position += len(piece)
        if end > body_end:
            yield self._tail[max(0, start - body_end) : end - body_end]


def source_of(kind: str, size: int) -> Repeated:
    """People of about ``size`` bytes; a tenth of the CSV's notes are quoted and hold a line break."""
    if kind == "json":
        import json

        block = b"".join(json.dumps(row(number)).encode() + b",\n" for number in range(50_000))
        return Repeated(b"[\n", block, json.dumps(row(0)).encode() + b"\n]\n", size)
    data = b"".join(blocks(kind, 8 * MIB))
    head, _, body = data.partition(b"\n") if kind == "csv" else (b"", b"", data)
    if kind == "csv":
        lines = body.split(b"\n")
        for number in range(0, len(lines) - 1, 10):
            before, _, note = lines[number].rpartition(b",")
            lines[number] = before + b',"' + note + b'\nsecond ""line"""'
        body, head = b"\n".join(lines), head + b"\n"
    return Repeated(head, body, b"", size)


def huge_plan() -> None:
    """Plan one terabyte."""
    print("\n## Plan 1 TB (simulated source)\n")
    print("| file | chunks | seconds | reads a chunk | KiB a chunk | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind in ("jsonl", "csv", "json"):
        source = source_of(kind, TERABYTE)
        memory.reset_peak()
        format_ = format_named(kind)
        started = time.monotonic()
        layout = format_.inspect(source, {})
        positions, _ = boundaries.wanted(format_, layout, DEFAULT_CHUNK)
        tiles = boundaries.assume(format_, source, layout, positions)
        seconds = time.monotonic() - started
        chunks = len(tiles) - 1
        print(
            f"| {kind} | {chunks} | {seconds:.1f} | {source.reads / chunks:.2f} |"
            f" {source.bytes_read / chunks / 1024:.0f} | {memory.peak_rss() / MIB:.0f} |",
            flush=True,
        )


def exact_mode(size: int) -> None:
    """Find boundaries by a pass over everything, in one thread."""
    print("\n## Exact mode, one core\n")
    print("| file | MB | CPU s | MB/s | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind in ("jsonl", "csv", "json"):
        for factor in (1, 4):
            source = source_of(kind, size * factor)
            memory.reset_peak()
            format_ = format_named(kind)
            layout = format_.inspect(source, {})
            positions, _ = boundaries.wanted(format_, layout, 8 * MIB)
            started = time.process_time()
            assert len(boundaries.prove(format_, source, layout, positions)) > 2
            seconds = time.process_time() - started
            print(
                f"| {kind} | {source.size / MB:.0f} | {seconds:.2f} | {source.size / MB / seconds:.0f} |"
                f" {memory.peak_rss() / MIB:.0f} |",
                flush=True,
            )


def merges(client: Any, bucket: str, parts: int = 200) -> None:
    """Whole dispatches in chunks of 8 MiB; what their merges sent through the client."""
    print(f"\n## Merge of {parts} parts of 8 MiB\n")
    print("| file | MB | parts | seconds | requests | bytes through the client | share |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in ("jsonl", "csv", "parquet"):
        key = f"merge.{kind}"
        with S3Writer(client, bucket, key) as writer:
            for block in _parquet(parts) if kind == "parquet" else blocks(kind, parts * 8 * MIB):
                writer.write(block)
        staging = Staging.beside(client, bucket, key)
        config = Config(
            target=Target(bucket=bucket, key=f"out/{key}"),
            threshold_bytes=None,
            chunk_bytes=8 * MIB,
            groups=1,
        )
        plan_dispatch(client, Source(bucket=bucket, key=key), config, staging, on_existing="restart")
        process_group(client, staging, 0)
        receipt = merge_parts(client, staging, owner="bench", run="1")
        print(
            f"| {kind} | {receipt.bytes / MB:.0f} | {receipt.chunks} | {receipt.seconds:.1f} |"
            f" {receipt.requests} | {receipt.uploaded_bytes:,} |"
            f" {receipt.uploaded_bytes / receipt.bytes:.4%} |",
            flush=True,
        )
        client.delete_object(Bucket=bucket, Key=key)
        client.delete_object(Bucket=bucket, Key=f"out/{key}")


def _parquet(parts: int) -> Iterator[bytes]:
    """A Parquet file with a row group of about 8 MiB for each part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = _Sink()
    rows = 60_000
    schema = pa.table({name: [value] for name, value in row(0).items()}).schema
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for part in range(parts):
            table = pa.Table.from_pylist([row(part * rows + number) for number in range(rows)])
            writer.write_table(table, row_group_size=rows)
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """Keeps what was written until it is taken, and the position in all of it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
