"""JSON arrays: the one that a file is, or one inside its document, cut between its records.

Brackets, commas and white space between records, and what stands around the array, are no part of any chunk's
output: they come back in when the parts are joined, byte for byte those of the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from chunkwise.core.errors import InvalidSource
from chunkwise.core.formats.json_array_cuts import assumed_cut, opening_of, proved_cuts
from chunkwise.core.formats.json_array_reader import ArrayReader
from chunkwise.core.formats.json_brackets import COMMA, signs
from chunkwise.core.formats.json_columns import Sample
from chunkwise.core.formats.json_options import check_input, check_output, path_of
from chunkwise.core.formats.json_path import skip_to_array
from chunkwise.core.formats.json_rows import JsonRows
from chunkwise.core.formats.json_text import BOM, WHITE, refuse_wide
from chunkwise.core.formats.json_window import Window
from chunkwise.core.formats.model import (
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

_HEAD: Final = 128 * KiB
#: a first record up to this size is looked at, if it must be
_LONGEST_HEAD: Final = 16 * MiB


class JsonArray:
    """A file that is one JSON array, or has one inside (``.json``).

    Where the array is inside, option ``records_path`` names it: the keys of the objects that lead there, as a
    dotted path (``"data.items"``) or a list of keys. What stands around it is kept if the form of the output
    is that of the source; no other form has a place for it. It is checked as JSON in bounded memory, before
    the array when the source is planned, too; what stands after it belongs to the chunk of the last record.

    Its records may be any JSON values, as long as nobody asks for their columns. A cut near a wanted place is
    assumed, not proved: a string that holds what looks like records, or records within a record that is
    longer than what is looked at, can deceive it. The readers then end in another state than the one assumed.
    """

    name = "json"
    suffixes = (".json",)
    unit: Unit = "bytes"
    content_type = "application/json"
    compresses_itself = False
    needs_objects = False

    def inspect(self, source: ByteSource, options: Mapping[str, Any]) -> Layout:
        """See :meth:`chunkwise.core.formats.model.Format.inspect`."""
        check_input(options, lines=False, name=self.name)
        path = path_of(options)
        inside, window = {}, None
        if path:
            window = Window(_streamed(source), 0)
            skip_to_array(window, path, source.name, 0)
            inside = {"path": list(path), "opens": window.position - 1}
        size = _HEAD
        while True:
            head = _more(window, size) if window is not None else source.read(0, min(size, source.size))
            refuse_wide(head, source.name)
            whole = len(head) < size
            records = _records(head, source.name, whole=whole)
            if records or whole or size >= _LONGEST_HEAD:
                break
            size *= 8
        sample = Sample(records)
        if records and not sample.valid:
            raise InvalidSource(f"{source.name}: none of the first {len(records)} records is valid JSON")
        return Layout(extent=source.size, columns=sample.columns, details=opening_of(records) | inside)

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
        return range(layout.details.get("opens", 0) + chunk_bytes, layout.extent, chunk_bytes)

    def weight(self, layout: Layout, start: int, end: int) -> int:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.weight`."""
        return end - start

    def cut(self, source: ByteSource, layout: Layout, near: int) -> Boundary:
        """See :meth:`chunkwise.core.formats.model.Format.cut`.

        Where no record begins within 32 MiB there is no cut; :meth:`exact` would find one.
        """
        if near <= layout.details.get("opens", 0):
            return Boundary(position=0)
        return Boundary(position=assumed_cut(source, layout.extent, layout.details, near))

    def exact(self, source: ByteSource, layout: Layout, wanted: Sequence[int]) -> Iterator[Boundary]:
        """See :meth:`chunkwise.core.formats.model.Format.exact`: by the effects of all blocks, in order."""
        opens = layout.details.get("opens", 0)
        for position in proved_cuts(source.stream(opens, layout.extent), layout.extent, wanted, opens):
            yield Boundary(position=position)

    def read(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> BatchReader:
        """See :meth:`chunkwise.core.formats.model.Format.read`.

        :raises InvalidSource: while reading: no array, garbage after it, no ``]``, a comma without a record.
        """
        return ArrayReader(source, layout, span, request)

    def target(self, layout: Layout, options: Mapping[str, Any], *, native: bool) -> dict[str, Any]:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.target`."""
        check_output(options, lines=False, name=self.name)
        return {"native": native}

    def encoder(self, target: Mapping[str, Any]) -> ArrayEncoder:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.Format.encoder`."""
        return ArrayEncoder()

    def join(self, target: Mapping[str, Any], parts: Sequence[Part], source: Any) -> Iterable[Segment]:
        """The parts in order, with what stood before, between and after them in the source.

        Between two parts comes what followed the last record of the former one's chunk; that of chunks that
        have lost all their records goes with these.
        """
        if not target["native"]:
            return _joined(parts)
        return _joined_as_it_was(parts, source)


class ArrayEncoder:
    """Records with what stands between them."""

    def __init__(self) -> None:
        self._started = False
        self._notes: dict[str, Any] = {}

    def native(self, batch: Batch) -> Iterable[bytes]:
        """See :meth:`chunkwise.core.formats.model.PartEncoder.native`."""
        if not isinstance(batch, JsonRows):
            raise TypeError("not a batch of a JSON array")
        for output in batch.outputs():
            if output.rows:
                yield output.lead + output.body if self._started else output.body
                self._started = True

    def convert(self, records: Sequence[bytes], first: int) -> Iterable[bytes]:  # noqa: ARG002
        """See :meth:`chunkwise.core.formats.model.PartEncoder.convert`. Every object fits."""
        if records:
            yield (b",\n" if self._started else b"") + b",\n".join(records)
            self._started = True

    def finish(self, reader: BatchReader) -> Iterable[bytes]:
        """See :meth:`chunkwise.core.formats.model.PartEncoder.finish`."""
        if isinstance(reader, ArrayReader):
            self._notes = reader.notes()
        return ()

    def notes(self) -> dict[str, Any]:
        """What stood before the array's first record (``head``), after the chunk's last one (``gap``), and
        after the array's last one (``tail``): the text, or where it is in the source.
        """
        return self._notes


def _joined(parts: Sequence[Part]) -> Iterator[Segment]:
    full = [part for part in parts if part.size]
    for number, part in enumerate(full):
        yield Literal(b",\n" if number else b"[\n")
        yield Range(part.ref, 0, part.size)
    yield Literal(b"\n]\n" if full else b"[]\n")


def _joined_as_it_was(parts: Sequence[Part], source: Any) -> Iterator[Segment]:
    def noted(part: Part, key: str) -> Iterator[Segment]:
        note = part.notes.get(key)
        if isinstance(note, str):
            yield Literal(note.encode())
        elif note is not None:
            yield Range(source, note[0], note[1])

    before: Part | None = None
    for part in parts:
        yield from noted(part, "head")
        if part.size:
            if before is not None:
                yield from noted(before, "gap")
            yield Range(part.ref, 0, part.size)
            before = part
    for part in parts:
        yield from noted(part, "tail")


def _streamed(source: ByteSource) -> Iterator[bytes]:
    """The whole source; the head of it by one read."""
    head = source.read(0, min(_HEAD, source.size))
    refuse_wide(head, source.name)
    yield head
    if len(head) == _HEAD:
        yield from source.stream(_HEAD, source.size)


def _more(window: Window, size: int) -> bytes:
    """The array from its bracket on."""
    window.has(size - 1)
    return b"[" + window.data[: size - 1]


def _records(head: bytes, name: str, *, whole: bool) -> list[bytes]:
    """The records that a head shows as a whole.

    :raises InvalidSource: it is not the head of an array.
    """
    text = head.removeprefix(BOM).lstrip(WHITE)
    if not text.startswith(b"["):
        if not text and not whole:
            return []
        at = len(head) - len(text)
        what = f"byte {at} is {chr(text[0])!r}" if text else "there is no JSON in it"
        hint = "; is this JSON Lines, or is the array inside (option records_path)?"
        hint = hint if text.startswith(b"{") else ""
        raise InvalidSource(f"{name}: {what}, and a JSON array begins with '['{hint}")
    records: list[bytes] = []
    start = 1
    for sign in signs(text, 0, len(text), inside=False, depth=0):
        ends = sign.depth == 1 if sign.byte == COMMA else sign.depth == 0
        if ends:
            record = text[start : sign.after - 1].strip(WHITE)
            if record:
                records.append(record)
            start = sign.after
        if sign.depth == 0:
            break
    return records
