"""What a plan keeps of a CSV source."""

from __future__ import annotations

from typing import Any

import msgspec

from chunkwise.core import decoding
from chunkwise.core.errors import ConfigError
from chunkwise.core.formats.csv_dialect import Dialect
from chunkwise.core.formats.model import Layout


class Details(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The details of a layout.

    :param dialect: how the source is written.
    :param body: where its rows begin: after the byte order mark, the preamble and the header.
    :param fields: cells of a row, by the header or the first row; ``None``: there is none.
    """

    dialect: Dialect
    body: int
    fields: int | None

    @classmethod
    def of(cls, layout: Layout) -> Details:
        """Read them from a layout."""
        return decoding.convert(layout.details, cls)

    def to_json(self) -> dict[str, Any]:
        """JSON values only."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    @staticmethod
    def names(layout: Layout) -> tuple[str, ...] | None:
        """Of the columns; ``None``: they have none."""
        if layout.columns is None:
            return None
        return tuple(column.name for column in layout.columns)


def check_names(columns: tuple[str, ...] | None, source: str, *, empty: bool) -> None:
    """Refuse columns whose cells cannot be asked for by name.

    :param columns: names; ``None``: they have none.
    :param source: for messages.
    :param empty: whether it has no row at all.
    :raises ConfigError: they have no names, or two the same.
    """
    if columns is None:
        if not empty:
            raise ConfigError(f"{source} has no header: give the names of its columns as option names")
        return
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise ConfigError(f"{source} has column {twice[0]!r} more than once: which one is meant?")


def check_same(columns: tuple[str, ...], names: tuple[str, ...]) -> None:
    """Refuse columns of an output that every chunk would refuse, or that nothing would ever fill.

    :param columns: of the output; any order.
    :param names: all columns of the source.
    :raises ConfigError: one is on one side alone.
    """
    missing = [name for name in names if name not in columns]
    for name in columns:
        if name not in names:
            alike = [other for other in missing if other.casefold() == name.casefold()]
            hint = f"it is {alike[0]!r} there" if alike else f"it has {', '.join(map(repr, names[:20]))}"
            raise ConfigError(f"option columns names {name!r}, which is no column of the source: {hint}")
    if missing:
        raise ConfigError(
            f"option columns leaves out {missing[0]!r}: a csv output has all {len(names)} columns of its"
            " source, in the order of this option"
        )
