"""Parquet files for tests, and the way of one through plan, processors and merge."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chunkwise.core.formats.model import Boundary, Layout, Part, ReadRequest, Span
from chunkwise.core.formats.parquet import Parquet
from chunkwise.core.segments import Literal, Segment
from tests.support.sources import BytesSource

PARQUET = Parquet()


def written(table: pa.Table, **options: Any) -> bytes:
    """A table as a file."""
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def table_of(data: bytes) -> pa.Table:
    """A file as a table, read by pyarrow without its threads."""
    return pq.ParquetFile(io.BytesIO(data)).read(use_threads=False)


def same(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables are equal, schema and metadata included; row groups may have dictionaries of their
    own."""
    return one.schema.equals(other.schema, check_metadata=True) and _plain(one).equals(_plain(other))


def _plain(table: pa.Table) -> pa.Table:
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.Table.from_arrays(columns, names=table.column_names)


def groups_of(data: bytes) -> list[int]:
    """Rows of each row group."""
    meta = pq.read_metadata(io.BytesIO(data))
    return [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]


@dataclass
class Trip:
    """What came of a file.

    :param data: the output.
    :param parts: as they were joined.
    :param positions: of the cuts.
    :param through: bytes that went through the client.
    """

    data: bytes
    parts: list[Part]
    positions: list[int]
    through: int


def trip(
    data: bytes,
    chunk_bytes: int | None = None,
    *,
    cuts: Sequence[int] | None = None,
    columns: tuple[str, ...] = (),
    change: Callable[[str | None], str | None] = lambda text: text,
    **request: Any,
) -> Trip:
    """Plan, process and merge.

    :param chunk_bytes: of the plan, or:
    :param cuts: rows at which to cut.
    :param columns: whose values are changed.
    :param change: how.
    """
    source = BytesSource(data)
    layout = PARQUET.inspect(source, {})
    if cuts is None:
        assert chunk_bytes is not None
        near = PARQUET.wanted(layout, chunk_bytes)
        cuts = [PARQUET.cut(source, layout, position).position for position in near]
    positions = [0, *cuts, layout.extent]
    target = PARQUET.target(layout, {}, native=True)
    parts = []
    for number, (start, end) in enumerate(pairwise(positions)):
        asked = ReadRequest(columns=columns, native=True, **request)
        reader = PARQUET.read(source, PARQUET.narrow(layout, span(start, end)), span(start, end), asked)
        encoder = PARQUET.encoder(target)
        out = bytearray()
        seen: dict[str, int] = dict.fromkeys(columns or ("",), 0)
        for batch in reader:
            names = batch.columns if batch.columns is not None else columns or ("",)
            for column in names:
                assert batch.first == seen[column]
                seen[column] += batch.rows
            for column in names if columns and batch.rows else ():
                batch.replace(column, [change(value) for value in batch.values(column)])
            for piece in encoder.native(batch):
                out += piece
        for piece in encoder.finish(reader):
            out += piece
        assert (reader.start.position, reader.end.position) == (start, end)
        assert {reader.rows, *seen.values()} == {end - start}
        parts.append(part(number, bytes(out), reader.rows, encoder.notes()))
    segments = list(PARQUET.join(target, parts, source))
    through = sum(segment.size for segment in segments if isinstance(segment, Literal))
    return Trip(data=assembled(segments), parts=parts, positions=positions, through=through)


def span(start: int, end: int) -> Span:
    return Span(start=Boundary(position=start), end=Boundary(position=end))


def part(chunk: int, data: bytes, rows: int, notes: dict[str, Any]) -> Part:
    source = BytesSource(data, f"memory://part-{chunk}")
    return Part(
        chunk=chunk,
        ref=source if data else None,
        size=len(data),
        rows=rows,
        notes=notes,
        source=source if data else None,
    )


def assembled(segments: Sequence[Segment]) -> bytes:
    return b"".join(s.data if isinstance(s, Literal) else s.of.data[s.start : s.end] for s in segments)


def converted(layout: Layout, options: dict[str, Any], *chunks: list[bytes]) -> bytes:
    """JSON rows of some chunks as one file."""
    target = PARQUET.target(layout, options, native=False)
    parts = []
    for number, rows in enumerate(chunks):
        encoder = PARQUET.encoder(target)
        out = b"".join(encoder.convert(rows, 0))
        out += b"".join(encoder.finish(None))  # type: ignore[arg-type]
        parts.append(part(number, out, len(rows), encoder.notes()))
    return assembled(list(PARQUET.join(target, parts, None)))


