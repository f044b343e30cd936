"""A prefix with Parquet files, and what its readers see."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from chunkwise.core.compact.model import Compacted, Options
from chunkwise.core.compact.prefix import compact_prefix
from chunkwise.core.compact.where import Where
from chunkwise.core.storage.concat_plan import Limits
from chunkwise.core.units import KiB, MiB
from tests.support.s3 import S3

#: of ``scaled_s3``, see tests/support/strict_s3.py
SCALED = Limits(min_part=5 * KiB, largest_copy=5 * MiB)


class Folder:
    """A prefix.

    :ivar s3: the bucket.
    :ivar prefix: of the files, with a slash at its end.
    """

    def __init__(self, s3: S3, prefix: str = "in/") -> None:
        self.s3 = s3
        self.prefix = prefix

    def put(self, name: str, table: Any, **options: Any) -> str:
        """Write a file; its URI."""
        self.s3.put(self.prefix + name, written(table, **options))
        return f"s3://{self.s3.bucket}/{self.prefix}{name}"

    def compact(self, *, client: Any = None, preview: bool = False, **more: Any) -> Compacted:
        """Merge; what is no place is an option."""
        places = {name: more.pop(name) for name in ("output_uri", "sources", "pattern") if name in more}
        where = Where(uri=f"s3://{self.s3.bucket}/{self.prefix}", **{"sources": "delete", **places})
        return compact_prefix(
            client or self.s3.client, where, options=Options(**more), preview=preview, owner="test", run="1"
        )

    def names(self, prefix: str | None = None) -> list[str]:
        """What lies there."""
        front = self.prefix if prefix is None else prefix
        every = self.s3.keys()
        return [key.removeprefix(front) for key in every if key.startswith(front)]

    def rows(self, prefix: str | None = None) -> list[dict[str, Any]]:
        """All rows of all files that readers see, in the order of the keys; as three readers have them."""
        front = self.prefix if prefix is None else prefix
        found: list[dict[str, Any]] = []
        for name in self.names(front):
            if "/_" not in f"/{name}":
                found += rows_of(self.s3.get(front + name))
        return found


def written(data: Any, **options: Any) -> bytes:
    """A table, or columns, as a file."""
    out = io.BytesIO()
    pq.write_table(data if isinstance(data, pa.Table) else pa.table(data), out, **options)
    return out.getvalue()


def rows_of(data: bytes) -> list[dict[str, Any]]:
    """Rows as pyarrow reads them, if Polars and DuckDB count as many."""
    table = pq.read_table(io.BytesIO(data))
    assert pl.read_parquet(data).height == table.num_rows
    return table.to_pylist()


def read_alike(data: bytes) -> pa.Table:
    """A file of common types that pyarrow, Polars and DuckDB read alike."""
    table = pq.read_table(io.BytesIO(data))
    expected = table.to_pylist()
    assert pl.read_parquet(data).to_dicts() == expected
    with duckdb.connect() as connection:
        import tempfile

        with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
            file.write(data)
            file.flush()
            found = connection.execute(f"SELECT * FROM read_parquet('{file.name}')").fetchall()
    assert [dict(zip(table.column_names, row)) for row in found] == expected
    return table


def ids(count: int, start: int = 0) -> dict[str, list[Any]]:
    """Columns of a small file."""
    numbers = range(start, start + count)
    return {"id": list(numbers), "name": [f"n{number}" for number in numbers]}


def ordered(rows: Iterable[dict[str, Any]]) -> list[Any]:
    """Rows in an order of their own."""
    return sorted(map(repr, rows))
