"""Prove a finished job again, from its source and its output alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import xxhash

from chunkwise.core.dispatch.opening import UNKNOWN_END, open_source
from chunkwise.core.dispatch.plan import resolved
from chunkwise.core.dispatch.spec import PRESERVE, Config, Source, Target
from chunkwise.core.errors import ConfigError
from chunkwise.core.formats.model import RECORD, Boundary, ReadRequest, Span
from chunkwise.core.formats.registry import by_suffix, format_named
from chunkwise.core.storage.source import ObjectRef, pin


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What was found.

    :param source_rows: rows of the source.
    :param output_rows: rows of the output.
    :param columns: that were compared, value by value: those that nobody was asked to change.
    :param differing: columns of these whose values differ.
    :param ok: whether nothing is wrong.
    """

    source_rows: int
    output_rows: int
    columns: tuple[str, ...]
    differing: tuple[str, ...]
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def verify(client: Any, source: Source, target: Target, config: Config, *, rejected: int = 0) -> Verification:
    """Read source and output once each, from end to end, without any plan or done record.

    Rows are counted, and the values of every column that the mapping leaves alone are compared in order (as
    digests of text, so that a conversion may write them differently as long as their text is the same). With
    rejected rows only the counts are compared, since the rest does not stand side by side.

    :param source: what was read.
    :param target: what was written.
    :param config: of the job; its format, options and mapping count.
    :param rejected: rows that were put aside.
    """
    config = resolved(config, source.key)
    read = pin(client, source.bucket, source.key, version_id=source.version_id)
    written = pin(client, target.bucket, target.key)
    native = config.output_format in (PRESERVE, config.format)
    columns: Sequence[str] = ()
    if config.mapping is not None and not rejected:
        columns = config.mapping.ignored_columns
    before = _digests(client, read, str(config.format), str(config.compression), config.options, columns)
    output_format = str(config.format) if native else config.output_format
    options = config.options if native else {}
    after = _digests(client, written, output_format, by_suffix(target.key)[1], options, columns)
    differing = tuple(name for name in columns if before[1][name] != after[1][name])
    return Verification(
        source_rows=before[0],
        output_rows=after[0],
        columns=tuple(columns),
        differing=differing,
        ok=before[0] == after[0] + rejected and not differing,
    )


def _digests(
    client: Any,
    ref: ObjectRef,
    name: str,
    compression: str,
    options: dict[str, Any],
    columns: Sequence[str],
) -> tuple[int, dict[str, str]]:
    format_ = format_named(name)
    source, _ = open_source(client, ref, "none" if format_.compresses_itself else compression)
    layout = format_.inspect(source, options)
    extent = layout.extent if compression == "none" or format_.compresses_itself else UNKNOWN_END
    span = Span(start=Boundary(position=0), end=Boundary(position=extent))
    reader = format_.read(source, layout, span, ReadRequest(columns=tuple(columns), on_bad="collect"))
    hashes = {column: xxhash.xxh3_128() for column in columns}
    rows = 0
    for batch in reader:
        rows += batch.rows + len(batch.bad)
        for column, digest in hashes.items():
            for value in batch.values(column):
                text = b"" if value is None else value.encode("utf-8", "surrogatepass")
                digest.update(b"%d:" % len(text) + text)
    if reader.end.state != RECORD:
        raise ConfigError(f"{ref.uri} ends inside a record: it is not what its format says")
    return rows, {column: digest.hexdigest() for column, digest in hashes.items()}