def all_types(rows: int, seed: int = 0, *, required: bool = False) -> pa.Table:
    """A table with every common type, with nulls unless they are forbidden."""
    chance = random.Random(seed)

    def some(make: Callable[[], Any]) -> list[Any]:
        return [None if not required and chance.random() < 0.2 else make() for _ in range(rows)]

    def text() -> str:
        return chance.choice(["", "ü\u2028", '"q"', "007", "x" * chance.randrange(40), f"{chance.random()}"])

    def moment() -> datetime:
        return datetime(1970, 1, 1) + timedelta(microseconds=chance.randrange(-(10**15), 10**16))

    columns: dict[str, tuple[pa.DataType, Callable[[], Any]]] = {
        "i8": (pa.int8(), lambda: chance.randrange(-128, 128)),
        "u16": (pa.uint16(), lambda: chance.randrange(1 << 16)),
        "i32": (pa.int32(), lambda: chance.randrange(-(1 << 31), 1 << 31)),
        "u32": (pa.uint32(), lambda: chance.randrange(1 << 32)),
        "i64": (pa.int64(), lambda: chance.randrange(-(1 << 63), 1 << 63)),
        "u64": (pa.uint64(), lambda: chance.randrange(1 << 64)),
        "f32": (pa.float32(), lambda: chance.choice([0.0, -0.0, 1.5, 1e30])),
        "f64": (pa.float64(), lambda: chance.choice([0.1, -0.0, 1e300, float("inf")])),
        "bool": (pa.bool_(), lambda: chance.random() < 0.5),
        "text": (pa.string(), text),
        "large": (pa.large_string(), text),
        "word": (pa.dictionary(pa.int32(), pa.string()), lambda: chance.choice(["red", "green", "blue"])),
        "binary": (pa.binary(), lambda: chance.randbytes(chance.randrange(9))),
        "fixed": (pa.binary(4), lambda: chance.randbytes(4)),
        "decimal": (pa.decimal128(20, 3), lambda: Decimal(chance.randrange(-(10**19), 10**19)).scaleb(-3)),
        "wide": (pa.decimal256(60, 0), lambda: Decimal(chance.randrange(10**59))),
        "date": (pa.date32(), lambda: date.fromordinal(chance.randrange(600_000, 900_000))),
        "time": (pa.time64("us"), lambda: moment().time()),
        "plain_ts": (pa.timestamp("ms"), lambda: moment().replace(microsecond=0)),
        "zoned_ts": (pa.timestamp("us", "Europe/Berlin"), moment),
        "ns": (pa.timestamp("ns"), lambda: chance.randrange(1 << 60)),
        "words": (pa.list_(pa.string()), lambda: [text() for _ in range(chance.randrange(4))]),
        "deep": (
            pa.struct([("a", pa.int64()), ("b", pa.list_(pa.struct([("c", pa.string())])))]),
            lambda: {"a": chance.randrange(99), "b": [{"c": text()} for _ in range(chance.randrange(3))]},
        ),
        "pair": (
            pa.struct(
                [
                    pa.field("flag", pa.bool_(), nullable=not required),
                    pa.field("long", pa.string(), nullable=not required),
                    pa.field(
                        "in",
                        pa.struct([pa.field("n", pa.int32(), nullable=not required)]),
                        nullable=not required,
                    ),
                ]
            ),
            lambda: {
                "flag": chance.random() < 0.5,
                "long": text() * 3,
                "in": {"n": chance.randrange(9)},
            },
        ),
        "map": (
            pa.map_(pa.string(), pa.int32()),
            lambda: [(f"k{n}", n) for n in range(chance.randrange(3))],
        ),
        "nothing": (pa.string(), lambda: None if not required else ""),
    }
    fields, arrays = [], []
    for name, (kind, make) in columns.items():
        fields.append(pa.field(name, kind, nullable=not required, metadata={"about": name}))
        arrays.append(pa.array(some(make), kind))
    schema = pa.schema(fields, metadata={"made": "by a test", "ü": "x"})
    return pa.Table.from_arrays(arrays, schema=schema)
