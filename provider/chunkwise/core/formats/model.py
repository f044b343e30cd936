"""The protocol that every format implements, and the values that go through it.

A position is a number in the unit of the format: a byte offset, or a row number. The chunks of a plan tile
``[0, layout.extent)``, header and brackets included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import msgspec

from chunkwise.core.segments import Segment
from chunkwise.core.units import KiB, MiB

#: bytes of one look at a source near a wanted cut
WINDOW: Final = 64 * KiB
#: the state in which every chunk begins and every proved chunk ends: a record may begin here
RECORD: Final = "record"

Unit = Literal["bytes", "rows"]


class ByteSource(Protocol):
    """Bytes that can be read in ranges, and that never change."""

    @property
    def name(self) -> str:
        """For messages, e.g. ``s3://bucket/key``."""

    @property
    def size(self) -> int:
        """Bytes."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes of ``[start, end)``, by one request; less only where the object ends."""

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes of ``[start, end)`` in order, in blocks of some MiB at most, read ahead by a bounded
        number of blocks.
        """


class Boundary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A position between two chunks, and the state of the format's automaton there.

    :param position: in the unit of the format.
    :param state: :data:`RECORD`, or the format's name of the state in which a reader found itself.
    """

    position: int
    state: str = RECORD


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one chunk covers: ``[start, end)``."""

    start: Boundary
    end: Boundary


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A column of the source.

    :param name: case-sensitive.
    :param type: ``"string"``, ``"integer"``, ``"number"``, ``"boolean"``, ``"json"`` (nested or mixed), or
        the format's own spelling of a richer type (Arrow's, for Parquet).
    """

    name: str
    type: str = "string"


class Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was learnt about a source once, and holds for all its chunks. Goes into the plan as JSON.

    :param extent: the end of the last chunk: bytes, or rows.
    :param columns: by which the source's rows can be addressed; ``None`` where they have no names (records
        that are no objects, no header).
    :param details: the format's own, JSON values only: dialect, header, row groups ...
    :param warnings: for a person, e.g. a row group that cannot be split.
    """

    extent: int
    columns: tuple[Column, ...] | None = None
    details: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadRequest:
    """How a chunk is to be read.

    :param columns: whose values will be asked for and replaced; none: rows are only told apart.
    :param known: all column names that may occur; ``None``: any. A row with another one is bad.
    :param records: whether :meth:`Batch.records` will be called.
    :param native: whether the batches go to :meth:`PartEncoder.native`: then a format may give the same rows
        several times, each time with other columns, see :attr:`Batch.columns`.
    :param objects: whether each record is to become a row of columns: one that is no object, or has a key
        twice, is bad.
    :param utf8: whether JSON records must be UTF-8 as a whole, since they become another document: otherwise
        the bytes of values that nobody asks for are kept as they are, whatever they are.
    :param batch_rows: rows of a batch at most.
    :param batch_bytes: bytes of a batch at most (one longer row is a batch of its own); what counts.
    :param on_bad: a row that cannot be read: ``"fail"`` raises
        :class:`~chunkwise.core.errors.RowInvalid`, ``"collect"`` puts it into :attr:`Batch.bad`.
    """

    columns: tuple[str, ...] = ()
    known: frozenset[str] | None = None
    records: bool = False
    native: bool = False
    objects: bool = False
    utf8: bool = False
    batch_rows: int = 100_000
    batch_bytes: int = 8 * MiB
    on_bad: Literal["fail", "collect"] = "fail"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was left out.

    :param row: its number in the chunk, from 0, bad rows counted.
    :param position: where it begins in the source, in the format's unit.
    :param data: its bytes (or its values as JSON).
    :param reason: without any of its values.
    """

    row: int
    position: int
    data: bytes
    reason: str


class Batch(Protocol):
    """Some rows of a chunk, in order, in the format's native form."""

    @property
    def rows(self) -> int:
        """Good rows."""

    @property
    def first(self) -> int:
        """Number in the chunk of the batch's first row, bad rows counted; for messages."""

    @property
    def bad(self) -> Sequence[BadRow]:
        """Rows left out of this batch."""

    @property
    def columns(self) -> Sequence[str] | None:
        """Columns whose values are here; ``None``: all that were asked for.

        A format that stores columns apart may give the rows of a stretch once for each column, so that it
        need not hold one while it writes another.
        """

    def values(self, column: str) -> list[str | None]:
        """One value per row, as text: ``None`` where it is null or missing.

        Text, numbers and booleans come as their text. A nested value cannot be protected: RowInvalid.
        """

    def replace(self, column: str, values: Sequence[str | None]) -> None:
        """Put other values in their places. ``None``, and a value equal to the one that was there, leave the
        bytes as they are; every other value becomes text of the format (a JSON string, a CSV cell quoted as
        its predecessor was or as it must be). In Parquet the column must be of a string or binary type.
        """

    def records(self) -> list[bytes]:
        """Each row as one JSON value on one line: the currency between formats. Numbers keep their text.

        An object, but for JSON records of another kind, which only JSON can hold
        (:attr:`ReadRequest.objects`).
        """


class BatchReader(Protocol):
    """Iterates over the batches of one chunk; then knows where it really was."""

    def __iter__(self) -> Iterator[Batch]:
        """Once."""

    @property
    def start(self) -> Boundary:
        """Where reading began, and in which state."""

    @property
    def end(self) -> Boundary:
        """After the last batch: where reading ended, and in which state.

        A chunk that ends inside a record says so here by a state that is not :data:`RECORD` and raises
        nothing: its start or its end was assumed wrongly, and the merge will see it. At the end of the source
        a last record without its terminator is :data:`RECORD`.
        """

    @property
    def rows(self) -> int:
        """Rows read, bad ones included."""


