"""Prove a finished job again, from its source and its output alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import xxhash

from chunkwise.core.dispatch.opening import UNKNOWN_END, open_source
from chunkwise.core.dispatch.plan import resolved
from chunkwise.core.dispatch.spec import PRESERVE, Config, Source, Target
from chunkwise.core.errors import ConfigError
from chunkwise.core.formats.json_members import values_of
from chunkwise.core.formats.json_text import not_utf8
from chunkwise.core.formats.model import RECORD, Boundary, ReadRequest, Span
from chunkwise.core.formats.registry import by_suffix, format_named
from chunkwise.core.storage.source import ObjectRef, pin

#: options of CSV that mean the same to a reader and a writer
_BOTH_WAYS = frozenset({"sep", "delimiter", "quotechar", "encoding"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What was found.

    :param source_rows: rows of the source.
    :param output_rows: rows of the output.
    :param columns: that were compared, value by value: those that nobody was asked to change.
    :param differing: columns of these whose values differ.
    :param unchanged: columns that were to be changed, and hold what they held before.
    :param identical: whether all bytes are the same; ``None`` where they need not be.
    :param ok: whether nothing is wrong.
    """

    source_rows: int
    output_rows: int
    columns: tuple[str, ...]
    differing: tuple[str, ...]
    unchanged: tuple[str, ...]
    identical: bool | None
    ok: bool

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def verify(
    client: Any,
    source: Source,
    target: Target,
    config: Config,
    *,
    rejected: int = 0,
    changed: Sequence[str] = (),
) -> Verification:
    """Read source and output once each, from end to end, without any plan or done record.

    Rows are counted, and the values of every column that the mapping leaves alone are compared in order (as
    digests of text, so that a conversion may write them differently as long as their text is the same; null,
    a missing member and an empty text are one). Without a mapping all columns are compared, and where the
    format is kept as well, all bytes. With rejected rows only the counts are compared, since the rest does
    not stand side by side.

    :param source: what was read.
    :param target: what was written.
    :param config: of the job; its format, options and mapping count.
    :param rejected: rows that were put aside.
    :param changed: further columns that were to be changed, as if the mapping protected them: for a caller
        who does not know by whom.
    """
    config = resolved(config, source.key)
    kept = config.output_format in (PRESERVE, config.format)
    name = str(config.format)
    read = _Side(
        client,
        pin(client, source.bucket, source.key, version_id=source.version_id),
        name,
        str(config.compression),
        config.options,
    )
    native = kept and read.keeps(config.output_options)
    written = _Side(
        client,
        pin(client, target.bucket, target.key),
        name if kept else config.output_format,
        _compression(config, target, native=native),
        config.options if native else _reading(config, read.columns, kept=kept),
    )
    columns: Sequence[str] = ()
    if rejected:
        changed = ()
    elif config.mapping is None:
        columns = [name for name in read.columns if name not in changed]
    else:
        columns = config.mapping.ignored_columns
        changed = tuple(dict.fromkeys([*config.mapping.columns, *changed]))
    rows, before = read.digests([*columns, *changed])
    rows_out, after = written.digests([*columns, *changed])
    unchanged = tuple(name for name in changed if before[name] == after[name] and name not in read.blank)
    differing = tuple(name for name in columns if before[name] != after[name])
    identical = None
    if native and config.mapping is None and not (rejected or changed) and not read.format.compresses_itself:
        identical = read.digest() == written.digest()
    return Verification(
        source_rows=rows,
        output_rows=rows_out,
        columns=tuple(columns),
        differing=differing,
        unchanged=unchanged,
        identical=identical,
        ok=rows == rows_out + rejected and not (differing or unchanged) and identical is not False,
    )


def _compression(config: Config, target: Target, *, native: bool) -> str:
    """Of the output: what was asked for, else that of the source, as in the plan."""
    if config.output_compression != "preserve":
        return config.output_compression
    return str(config.compression) if native or config.compression != "none" else by_suffix(target.key)[1]


def _reading(config: Config, columns: Sequence[str], *, kept: bool) -> dict[str, Any]:
    """How an output that was written with some options is read.

    :param kept: whether it has the format of its source, from which it has what they leave open.
    """
    options = config.output_options
    found = {name: value for name, value in options.items() if name in _BOTH_WAYS}
    for name in _BOTH_WAYS.intersection(config.options) if kept else ():
        if name not in ("sep", "delimiter") or not {"sep", "delimiter"}.intersection(found):
            found.setdefault(name, config.options[name])
    if options.get("header") is False:
        found |= {"header": None, "names": list(options.get("columns") or columns)}
    return found


class _Side:
    """The source or the output."""

    def __init__(
        self, client: Any, ref: ObjectRef, name: str, compression: str, options: dict[str, Any]
    ) -> None:
        self.format = format_named(name)
        compression = "none" if self.format.compresses_itself else compression
        self._source, _ = open_source(client, ref, compression)
        layout = self.format.inspect(self._source, options)
        extent = layout.extent if compression == "none" else UNKNOWN_END
        self._layout = msgspec.structs.replace(layout, extent=extent)
        self._uri = ref.uri
        #: columns without any value, after :meth:`digests`: nothing in them could be changed
        self.blank: set[str] = set()

    @property
    def columns(self) -> list[str]:
        """Their names; none where rows have no names."""
        return [column.name for column in self._layout.columns or ()]

    def keeps(self, options: dict[str, Any]) -> bool:
        """Whether an output with these options has the form of this."""
        return self.format.keeps(self._layout, options)

    def digests(self, columns: Sequence[str]) -> tuple[int, dict[str, str]]:
        """The number of rows, and a digest of each column."""
        span = Span(start=Boundary(position=0), end=Boundary(position=self._layout.extent))
        request = ReadRequest(records=bool(columns), on_bad="collect")
        reader = self.format.read(self._source, self._layout, span, request)
        hashes = {column: xxhash.xxh3_128() for column in columns}
        rows, self.blank = 0, set(columns)
        for batch in reader:
            rows += batch.rows + len(batch.bad)
            for record in batch.records() if columns else ():
                members = values_of(_legible(record))
                for column, digest in hashes.items():
                    text = _text(members.get(column))
                    if text:
                        self.blank.discard(column)
                    digest.update(b"%d:" % len(text) + text)
        if reader.end.state != RECORD:
            raise ConfigError(f"{self._uri} ends inside a record: it is not what its format says")
        return rows, {column: digest.hexdigest() for column, digest in hashes.items()}

    def digest(self) -> str:
        """Of all bytes, decompressed."""
        digest = xxhash.xxh3_128()
        for block in self._source.stream(0, self._source.size):
            digest.update(block)
        return digest.hexdigest()


def _legible(record: bytes) -> bytes:
    """A record with escapes of surrogates for bytes that are not UTF-8, which a job keeps as they are."""
    if not_utf8(record) is None:
        return record
    return record.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace")


def _text(value: bytes | None) -> bytes:
    """A value as text: what a string says, and any other value as it is written."""
    if value is None or value == b"null":
        return b""
    if value.startswith(b'"'):
        return str(json.loads(value)).encode("utf-8", "surrogatepass")
    return value
