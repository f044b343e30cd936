"""One attempt at one chunk: the way of its data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from chunkwise.core import memory
from chunkwise.core.dispatch.counted import CountedSource
from chunkwise.core.dispatch.glue import around
from chunkwise.core.dispatch.model import Done, Manifest
from chunkwise.core.dispatch.opening import STRIDE, UNKNOWN_END, open_source
from chunkwise.core.dispatch.part_writer import PartWriter
from chunkwise.core.dispatch.rejected import RejectedRows
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import BudgetSpent, Killed, RowInvalid
from chunkwise.core.formats.model import (
    RECORD,
    BadRow,
    Batch,
    BatchReader,
    Boundary,
    ByteSource,
    Layout,
    PartEncoder,
    ReadRequest,
    Span,
)
from chunkwise.core.formats.registry import format_named
from chunkwise.core.protect.apply import apply, row_number
from chunkwise.core.protect.protector import Protector
from chunkwise.core.records.compression import codec
from chunkwise.core.storage import ObjectReceipt, S3Writer
from chunkwise.core.storage.arguments import KEEPING
from chunkwise.core.storage.source import ObjectRef
from chunkwise.core.units import KiB

#: bytes of rows whose values, replacements and output fit into the second cache of a processor
_CACHED: Final = 256 * KiB


class ChunkRun:
    """Read a chunk, and write its part.

    :param client: boto3 S3 client.
    :param staging: of the dispatch.
    :param manifest: of the chunk.
    :param attempt: name of the attempt.
    :param protector: who protects, if somebody is to.
    :param stop: asked between batches whether to end.
    :param secrets: digest of the protector's secrets.
    """

    def __init__(
        self,
        client: Any,
        staging: Staging,
        manifest: Manifest,
        attempt: str,
        protector: Protector | None,
        stop: Callable[[], bool] | None,
        secrets: str = "",
    ) -> None:
        self._client = client
        self._staging = staging
        self._manifest = manifest
        self._attempt = attempt
        self._protector = protector
        self._stop = stop
        self._secrets = secrets
        self._format = format_named(manifest.format)
        self._target = format_named(manifest.output.format)
        self._written: list[str] = []

    def run(self) -> Done:
        """The done record of this attempt; nobody has it yet.

        :raises ChunkwiseError: one of its kinds; no part is left.
        """
        manifest, config = self._manifest, self._manifest.config
        started, began = time.monotonic(), datetime.now(UTC)
        extra = {name: value for name, value in config.target.extra_args.items() if name in KEEPING}
        extra = {**self._staging.extra_args, **extra}
        bucket = self._staging.bucket
        part_key = self._staging.part_key(manifest.chunk, self._attempt)
        rejected_key = self._staging.rejected_key(manifest.chunk, self._attempt)
        source, raw = open_source(
            self._client,
            manifest.object,
            manifest.compression,
            manifest.span.start.position,
            manifest.span.end.position,
            base=self._base,
        )
        counted = CountedSource(source)
        layout, span = self._inner()
        reader = self._format.read(counted, layout, span, self._request())
        rejected = RejectedRows(self._client, bucket, rejected_key, manifest.chunk, config.rejects, extra)
        writer = S3Writer(self._client, bucket, part_key, on_exists="fail", extra_args=extra)
        part = PartWriter(writer, codec(manifest.output.compression))  # type: ignore[arg-type]
        written: ObjectReceipt | None = None
        bad: ObjectReceipt | None = None
        try:
            encoder = self._encoder()
            rows_out = self._work(counted, reader, encoder, part, rejected, lambda: raw.bytes_read)
            whole = reader.end.state == RECORD
            if whole:
                bad = rejected.close()
                self._written += [rejected_key] if bad is not None else []
                if not part.empty:
                    written = part.close()
                    self._written.append(part_key)
        except BaseException:
            rejected.abort()
            writer.abort()
            self.remove()
            raise
        if written is None:
            writer.abort()
        if not whole:
            rejected.abort()
        return Done(
            dispatch=manifest.dispatch,
            chunk=manifest.chunk,
            revision=manifest.revision,
            attempt=self._attempt,
            start=self._outer(reader.start, manifest.span.start),
            end=self._outer(reader.end, manifest.span.end),
            rows_in=reader.rows,
            rows_out=rows_out if whole else 0,
            rejected=rejected.count if whole else 0,
            bytes_in=raw.bytes_read,
            bytes_out=part.size if whole else 0,
            part=_ref(written),
            before=part.before if whole else None,
            after=part.after if whole else None,
            notes=encoder.notes() if whole else {},
            input_crc32=self._input_crc(counted),
            quarantine=_ref(bad),
            secrets=self._secrets,
            started_at=began.isoformat(timespec="milliseconds"),
            seconds=round(time.monotonic() - started, 3),
            peak_rss=memory.peak_rss(),
        )

    def remove(self) -> None:
        """Delete what this attempt wrote: another one won."""
        written, self._written = self._written, []
        self._staging.delete(*written)

    # --- the way of the data --------------------------------------------------------------------------------

    def _work(
        self,
        source: ByteSource,
        reader: BatchReader,
        encoder: PartEncoder,
        part: PartWriter,
        rejected: RejectedRows,
        bytes_read: Callable[[], int],
    ) -> int:
        mapping = self._manifest.config.mapping
        first = self._manifest.chunk == 0 and not self._target.compresses_itself
        rows = 0
        for batch in reader:
            self._check(reader.rows, bytes_read)
            if self._protector is not None and mapping is not None and batch.rows:
                names = mapping.columns if batch.columns is None else batch.columns
                apply(batch, {name: mapping.columns[name] for name in names}, self._protector)
            rejected.put(batch.bad)
            if self._manifest.output.native:
                pieces = encoder.native(batch)
            else:
                records = self._fitting(batch, rejected)
                rows += len(records)
                pieces = encoder.convert(records, batch.first)
            for piece in pieces:
                if first and piece and part.empty:
                    # what stands before the first row is known by now: another encoder asks the reader for it
                    probe = self._encoder()
                    for _ in probe.finish(reader):
                        pass
                    part.put_before(self._around(source, probe)[0])
                part.write(piece)
        for piece in encoder.finish(reader):
            part.write(piece)
        if not part.empty and reader.end.state == RECORD:
            part.put_after(self._around(source, encoder)[1])
        return reader.rows - rejected.count if self._manifest.output.native else rows

    def _check(self, rows: int, bytes_read: Callable[[], int]) -> None:
        """Whether to go on.

        :raises Killed: told to end.
        :raises BudgetSpent: as ``stop`` raised it, with how far the attempt got.
        """
        try:
            if self._stop is None or not self._stop():
                return
        except BudgetSpent as error:
            span = self._manifest.span
            size = span.end.position - span.start.position
            share = (
                f"about {min(1.0, bytes_read() / size):.0%} of the chunk and "
                if self._in_bytes and size
                else ""
            )
            error.args = (f"{error} ({share}{rows:,} rows were read; the part was not written)",)
            raise
        raise Killed(f"chunk {self._manifest.chunk} was told to end; its part was not written")

    def _encoder(self) -> PartEncoder:
        return self._target.encoder(self._manifest.output.target)

    def _around(self, source: ByteSource, encoder: PartEncoder) -> tuple[bytes, bytes]:
        """What stands around the part, by what a finished encoder has noted."""
        manifest = self._manifest
        end = manifest.layout.extent if manifest.compression == "none" else manifest.object.size
        return around(
            self._target,
            manifest.output.target,
            encoder.notes(),
            first=manifest.chunk == 0,
            last=manifest.span.end.position == end,
            reference=manifest.object,
            source=source,
        )

    def _fitting(self, batch: Batch, rejected: RejectedRows) -> Sequence[bytes]:
        """The rows of a batch that fit the output."""
        records = batch.records()
        if self._manifest.config.rejects is not None:
            records, bad = self._sorted_out(batch, records)
            rejected.put(bad)
        return records

    def _sorted_out(self, batch: Batch, records: Sequence[bytes]) -> tuple[list[bytes], list[BadRow]]:
        """Rows that fit the target, and rows that do not. A trial encoder tells: the real one keeps state."""
        target = self._manifest.output.target

        def fits(rows: Sequence[bytes], first: int) -> str | None:
            try:
                for _ in self._target.encoder(target).convert(rows, first):
                    pass
            except RowInvalid as error:
                return str(error)
            return None

        if fits(records, batch.first) is None:
            return list(records), []
        good: list[bytes] = []
        bad: list[BadRow] = []
        for index, record in enumerate(records):
            number = row_number(batch, index)
            reason = fits([record], number)
            if reason is None:
                good.append(record)
            else:
                bad.append(BadRow(number, -1, record, reason))
        return good, bad

    # --- positions ------------------------------------------------------------------------------------------

    def _request(self) -> ReadRequest:
        config = self._manifest.config
        mapping = config.mapping
        known = None
        if mapping is not None:
            known = frozenset([*mapping.columns, *mapping.ignored_columns])
        return ReadRequest(
            columns=tuple(mapping.columns) if mapping is not None else (),
            known=known,
            # a policy for bad rows asks for every row to be looked at, also where none is changed
            records=not self._manifest.output.native or config.rejects is not None,
            objects=not self._manifest.output.native and self._target.needs_objects,
            utf8=not self._manifest.output.native,
            native=self._manifest.output.native,
            batch_rows=config.batch_rows,
            batch_bytes=self._batch_bytes(),
            on_bad="fail" if config.rejects is None else "collect",
        )

    def _batch_bytes(self) -> int:
        """Of a batch at most. Where nobody gains by larger ones, they stay in the caches of a processor."""
        most = self._manifest.config.batch_bytes
        text = self._format.unit == "bytes" and self._manifest.output.native
        local = self._protector is None or self._protector.local
        return min(most, _CACHED) if text and local else most

    def _inner(self) -> tuple[Layout, Span]:
        """Layout and span as the format sees them: in decompressed bytes, whose end nobody knows."""
        layout, span = self._manifest.layout, self._manifest.span
        if self._manifest.compression == "none":
            return layout, span
        last = span.end.position == self._manifest.object.size
        end = UNKNOWN_END if last else UNKNOWN_END - 1
        return (
            msgspec.structs.replace(layout, extent=UNKNOWN_END),
            Span(start=Boundary(position=self._base), end=Boundary(position=end)),
        )

    @property
    def _in_bytes(self) -> bool:
        """Whether positions are bytes of the source."""
        return self._format.unit == "bytes"

    @property
    def _base(self) -> int:
        return 0 if self._manifest.span.start.position == 0 else self._manifest.chunk * STRIDE

    def _outer(self, inner: Boundary, outer: Boundary) -> Boundary:
        """Where a reader was, in the positions of the plan."""
        if self._manifest.compression == "none":
            return inner
        return Boundary(position=outer.position, state=inner.state)

    def _input_crc(self, counted: CountedSource) -> int | None:
        if not self._in_bytes or self._manifest.compression != "none":
            return None
        span = self._manifest.span
        return counted.crc32(span.start.position, span.end.position)


def _ref(receipt: ObjectReceipt | None) -> ObjectRef | None:
    if receipt is None or receipt.etag is None or receipt.size is None:
        return None
    return ObjectRef(
        bucket=receipt.bucket,
        key=receipt.key,
        etag=receipt.etag,
        size=receipt.size,
        version_id=receipt.version_id,
        crc32=receipt.crc32,
    )
