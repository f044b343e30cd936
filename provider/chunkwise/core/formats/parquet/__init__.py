"""Parquet: row groups are found in the footer, copied where nobody replaced anything, and merged by a new
footer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import msgspec

from chunkwise.core.errors import ConfigError
from chunkwise.core.formats.model import (
    Boundary,
    ByteSource,
    Column,
    Layout,
    Part,
    PartEncoder,
    ReadRequest,
    Span,
    Unit,
)
from chunkwise.core.formats.parquet.join import join
from chunkwise.core.formats.parquet.layout import (
    details_of,
    groups_of,
    survey,
    wanted,
    warnings_of,
    weight,
)
from chunkwise.core.formats.parquet.metadata import check_writer, fields_of, unpack_head
from chunkwise.core.segments import Segment

if find_spec("pyarrow") is None:  # an optional dependency
    raise ConfigError("Parquet needs pyarrow: install airflow-provider-chunkwise[parquet]")

from chunkwise.core.formats.parquet.batch import is_replaceable, refuse_twins, unfit
from chunkwise.core.formats.parquet.columns import arrow_field, unwritable, way_of
from chunkwise.core.formats.parquet.convert import ConvertingEncoder, check_options, target_of
from chunkwise.core.formats.parquet.encoder import NativeEncoder
from chunkwise.core.formats.parquet.reader import ParquetReader

__all__ = ["Parquet"]


class Parquet:
    """Apache Parquet. Positions are row numbers; a cut anywhere is right, since the footer counts rows.

    Options of a source: none. Options of an output that has another format's source: ``schema`` (type of
    Arrow by column) and ``compression``; of one that has Parquet's: none, it is kept as it is.
    """

    name = "parquet"
    suffixes = (".parquet", ".pq", ".parq")
    unit: Unit = "rows"
    content_type = "application/vnd.apache.parquet"
    compresses_itself = True
    needs_objects = True

    def inspect(self, source: ByteSource, options: Mapping[str, Any]) -> Layout:
        """See :class:`~chunkwise.core.formats.model.Format`; reads the footer only."""
        check_options(options, frozenset())
        head, fields, groups, first_group = survey(source, fields_of, check_writer)
        columns = []
        for field in fields:
            arrow = arrow_field(head, field)
            columns.append(Column(name=field.name, type="unknown" if arrow is None else str(arrow.type)))
        if not all(way_of(head, field) for field in fields):
            groups = groups.unsplit()
        return Layout(
            extent=groups.extent,
            columns=tuple(columns),
            details=details_of(head, groups, first_group),
            warnings=warnings_of(groups, source.name),
        )

    def check(self, layout: Layout, columns: Sequence[str], name: str, *, native: bool) -> None:
        """See :class:`~chunkwise.core.formats.model.Format`.

        :raises SchemaMismatch: a column is to be replaced, and is of a type that holds no texts, or cannot be
            written anew.
        :raises UnsupportedSource: two columns, or two members of a struct, have the same name, and rows are
            to become JSON objects.
        """
        head = unpack_head(layout.details["head"])
        fields = fields_of(head, name)
        if not native:
            refuse_twins(head, fields, name)
        for field in fields:
            if field.name not in columns:
                continue
            found = arrow_field(head, field)
            if found is None or not is_replaceable(found.type):
                raise unfit(field.name, name, "unknown" if found is None else found.type)
            if native and way_of(head, field) is None:
                raise unwritable(field.name, name)

    def keeps(self, layout: Layout, options: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """See :class:`~chunkwise.core.formats.model.Format`: they are about its codecs, which others see."""
        return True

    def narrow(self, layout: Layout, span: Span) -> Layout:
        """See :class:`~chunkwise.core.formats.model.Format`: the row groups of which it has rows."""
        groups = groups_of(layout)
        numbers = groups.owned(span.start.position, span.end.position)
        return msgspec.structs.replace(
            layout, details={**layout.details, "groups": groups.of(numbers).pack()}
        )

    def wanted(self, layout: Layout, chunk_bytes: int) -> Sequence[int]:
        """See :class:`~chunkwise.core.formats.model.Format`: ends of row groups, and rows of a giant one."""
        return wanted(groups_of(layout), chunk_bytes)

    def weight(self, layout: Layout, start: int, end: int) -> int:
        """See :class:`~chunkwise.core.formats.model.Format`."""
        return weight(groups_of(layout), start, end)

    def cut(self, source: ByteSource, layout: Layout, near: int) -> Boundary:  # noqa: ARG002
        """See :class:`~chunkwise.core.formats.model.Format`: every row is a boundary, proved by the
        footer.
        """
        return Boundary(position=min(max(near, 0), layout.extent))

    def exact(self, source: ByteSource, layout: Layout, wanted: Sequence[int]) -> Iterator[Boundary]:
        """See :class:`~chunkwise.core.formats.model.Format`: the same, without reading anything."""
        for near in wanted:
            yield self.cut(source, layout, near)

    def read(self, source: ByteSource, layout: Layout, span: Span, request: ReadRequest) -> ParquetReader:
        """See :class:`~chunkwise.core.formats.model.Format`.

        Only the columns that are asked for are decoded.
        """
        return ParquetReader(source, layout, span, request)

    def target(self, layout: Layout, options: Mapping[str, Any], *, native: bool) -> dict[str, Any]:
        """See :class:`~chunkwise.core.formats.model.Format`."""
        if not native:
            return target_of(layout, options)
        check_options(options, frozenset())
        return {"head": layout.details["head"]}

    def encoder(self, target: Mapping[str, Any]) -> PartEncoder:
        """See :class:`~chunkwise.core.formats.model.Format`."""
        encoder: Any = ConvertingEncoder(target) if "columns" in target else NativeEncoder(target)
        found: PartEncoder = encoder
        return found

    def join(self, target: Mapping[str, Any], parts: Sequence[Part], source: Any) -> Iterable[Segment]:  # noqa: ARG002
        """See :class:`~chunkwise.core.formats.model.Format`."""
        return join(target, parts)
