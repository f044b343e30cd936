"""JSON Lines: one JSON value per line.

Where a line ends is a theorem: a raw 0x0A cannot occur in a string (RFC 8259, section 7), and between the
tokens of a value it would end the line. U+2028 and U+0085 end none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from chunkwise.core.errors import InvalidSource
from chunkwise.core.formats.json_columns import Sample
from chunkwise.core.formats.json_lines_reader import LinesReader, blank
from chunkwise.core.formats.json_options import check_input, check_output
from chunkwise.core.formats.json_rows import JsonRows
from chunkwise.core.formats.json_text import BOM, refuse_wide
from chunkwise.core.formats.model import (
    WINDOW,
    Batch,
    BatchReader,
    Boundary,
    ByteSource,
    Layout,
    Part,
    ReadRequest,
    Span,
    Unit,
)
from chunkwise.core.segments import Literal, Range, Segment
from chunkwise.core.units import KiB, MiB

#: bytes in which columns are looked for
_HEAD: Final = 128 * KiB
#: a first line up to this size is looked at, if it must be
_LONGEST_HEAD: Final = 16 * MiB
_LONGEST_WINDOW: Final = 8 * MiB


class JsonLines:
    """JSON Lines (``.jsonl``, ``.ndjson``, ``.jsonlines``).

    Blank lines are kept, and are no rows. Lines may be any JSON values, as long as nobody asks for their
    columns; without a question about their members, lines are told apart and not looked into.
    """

    name = "jsonl"
    suffixes = (".jsonl", ".ndjson", ".jsonlines")
    unit: Unit = "bytes"
    content_type = "application/x-ndjson"
    compresses_itself = False
    needs_objects = False

    def inspect(self, source: ByteSource, options: Mapping[str, Any]) -> Layout:
        """See :meth:`chunkwise.core.formats.model.Format.inspect`."""
        check_input(options, lines=True, name=self.name)
        size = _HEAD
        while True:
            head = source.read(0, min(size, source.size))
            refuse_wide(head, source.name)
            whole = len(head) < size
            text = head.removeprefix(BOM)
            if not whole and size < _LONGEST_HEAD and not text[: text.rfind(b"\n") + 1].strip():
                size *= 8
                continue
            break
        lines = [line for line in text.split(b"\n")[: None if whole else -1] if not blank(line)]
        sample = Sample(lines)
        if lines and not sample.valid:
            raise InvalidSource(
                f"{source.name}: none of the first {len(lines)} lines is valid JSON; is this JSON Lines?"
            )
        return Layout(
            extent=source.size,
            columns=sample.columns,
            details={"bom": len(text) < len(head)},
        )

    def check(self, layout: Layout, columns: Sequence[str], name: str, *, native: bool) -> None:
        """See :meth:`chunkwise.core.formats.model.Format.check`: any text can take any other's place."""

    def keeps(self, layout: Layout, options: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.keeps`: there is one way."""
        return True

    def narrow(self, layout: Layout, span: Span) -> Layout:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.narrow`: all of it."""
        return layout

    def wanted(self, layout: Layout, chunk_bytes: int) -> Sequence[int]:
        """See :meth:`chunkwise.core.formats.model.Format.wanted`."""
        return range(chunk_bytes, layout.extent, chunk_bytes)

    def weight(self, layout: Layout, start: int, end: int) -> int:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.weight`."""
        return end - start

    def cut(self, source: ByteSource, layout: Layout, near: int) -> Boundary:
        """The byte after the first newline at or after ``near - 1``; proved by the grammar."""
        if near <= 0:
            return Boundary(position=0)
        start, window = near - 1, WINDOW
        reads = 0
        while start < layout.extent:
            block = source.read(start, min(start + window, layout.extent))
            newline = block.find(b"\n")
            if newline >= 0:
                return Boundary(position=start + newline + 1)
            if not block:
                break
            start += len(block)
            reads += 1
            if reads > 1:
                window = min(2 * window, _LONGEST_WINDOW)
        return Boundary(position=layout.extent)

    def exact(self, source: ByteSource, layout: Layout, wanted: Sequence[int]) -> Iterator[Boundary]:
        """The same as :meth:`cut`, which needs no pass over the source."""
        for near in wanted:
            yield self.cut(source, layout, near)

    def read(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> BatchReader:
        """See :meth:`chunkwise.core.formats.model.Format.read`."""
        return LinesReader(source, layout, span, request)

    def target(self, layout: Layout, options: Mapping[str, Any], *, native: bool) -> dict[str, Any]:
        """See :meth:`chunkwise.core.formats.model.Format.target`."""
        check_output(options, lines=True, name=self.name)
        return {"bom": native and bool(layout.details.get("bom"))}

    def encoder(self, target: Mapping[str, Any]) -> LinesEncoder:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.encoder`."""
        return LinesEncoder()

    def join(self, target: Mapping[str, Any], parts: Sequence[Part], source: Any) -> Iterable[Segment]:  # noqa: ARG002
        """The parts in order, after the byte order mark of the source, if it had one."""
        if target["bom"]:
            yield Literal(BOM)
        unfinished = False
        for part in parts:
            if not part.size:
                continue
            if unfinished:
                yield Literal(b"\n")
            yield Range(part.ref, 0, part.size)
            unfinished = bool(part.notes.get("unfinished"))


class LinesEncoder:
    """Lines as they came, or one record per line."""

    def __init__(self) -> None:
        self._unfinished = False

    def native(self, batch: Batch) -> Iterable[bytes]:
        """See :meth:`chunkwise.core.formats.model.PartEncoder.native`."""
        if not isinstance(batch, JsonRows):
            raise TypeError("not a batch of JSON Lines")
        for output in batch.outputs():
            yield from self._written(output.lead + output.body)

    def convert(self, records: Sequence[bytes], first: int) -> Iterable[bytes]:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.PartEncoder.convert`. Every object fits."""
        return self._written(b"\n".join([*records, b""]))

    def finish(self, reader: BatchReader) -> Iterable[bytes]:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.PartEncoder.finish`."""
        return ()

    def notes(self) -> dict[str, Any]:
        """Whether the last line has no end."""
        return {"unfinished": True} if self._unfinished else {}

    def _written(self, data: bytes) -> Iterable[bytes]:
        if not data:
            return
        self._unfinished = not data.endswith(b"\n")
        yield data
