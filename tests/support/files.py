"""The same rows as a file of each format, and back."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from typing import Any

Rows = list[dict[str, str]]

#: columns of :func:`people`, of which ``name`` is protected
MAPPING: dict[str, Any] = {
    "columns": {"name": {"operation": "protect", "data_element": "name"}},
    "ignored-columns": ["id", "note"],
}
HMAC = {"name": "hmac", "secret": "key"}
KEY = "a key of thirty-two bytes or more"

_NOTES = ["plain", 'a "quoted" one', "line\nbreak", "comma, and more", "", "},{", "ü\u2028", "007", "1.10"]


def people(rows: int, seed: int = 1) -> Rows:
    """Rows whose texts look like what separates rows."""
    chance = random.Random(seed)
    return [
        {"id": f"{n:05d}", "name": f"person {n % 97}", "note": chance.choice(_NOTES)} for n in range(rows)
    ]


def as_jsonl(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def as_json(rows: Rows) -> bytes:
    return json.dumps(rows, indent=1).encode()


def as_csv(rows: Rows) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def as_parquet(rows: Rows) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=100)
    return out.getvalue()


def from_parquet(data: bytes) -> Rows:
    import pyarrow.parquet as pq

    # no threads: the library may abort a process that ends while its threads wait
    rows: Rows = pq.ParquetFile(io.BytesIO(data)).read(use_threads=False).to_pylist()
    return rows


MAKERS: dict[str, Callable[[Rows], bytes]] = {
    "jsonl": as_jsonl,
    "csv": as_csv,
    "json": as_json,
    "parquet": as_parquet,
}
READERS: dict[str, Callable[[bytes], Rows]] = {
    "jsonl": lambda data: [json.loads(line) for line in data.split(b"\n") if line],
    "csv": lambda data: list(csv.DictReader(io.StringIO(data.decode(), newline=""))),
    "json": json.loads,
    "parquet": from_parquet,
}