class PartEncoder(Protocol):
    """Makes the bytes of one part (before any compression of the whole)."""

    def native(self, batch: Batch) -> Iterable[bytes]:
        """Bytes of a batch that was read by the same format: what nobody replaced comes out as it came."""

    def convert(self, records: Sequence[bytes], first: int) -> Iterable[bytes]:
        """Bytes of rows that another format read, as :meth:`Batch.records` gives them.

        :param first: number in the chunk of the first of them, for messages.
        :raises RowInvalid: a row does not fit the columns or types that the plan pinned.
        """

    def finish(self, reader: BatchReader) -> Iterable[bytes]:
        """The last bytes."""

    def notes(self) -> dict[str, Any]:
        """After :meth:`finish`: what :meth:`Format.join` must know of this part; small, JSON values only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A finished part, for :meth:`Format.join`.

    :param chunk: number, from 0.
    :param ref: goes into the :class:`~chunkwise.core.segments.Range` of its bytes; ``None`` where the chunk
        gave no bytes.
    :param size: bytes as they are stored (compressed, if they are).
    :param rows: in it.
    :param notes: of its encoder.
    :param source: its bytes, for formats that must look into them.
    """

    chunk: int
    ref: Any
    size: int
    rows: int
    notes: Mapping[str, Any] = field(default_factory=dict)
    source: ByteSource | None = None


class Format(Protocol):
    """One file format. Stateless: what it knows of a source is in the :class:`Layout`."""

    @property
    def name(self) -> str:
        """``"csv"``, ``"jsonl"``, ``"json"`` or ``"parquet"``."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of keys, lower case, with the dot, without a suffix of compression."""

    @property
    def unit(self) -> Unit:
        """Of positions."""

    @property
    def content_type(self) -> str:
        """Of an object in this format."""

    @property
    def compresses_itself(self) -> bool:
        """Whether ``gzip`` and ``zstd`` are codecs inside the file, rather than of the whole (Parquet)."""

    @property
    def needs_objects(self) -> bool:
        """Whether rows of another format must be objects, each key once: what is not JSON has columns."""

    def inspect(self, source: ByteSource, options: Mapping[str, Any]) -> Layout:
        """Look at the head of a source (or its footer), with few bounded reads.

        :param options: from ``mapping.json`` (``input.spec``) or the operator, by names of the format.
        :raises ConfigError: an option that is unknown or wrong.
        :raises UnsupportedSource: e.g. an encoding that cannot be handled.
        :raises InvalidSource: the head breaks the rules of the format.
        """

    def check(self, layout: Layout, columns: Sequence[str], name: str, *, native: bool) -> None:
        """Refuse at plan time what every chunk would refuse.

        :param columns: whose values will be replaced.
        :param name: of the source, for messages.
        :param native: whether the output keeps the format of the source; if not, its rows become JSON
            objects.
        :raises ConfigError: an option is missing or wrong for this.
        :raises FormatError: the source cannot be used in this way.
        """

    def keeps(self, layout: Layout, options: Mapping[str, Any]) -> bool:
        """Whether an output with these options is written as the source is, so that its bytes can stay.

        :param options: of the output.
        :raises ConfigError: one is unknown or wrong.
        """

    def narrow(self, layout: Layout, span: Span) -> Layout:
        """What :meth:`read` needs of a layout for one span; positions, and the extent, stay as they are."""

    def wanted(self, layout: Layout, chunk_bytes: int) -> Sequence[int]:
        """Positions near which cuts are wanted, increasing, none for one chunk."""

    def weight(self, layout: Layout, start: int, end: int) -> int:
        """Bytes of the source that a chunk ``[start, end)`` has to read."""

    def cut(self, source: ByteSource, layout: Layout, near: int) -> Boundary:
        """The first record boundary at or after ``near``, or ``layout.extent``; its state is assumed, not
        proved, unless the format's grammar proves it. At most 3 reads and 256 KiB, more only for records that
        are longer.
        """

    def exact(self, source: ByteSource, layout: Layout, wanted: Sequence[int]) -> Iterator[Boundary]:
        """For each wanted position the first record boundary at or after it, proved by a pass over the whole
        source, in bounded memory; above 150 MB/s per core.
        """

    def read(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> BatchReader:
        """Read one chunk as a stream. Rows are told apart by the same automaton from the state in which the
        span starts, and reading stops exactly at the span's end.
        """

    def target(self, layout: Layout, options: Mapping[str, Any], *, native: bool) -> dict[str, Any]:
        """What all parts of an output must agree on (header, columns, schema, codec): pinned in the plan,
        JSON values only.

        :param layout: of the source, whatever its format.
        :param options: ``output.spec``, by names of the format.
        :param native: whether the source has this format, too, and is to be kept as it is.
        """

    def encoder(self, target: Mapping[str, Any]) -> PartEncoder:
        """For one part."""

    def join(self, target: Mapping[str, Any], parts: Sequence[Part], source: Any) -> Iterable[Segment]:
        """The output from its parts, in order; a part without rows may have no bytes.

        :param source: reference of the source object, for a Range of its bytes (native outputs only).
        :raises SchemaMismatch: the parts do not fit together.
        """
