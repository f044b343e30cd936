"""A table as its log says, folded commit by commit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.delta.ledger import Entry, Ledger
from chunkwise.core.delta.places import decode
from chunkwise.core.delta.schema import Fields, every_type, fields_of_schema, is_known
from chunkwise.core.errors import LogDamaged, UnsupportedTable

#: tags by which Chunkwise knows what it wrote itself
ETAG_TAG: Final = "chunkwise.etag"
DELETED_TAG: Final = "chunkwise.deleted"
#: features of writers that files added whole cannot break
_HARMLESS: Final = frozenset({"appendOnly", "invariants"})
_CONDITIONS: Final = ("delta.invariants", "delta.generationExpression", "delta.identity.start")


#: name of a file of rows that were made of another file: that one's digest, and one of how they were made
_ROWS: Final = re.compile(r"(?:.*/)?(rows-[0-9a-f]{32})-[0-9a-f]{16}\.parquet")


def rows_of(path: str) -> str | None:
    """The name under which the ledger has the rows of a file, wherever they lie; ``None``: they were not made
    of another file.
    """
    match = _ROWS.fullmatch(path)
    return None if match is None else f"{match[1]}.parquet"


class TableState:
    """What an append must know of a table.

    :cvar FILE_FIELDS: members of a file's action that :meth:`take` reads.
    :ivar version: that was folded last; -1: there is no table.
    :ivar protocol: the action of that name.
    :ivar metadata: the action ``metaData``.
    :ivar transactions: last version by app id.
    :ivar ledger: which files it ever had.
    :ivar snapshot: version of the snapshot that this was read from; ``None``: it was read from the log alone.
    :ivar snapshots: keys of all snapshots that there are.
    :ivar known_from: since when every removal is known, in milliseconds since 1970; 0: from the beginning.
    :ivar checkpoint: version of the newest checkpoint of Delta that was seen; -1: none was.
    """

    FILE_FIELDS: tuple[str, ...] = ("path", "size", "tags")

    def __init__(self, place: str) -> None:
        self.place = place
        self.version = -1
        self.protocol: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.transactions: dict[str, int] = {}
        self.ledger = Ledger()
        self.snapshot: int | None = None
        self.snapshots: list[str] = []
        self.known_from = 0
        self.checkpoint = -1

    @property
    def exists(self) -> bool:
        """Whether there is a table."""
        return self.version >= 0

    @property
    def fields(self) -> Fields:
        """The table's columns."""
        return fields_of_schema(self.metadata.get("schemaString", ""), self.place)

    @property
    def partitions(self) -> list[str]:
        """Names of its partition columns, in order."""
        return list(self.metadata.get("partitionColumns", ()))

    @property
    def is_append_only(self) -> bool:
        """Whether files must not be removed."""
        return str(self.metadata.get("configuration", {}).get("delta.appendOnly", "")).lower() == "true"

    def source_of(self, path: str) -> str | None:
        """See :func:`rows_of`."""
        return rows_of(path)

    def has_rows_of(self, path: str) -> Entry | None:
        """What is known of the rows of a file, if that was made of another one: in whatever partition, and
        with whatever columns they became part of the table. Nothing, if they were deleted from it: they may
        come again.
        """
        source = self.source_of(path)
        entry = None if source is None else self.ledger.get(source)
        return None if entry is None or entry.state == "deleted" else entry

    def is_unproven(self, written: datetime) -> bool:
        """Whether a file that is not known may have been removed before anything is known.

        :param written: when it was.
        """
        return self.known_from > 0 and written.timestamp() * 1000 <= self.known_from

    def fold(self, version: int, body: bytes) -> None:
        """The next commit.

        :raises LogDamaged: it cannot be read, or is not the next one.
        """
        if version != self.version + 1:
            raise LogDamaged(f"the log of {self.place} goes from version {self.version} to {version}")
        try:
            actions = [decoding.decode(line, dict[str, Any]) for line in body.splitlines() if line.strip()]
            # a path that a commit removes and adds is there afterwards
            for action in sorted(actions, key=lambda found: "remove" not in found):
                self.take(action, version)
        except (msgspec.MsgspecError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise LogDamaged(f"version {version} of {self.place} cannot be read") from error
        self.version = version

    def take(self, action: Mapping[str, Any], version: int) -> None:
        """One action."""
        if "add" in action:
            add = action["add"]
            tags = add.get("tags") or {}
            path, etag, size = decode(add["path"]), tags.get(ETAG_TAG), int(add.get("size") or 0)
            self.ledger.add(path, etag=etag, size=size, version=version)
            if (source := rows_of(path)) is not None:
                self.ledger.add(source, etag=etag, size=size, version=version)
        elif "remove" in action:
            remove = action["remove"]
            deleted = (remove.get("tags") or {}).get(DELETED_TAG) == "true"
            path, size = decode(remove["path"]), int(remove.get("size") or 0)
            self.ledger.remove(path, size=size, version=version, deleted=deleted)
            if (source := rows_of(path)) is not None:
                self.ledger.remove(source, size=size, version=version, deleted=deleted)
        elif "metaData" in action:
            self.metadata = action["metaData"]
        elif "protocol" in action:
            self.protocol = action["protocol"]
        elif "txn" in action:
            self.transactions[action["txn"]["appId"]] = int(action["txn"]["version"])

    def check_writable(self) -> None:
        """Refuse a table that a writer of whole Parquet files would break.

        :raises UnsupportedTable: naming what it has.
        :raises LogDamaged: its log does not say what it takes to write to it.
        """
        reader, writer = self.protocol.get("minReaderVersion"), self.protocol.get("minWriterVersion")
        if not isinstance(reader, int) or not isinstance(writer, int):
            raise LogDamaged(f"the log of {self.place} says no versions of the protocol")
        features = {
            *(self.protocol.get("readerFeatures") or ()),
            *(self.protocol.get("writerFeatures") or ()),
        }
        unknown = sorted(features - _HARMLESS)
        # from 3 and 7 on the features say what they are; between, a version stands for constraints and more
        if unknown or reader not in (1, 3) or (writer > 2 and writer != 7):
            what = ", ".join(unknown) or f"protocol {reader}/{writer}"
            raise UnsupportedTable(
                f"{self.place} uses {what}: files cannot be added to it without reading their rows; "
                "write to it with an engine that does"
            )
        config = self.metadata.get("configuration") or {}
        if str(config.get("delta.columnMapping.mode", "none")).lower() != "none":
            raise UnsupportedTable(
                f"{self.place} maps names of columns: its files have other names than the table"
            )
        found = [name for name in config if name.startswith("delta.constraints.")]
        if found:
            raise UnsupportedTable(f"{self.place} has {found[0]}: its rows must be read")
        provider = (self.metadata.get("format") or {}).get("provider") or "parquet"
        if provider != "parquet":
            raise UnsupportedTable(f"{self.place} has files of the format {provider!r}")
        for path, kind, metadata in every_type(self.fields):
            found = [name for name in _CONDITIONS if name in metadata]
            if found:
                raise UnsupportedTable(
                    f"column {path!r} of {self.place} has {found[0]}: its rows must be read"
                )
            if not is_known(kind):
                raise UnsupportedTable(f"column {path!r} of {self.place} is of the type {kind!r}")
