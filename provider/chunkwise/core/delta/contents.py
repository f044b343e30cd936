"""A table with all its files, by the partitions that they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chunkwise.core.delta.places import decode
from chunkwise.core.delta.state import TableState


@dataclass(frozen=True, kw_only=True, slots=True)
class Active:
    """A file that the table has.

    :param path: as the log writes it.
    :param size: bytes.
    :param values: of the partition columns.
    """

    path: str
    size: int
    values: dict[str, str | None]


class Contents(TableState):
    """A table with all its files. What it had once is forgotten: it may be added again.

    :ivar files: by decoded path.
    """

    FILE_FIELDS = (*TableState.FILE_FIELDS, "partitionValues")

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.files: dict[str, Active] = {}

    def source_of(self, path: str) -> str | None:  # noqa: ARG002 - the same rows may come again
        """Nobody asks what rows were made of."""
        return None

    def take(self, action: Mapping[str, Any], version: int) -> None:
        """One action."""
        if "remove" in action:
            remove = action["remove"]
            path = decode(remove["path"])
            self.files.pop(path, None)
            self.ledger.remove(path, size=int(remove.get("size") or 0), version=version, deleted=True)
            return
        super().take(action, version)
        if "add" in action:
            add = action["add"]
            self.files[decode(add["path"])] = Active(
                path=add["path"],
                size=int(add.get("size") or 0),
                values=dict(add.get("partitionValues") or {}),
            )
