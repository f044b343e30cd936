"""The info files that RDS writes beside the data of an export: the only word on single tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from chunkwise.core import decoding
from chunkwise.core.errors import ExportDamaged

COMPLETE: Final = "COMPLETE"
_EXPORT: Final = re.compile(r"export_info_.+\.json")
_TABLES: Final = re.compile(r"export_tables_info_.+\.json")

T = TypeVar("T", bound=msgspec.Struct)


class ExportInfo(msgspec.Struct, frozen=True, kw_only=True):
    """``export_info_{export}.json``.

    :param task: identifier of the export task.
    :param status: in the end ``"COMPLETE"``.
    """

    task: str = msgspec.field(name="exportTaskIdentifier")
    status: str


class TableInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One table in ``export_tables_info_{export}_from_{a}_to_{b}.json``, of which there may be several.

    :param target: ``database.schema.table``, or ``database.table``.
    :param status: ``"COMPLETE"``, if it was exported.
    :param warning: what RDS has to say about it.
    """

    target: str
    status: str
    warning: str | None = msgspec.field(name="warningMessage", default=None)

    @property
    def is_complete(self) -> bool:
        """Whether RDS says that it was exported."""
        return self.status.upper() == COMPLETE


class TablesInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of such a file."""

    tables: tuple[TableInfo, ...] = msgspec.field(name="perTableStatus")


def is_export_info(name: str) -> bool:
    """Whether a file at the root of an export is the one about the whole of it."""
    return _EXPORT.fullmatch(name) is not None


def is_tables_info(name: str) -> bool:
    """Whether it is one of those about its tables."""
    return _TABLES.fullmatch(name) is not None


def decode(body: bytes, kind: type[T], uri: str) -> T:
    """Read an info file; members that nobody asks for are passed over.

    :raises ExportDamaged: it is not of the form that it must have.
    """
    try:
        return decoding.decode(body, kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        place = str(error).partition(" - at ")[2] or "its beginning"
        raise ExportDamaged(f"{uri} is not an info file of RDS as it is known (at {place})") from error


def names_of(database: str, folder: str) -> Iterator[str]:
    """How RDS may name the table of a folder: MySQL's ``db/db.table`` is ``db.db.table`` or ``db.table``."""
    yield f"{database}.{folder}"
    if folder.startswith(f"{database}."):
        yield folder


def aliases(target: str) -> tuple[str, ...]:
    """The names that a user may have for a target: MySQL's ``db.db.table`` is ``db.table``, too."""
    database, _, rest = target.partition(".")
    return (target, rest) if rest.startswith(f"{database}.") else (target,)


def is_below(target: str, wanted: str) -> bool:
    """Whether a table is the wanted one, or one of the wanted database or schema."""
    return any(name == wanted or name.startswith(f"{wanted}.") for name in aliases(target))


def is_wanted(target: str, wanted: Iterable[str] | None) -> bool:
    """Whether a table is wanted; ``None``: all are."""
    return wanted is None or any(is_below(target, one) for one in wanted)
