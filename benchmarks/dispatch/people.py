"""A file of twelve columns, two of them to be protected: deterministic, of any size, a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

COLUMNS = (
    "id",
    "created_at",
    "name",
    "email",
    "street",
    "city",
    "country",
    "amount",
    "currency",
    "status",
    "score",
    "note",
)
PROTECTED = ("name", "email")
KEY = "a key that is worth nothing, of more than 32 bytes"
_CITIES = ("Zürich", "Lyon", "Porto", "Gdańsk", "Graz", "Turku", "Ghent", "Malmö")
_STATES = ("new", "open", "held", "paid", "void")


def row(number: int) -> dict[str, Any]:
    """One row; text, as CSV has it."""
    digest = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=12).hexdigest()
    return {
        "id": f"{number:010d}",
        "created_at": f"2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}T{number % 24:02d}:00:00Z",
        "name": f"Person {digest[:7]}",
        "email": f"{digest[7:17]}@example.org",
        "street": f"{number % 997} Long Road",
        "city": _CITIES[number % 8],
        "country": "CH",
        "amount": f"{number % 100_000}.{number % 100:02d}",
        "currency": "CHF",
        "status": _STATES[number % 5],
        "score": f"0.{number % 1000:03d}0",
        "note": digest[::-1],
    }


def blocks(kind: str, size: int, rows: int = 10_000) -> Iterator[bytes]:
    """About ``size`` bytes of ``"csv"`` or ``"jsonl"``."""
    made, number = 0, 0
    if kind == "csv":
        head = (",".join(COLUMNS) + "\n").encode()
        made += len(head)
        yield head
    while made < size:
        batch = [row(number + offset) for offset in range(rows)]
        if kind == "csv":
            text = "".join(",".join(one.values()) + "\n" for one in batch)
        else:
            text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in batch)
        block = text.encode()
        number += rows
        made += len(block)
        yield block
