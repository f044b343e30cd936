"""Which files become one: pure decisions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chunkwise.core.compact.marks import name_of
from chunkwise.core.compact.model import MOST_FILES, File, Options, Skipped, Way


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Files that become one, in the order of their rows in it.

    :param files: of one schema.
    """

    files: tuple[File, ...]

    @property
    def name(self) -> str:
        """Of the output, by its sources."""
        return name_of(file.ref for file in self.files)

    @property
    def rows(self) -> int:
        """In it."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(file.ref.size for file in self.files)

    @property
    def uris(self) -> tuple[str, ...]:
        """Of the files."""
        return tuple(file.ref.uri for file in self.files)


def pack(files: Iterable[File], options: Options) -> tuple[list[Bin], list[Skipped]]:
    """Share files out, in their order, and say which ones are left alone.

    The same files give the same bins. Each bin has files of one schema, of ``target_bytes`` at most.

    :param files: of one folder or partition.
    """
    by_schema: dict[bytes, list[File]] = {}
    for file in files:
        by_schema.setdefault(file.schema.key, []).append(file)
    bins: list[Bin] = []
    skipped: list[Skipped] = []
    most = max(by_schema.values(), key=len, default=[])
    for alike in by_schema.values():
        for run in _runs(alike, options.target_bytes):
            if len(run) >= options.min_files:
                bins.append(Bin(files=tuple(run)))
            else:
                skipped += [_alone(file, alike, most) for file in run]
    return bins, skipped


def without(one: Bin, file: File, options: Options) -> tuple[list[Bin], list[Skipped]]:
    """What becomes of the others, if a file of a bin cannot be used."""
    return pack([other for other in one.files if other is not file], options)


def _runs(files: Sequence[File], target: int) -> Iterable[list[File]]:
    run: list[File] = []
    size = stands_for = 0
    for file in files:
        weight = 1 + len(file.stands_for)
        if run and (size + file.ref.size > target or stands_for + weight > MOST_FILES):
            yield run
            run, size, stands_for = [], 0, 0
        run.append(file)
        size += file.ref.size
        stands_for += weight
    if run:
        yield run


def _alone(file: File, alike: Sequence[File], most: Sequence[File]) -> Skipped:
    """Why a file is left alone."""
    if alike is not most and len(alike) < len(most):
        return Skipped(
            uri=file.ref.uri,
            reason="schema",
            detail=f"its columns differ from those of {most[0].ref.uri}: "
            f"{most[0].schema.difference(file.schema)}",
        )
    return Skipped(uri=file.ref.uri, reason="alone", detail="there are too few files to merge it with")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """How the files of a bin become one.

    :param way: of it; ``None``: there is none.
    :param why: of this way, or why there is none.
    """

    way: Way | None
    why: str


def choose(files: Sequence[File], options: Options) -> Choice:
    """Row groups that are large enough are copied; the others are written anew, if their types can be."""
    first = files[0]
    fixed = next((f"{file.ref.uri}: {file.fixed}" for file in files if file.fixed), "")
    if not fixed and any(file.schema.strict != first.schema.strict for file in files):
        fixed = "their writers, or their spellings of the schema, differ"
    groups, data = sum(file.groups for file in files), sum(file.data_bytes for file in files)
    average = data // max(1, groups)
    if not fixed and average >= options.join_row_group_bytes:
        return Choice(way="joined", why=f"row groups of {average} bytes on average are copied as they are")
    if first.schema.options() is not None:
        small = f"row groups of {average} bytes on average become larger ones"
        return Choice(way="rewritten", why=fixed or small)
    if not fixed:
        return Choice(way="joined", why="pyarrow would write a column of them as another type")
    return Choice(way=None, why=f"pyarrow would write a column of them as another type, and {fixed}")
