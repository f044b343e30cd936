"""How an export lies on S3: ``{export}/{database}/{schema.table}/{batch}/part-{number}-{uuid}.gz.parquet``.

Numbers of parts have gaps, and begin again in each batch folder. A folder is whole when it has a
``_SUCCESS``; an empty table has nothing else. An older form has no batch folders: the table's own folder is
the only one then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from chunkwise.core.compacted import is_named

SUCCESS: Final = "_SUCCESS"
_PARQUET: Final = ".parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What the key of an object in an export says.

    :param database: first folder.
    :param folder: second folder, ``schema.table``.
    :param batch: the folders below that one; empty: none.
    :param name: of the file.
    """

    database: str
    folder: str
    batch: str
    name: str

    @property
    def is_success(self) -> bool:
        """Whether it says that its folder is whole."""
        return self.name == SUCCESS

    @property
    def is_data(self) -> bool:
        """Whether it has rows that RDS has put there."""
        return self.name.endswith(_PARQUET) and not self.is_output

    @property
    def is_output(self) -> bool:
        """Whether a compaction has put it there, of a table that lies in the export itself."""
        return is_named(self.name)


def place_of(path: str) -> Place | None:
    """Read the part of a key behind the export's folder.

    :return: ``None`` for info files, and for what engines and Chunkwise keep in a table's folder (names that
        start with an underscore or a dot).
    """
    database, _, rest = path.partition("/")
    folder, _, below = rest.partition("/")
    *batch, name = below.split("/")
    if not database or not folder or not name or any(one.startswith(("_", ".")) for one in batch):
        return None
    if name.startswith(("_", ".")) and name != SUCCESS:
        return None
    return Place(database=database, folder=folder, batch="/".join(batch), name=name)


@dataclass(kw_only=True, slots=True)
class Batch:
    """A folder of files.

    :ivar files: with rows.
    :ivar bytes: in them.
    :ivar whole: whether it has its ``_SUCCESS``.
    """

    files: int = 0
    bytes: int = 0
    whole: bool = False


@dataclass(kw_only=True, slots=True)
class Folder:
    """The folder of a table.

    :ivar batches: by name; an empty table has one without files, or ``_SUCCESS`` at its own place.
    :ivar outputs: files that a compaction has put there.
    """

    batches: dict[str, Batch] = field(default_factory=dict)
    outputs: int = 0

    @property
    def files(self) -> int:
        """Files with rows."""
        return sum(batch.files for batch in self.batches.values())

    @property
    def bytes(self) -> int:
        """In these."""
        return sum(batch.bytes for batch in self.batches.values())

    @property
    def open(self) -> list[str]:
        """Batches without ``_SUCCESS``."""
        return sorted(name for name, batch in self.batches.items() if not batch.whole)


class Inventory:
    """What a listing of an export says, folded: a few numbers for each batch folder, whatever it holds.

    :ivar folders: by database and name.
    :ivar root: names of the files beside the databases.
    """

    def __init__(self) -> None:
        self.folders: dict[tuple[str, str], Folder] = {}
        self.root: list[str] = []

    def take(self, path: str, size: int) -> None:
        """One object.

        :param path: its key behind the export's folder.
        :param size: bytes.
        """
        if "/" not in path:
            self.root.append(path)
            return
        place = place_of(path)
        if place is None or not (place.is_success or place.is_data or place.is_output):
            return
        folder = self.folders.setdefault((place.database, place.folder), Folder())
        if place.is_output:
            folder.outputs += 1
            return
        batch = folder.batches.setdefault(place.batch, Batch())
        if place.is_success:
            batch.whole = True
        else:
            batch.files += 1
            batch.bytes += size

    def __iter__(self) -> Iterator[tuple[str, str, Folder]]:
        """Databases, names and folders, in order."""
        for (database, name), folder in sorted(self.folders.items()):
            yield database, name, folder
