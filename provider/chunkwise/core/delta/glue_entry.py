"""Where a table stands in the Glue Data Catalog, and what was done there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

from chunkwise.core.delta.glue_table import Change
from chunkwise.core.delta.news import MOST_COLUMNS
from chunkwise.core.delta.places import Table
from chunkwise.core.errors import ConfigError

Action = Literal["created", "updated", "unchanged"]

#: Glue API reference, "Table" and "Database": characters of a name
_NAME: Final = re.compile(r"[\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]{1,255}")
#: Athena user guide, "Naming databases, tables, and columns": without quotes
_PLAIN: Final = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """Where a table stands in the catalog.

    :param database: lower-case.
    :param name: lower-case.
    :param catalog_id: account that has the catalog; ``None``: the caller's.
    """

    database: str
    name: str
    catalog_id: str | None = None

    @classmethod
    def of(cls, table: Table, database: str, name: str | None = None, catalog_id: str | None = None) -> Entry:
        """Glue writes names in lower case.

        :param name: default: the last folder of the table.
        :raises ConfigError: Glue cannot hold a name, or the folder's is none that can be used unquoted.
        """
        if name is None:
            name = table.root.rpartition("/")[2].lower()
            if not _PLAIN.fullmatch(name):
                raise ConfigError(
                    f"the folder of {table.uri} makes no name for a catalog table: give it one, of letters, "
                    "digits and underscores"
                ).naming("table")
        for what, value in (("database", database), ("table", name)):
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise ConfigError(
                    f"{what} is {value!r}: a name in the Glue catalog has 1 to 255 characters and no control "
                    "characters"
                ).naming(what)
        return cls(database=database.lower(), name=name.lower(), catalog_id=catalog_id)

    def __str__(self) -> str:
        return f"{self.database}.{self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogReceipt:
    """What was done to the catalog, or would be.

    :param uri: of the Delta table.
    :param entry: in the catalog.
    :param action: ``created``, ``updated`` or ``unchanged``.
    :param version: of the Delta table that the catalog was compared with.
    :param database_created: whether the database was made, too.
    :param change: between what was there and what is.
    :param compare_only: whether this is only what would be done.
    """

    uri: str
    entry: Entry
    action: Action
    version: int
    database_created: bool = False
    change: Change = field(default_factory=Change)
    compare_only: bool = False

    def to_json(self) -> dict[str, Any]:
        """Names and types of columns, of the first ones, and how many there are; no data."""
        change, most = self.change, MOST_COLUMNS
        return {
            "uri": self.uri,
            "database": self.entry.database,
            "table": self.entry.name,
            "action": self.action,
            "version": self.version,
            "database_created": self.database_created,
            "columns_added": list(change.added)[:most],
            "columns_removed": list(change.removed)[:most],
            "columns_changed": {name: dict(steps) for name, steps in islice(change.changed.items(), most)},
            "columns_total": {
                "added": len(change.added),
                "removed": len(change.removed),
                "changed": len(change.changed),
            },
            "other_changes": list(change.other),
            "compare_only": self.compare_only,
        }
