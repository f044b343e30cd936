"""The files that a Delta table has, as its log says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chunkwise.core.compact.model import Skipped
from chunkwise.core.delta.census import Partitioned
from chunkwise.core.delta.places import decode
from chunkwise.core.delta.state import ETAG_TAG


@dataclass(frozen=True, kw_only=True, slots=True)
class Active:
    """A file that the table has.

    :param path: from the table's root on, as keys are.
    :param raw_path: as the log writes it.
    :param size: bytes.
    :param values: of the partition columns.
    :param etag: in its quotes, if its writer said it.
    :param modified_ms: when it was written, in milliseconds since 1970.
    :param vector: whether some of its rows are deleted by a deletion vector.
    """

    path: str
    raw_path: str
    size: int
    values: dict[str, str | None]
    etag: str | None
    modified_ms: int
    vector: bool


class Live(Partitioned):
    """A table with all its files. What it had once is forgotten, and so its ledger is empty.

    :ivar files: by their path.
    """

    FILE_FIELDS = ("path", "size", "tags", "partitionValues", "modificationTime", "deletionVector")

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.files: dict[str, Active] = {}

    def take(self, action: Mapping[str, Any], version: int) -> None:
        """One action."""
        if "add" in action:
            add = action["add"]
            path = decode(add["path"])
            vector = add.get("deletionVector") or {}
            self.files[path] = Active(
                path=path,
                raw_path=add["path"],
                size=int(add.get("size") or 0),
                values=dict(add.get("partitionValues") or {}),
                etag=dict(add.get("tags") or {}).get(ETAG_TAG),
                modified_ms=int(add.get("modificationTime") or 0),
                vector=any(value is not None for value in vector.values()),
            )
        elif "remove" in action:
            self.files.pop(decode(action["remove"]["path"]), None)
        else:
            super().take(action, version)

    def uri_of(self, active: Active) -> str:
        """Of a file's object."""
        return active.path if "://" in active.path else f"{self.place}/{active.path}"

    def problem(self, active: Active) -> Skipped | None:
        """Why a file cannot be merged, whatever is in it."""
        if "://" in active.path or active.path.startswith("/"):
            return Skipped(
                uri=active.path,
                reason="other_root",
                detail="it lies elsewhere, as those of a shallow clone do",
            )
        if active.vector:
            return Skipped(
                uri=self.uri_of(active),
                reason="deletion_vector",
                detail="some of its rows are deleted by a deletion vector: let its engine rewrite it",
            )
        return None
