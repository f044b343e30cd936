"""Which formats there are. A new one is one module, and one line here."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Final

from chunkwise.core.errors import UnsupportedSource
from chunkwise.core.formats.model import Format

# imported when they are asked for: pyarrow must not be needed for a JSON Lines job
_FORMATS: Final = {
    "csv": ("chunkwise.core.formats.csv_format", "Csv", (".csv", ".tsv", ".txt")),
    "jsonl": ("chunkwise.core.formats.json_lines", "JsonLines", (".jsonl", ".ndjson", ".jsonlines")),
    "json": ("chunkwise.core.formats.json_array", "JsonArray", (".json",)),
    "parquet": ("chunkwise.core.formats.parquet", "Parquet", (".parquet", ".pq", ".parq")),
}
_COMPRESSIONS: Final = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}


@cache
def format_named(name: str) -> Format:
    """The format with this name.

    :raises UnsupportedSource: there is none.
    """
    if name not in _FORMATS:
        raise UnsupportedSource(f"format {name!r} is unknown; known are {', '.join(map(repr, _FORMATS))}")
    module, kind, _ = _FORMATS[name]
    format_: Format = getattr(import_module(module), kind)()
    return format_


def by_suffix(key: str) -> tuple[str | None, str]:
    """Format and compression that a key's suffixes say: ``("csv", "gzip")`` for ``a/b.csv.gz``.

    :return: name of the format, ``None`` if the suffix says nothing; ``"gzip"``, ``"zstd"`` or ``"none"``.
    """
    inner, compression = decompressed(key.lower())
    for name, (_, _, suffixes) in _FORMATS.items():
        if inner.endswith(suffixes):
            return name, compression
    return None, compression


def decompressed(key: str) -> tuple[str, str]:
    """A key, given in lower case, without a suffix of compression; and the compression."""
    for suffix, name in _COMPRESSIONS.items():
        if key.endswith(suffix):
            return key.removesuffix(suffix), name
    return key, "none"
