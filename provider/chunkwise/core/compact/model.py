"""What goes into a compaction and what comes out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from chunkwise.core.choices import check_bounds
from chunkwise.core.compact.schema import FileSchema
from chunkwise.core.delta.news import News
from chunkwise.core.errors import ConfigError, FormatError
from chunkwise.core.formats.parquet.habits import Habit
from chunkwise.core.storage import ObjectRef
from chunkwise.core.storage.concat_plan import S3_LIMITS, Limits
from chunkwise.core.units import MiB

Sources = Literal["keep", "delete"]
"""What becomes of the files that were merged: they stay, or are deleted once their output was verified."""
Way = Literal["joined", "rewritten"]

#: files that one output stands for at most, those that its sources stood for included: 16 bytes of each are
#: in its footer
MOST_FILES: Final = 10_000
#: files of which nobody asks for a footer: it would be larger than they are
_TINY: Final = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a compaction works.

    :param target_bytes: of an output, about; of its sources, to be exact.
    :param small_bytes: smaller files are merged, larger ones are left alone; default: half the target.
    :param min_files: fewer are not merged.
    :param suffix: of the files.
    :param min_age: files that were written since are left for the next time.
    :param row_group_bytes: of rows in memory that become one row group, where rows are written anew.
    :param join_row_group_bytes: from this size on, on average, row groups are copied as they are.
    :param concurrency: footers that are read, and files that are deleted, at a time.
    :param extra_args: more arguments as for ``put_object``; each goes to the calls that know it.
    :param limits: of the server.
    :param check: called between requests now and then; what it raises ends the compaction.
    """

    target_bytes: int = 128 * MiB
    small_bytes: int | None = None
    min_files: int = 2
    suffix: str = ".parquet"
    min_age: timedelta = timedelta()
    row_group_bytes: int = 64 * MiB
    join_row_group_bytes: int = 8 * MiB
    concurrency: int = 16
    extra_args: Mapping[str, Any] | None = None
    limits: Limits = S3_LIMITS
    check: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "target_bytes", "small_bytes", "min_files", "concurrency", "join_row_group_bytes")
        for name, least in (
            ("target_bytes", 1),
            ("min_files", 2),
            ("concurrency", 1),
            ("row_group_bytes", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be {least} or more").naming(
                    name
                )
        if self.small > self.target_bytes:
            raise ConfigError(
                f"small_bytes is {self.small}, and target_bytes is {self.target_bytes}: what is as large as"
                " an output must not be small"
            ).naming("small_bytes", "target_bytes")

    @property
    def small(self) -> int:
        """Bytes below which a file is merged."""
        return self.target_bytes // 2 if self.small_bytes is None else self.small_bytes

    def ask(self) -> None:
        """Whether to go on."""
        if self.check is not None:
            self.check()


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A Parquet file, as its footer says; small, for there may be many.

    :param ref: pins it.
    :param schema: of it; files of one schema have the same object.
    :param rows: in it.
    :param groups: row groups.
    :param data_bytes: of its column chunks.
    :param data_end: where its pages and bloom filters end.
    :param habits: of who wrote it, column by column; of nobody, if it has no row group.
    :param stands_for: 16 bytes of each file whose rows it has, if it is the output of a compaction.
    :param is_output: whether it is one.
    :param made_of: files that it was made of, if so.
    :param made_by: what it says of the work that made it, if so.
    :param fixed: why its row groups cannot be moved; empty: they can.
    """

    ref: ObjectRef
    schema: FileSchema
    rows: int
    groups: int
    data_bytes: int
    data_end: int
    habits: tuple[Habit, ...] = ()
    stands_for: frozenset[bytes] = frozenset()
    is_output: bool = False
    made_of: int = 0
    made_by: bytes = b""
    fixed: str = ""


class Unusable(FormatError):
    """One file of several that were to become one has a good footer, and cannot be used.

    :param file: it.
    """

    def __init__(self, message: str, *, file: File) -> None:
        super().__init__(message)
        self.file = file


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A file that was not merged.

    :param uri: of it.
    :param reason: one word: ``alone``: no other file that it could be merged with; ``changed``: another
        object stands there than was listed; ``covered``: an output has its rows; ``overlaps``: an output that
        shares some of its files with another one; ``full``: it stands for as many files as an output can;
        ``other_root``, ``stale``: see tables; or why its footer cannot be used: ``not_parquet``,
        ``encrypted``, ``damaged``, ``unsupported``, ``unread``.
    :param detail: one sentence; no data.
    """

    uri: str
    reason: str
    detail: str = ""

    def to_json(self) -> dict[str, str]:
        """For a receipt."""
        return {"uri": self.uri, "reason": self.reason, "detail": self.detail}


#: nothing is wrong with these, and nothing is to be told of each
FINE: Final = frozenset({"alone", "covered", "full"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """A file that was made of others.

    :param uri: of it.
    :param way: ``joined``: its row groups are those of its sources, copied by S3 as far as its rules let it;
        ``rewritten``: its rows were read and written again.
    :param why: this way.
    :param sources: URIs.
    :param source_bytes: of these.
    :param rows: in it.
    :param bytes: of it; ``None``: it is not there yet.
    :param row_groups: in it.
    :param client_bytes: that came to this process or went out from it, without footers.
    :param server_bytes: that S3 copied by itself.
    :param existed: whether it stood there before.
    """

    uri: str
    way: Way
    why: str
    sources: tuple[str, ...]
    source_bytes: int
    rows: int
    bytes: int | None = None
    row_groups: int | None = None
    client_bytes: int = 0
    server_bytes: int = 0
    existed: bool = False

    def to_json(self, *, most: int) -> dict[str, Any]:
        """For a receipt.

        :param most: sources that are named at most.
        """
        return {
            "uri": self.uri,
            "way": self.way,
            "why": self.why,
            "files": len(self.sources),
            "sources": list(self.sources[:most]),
            "source_bytes": self.source_bytes,
            "rows": self.rows,
            "bytes": self.bytes,
            "row_groups": self.row_groups,
            "client_bytes": self.client_bytes,
            "server_bytes": self.server_bytes,
            "existed": self.existed,
        }


@dataclass(kw_only=True)
class Compacted:
    """What a compaction did.

    :param uri: of the prefix or the table.
    :param preview: whether nothing was done.
    :param files_before: Parquet files that were there.
    :param outputs: that were made, or would be.
    :param skipped: files that were not merged.
    :param deletes: whether files that were merged are deleted.
    :param deleted: files that were, because an output has their rows.
    :param left_behind: URIs of outputs that nobody uses and that could not be deleted.
    :param version: of the table.
    :param committed: whether the table has a new version.
    :param attempts: commits that were tried.
    """

    uri: str
    preview: bool = False
    files_before: int = 0
    outputs: list[Output] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    deletes: bool = False
    deleted: int = 0
    left_behind: list[str] = field(default_factory=list)
    version: int | None = None
    committed: bool = False
    attempts: int = 0

    @property
    def merged(self) -> int:
        """Files whose rows are in an output now."""
        return sum(len(output.sources) for output in self.outputs)

    @property
    def news(self) -> News | None:
        """What to tell of it; ``None``: nothing was merged."""
        if self.preview or not self.outputs:
            return None
        return News(
            uri=self.uri,
            version=self.version,
            operation="compact",
            committed=self.committed,
            bytes=sum(output.bytes or 0 for output in self.outputs if not output.existed),
            files_added=sum(not output.existed for output in self.outputs),
            files_removed=self.merged,
        )

    def add(self, other: Compacted) -> None:
        """What was done in a folder."""
        self.outputs += other.outputs
        self.skipped += other.skipped
        self.deleted += other.deleted

    def to_json(self, *, most: int) -> dict[str, Any]:
        """Counts and references.

        :param most: outputs, sources of each and skipped files that are named at most.
        """
        told = [one for one in self.skipped if one.reason not in FINE]
        written = sum(not output.existed for output in self.outputs)
        gone, come = (self.deleted, written) if self.deletes else (self.merged, len(self.outputs))
        return {
            "uri": self.uri,
            "version": self.version,
            "committed": self.committed,
            "preview": self.preview,
            "files_before": self.files_before,
            "files_after": self.files_before - gone + come,
            "files_merged": self.merged,
            "files_written": 0 if self.preview else written,
            "files_deleted": self.deleted,
            "rows": sum(output.rows for output in self.outputs),
            "source_bytes": sum(output.source_bytes for output in self.outputs),
            "bytes": None if self.preview else sum(output.bytes or 0 for output in self.outputs),
            "client_bytes": sum(output.client_bytes for output in self.outputs),
            "server_bytes": sum(output.server_bytes for output in self.outputs),
            "ways": dict(Counter(output.way for output in self.outputs)),
            "outputs": [output.to_json(most=most) for output in self.outputs[:most]],
            "outputs_total": len(self.outputs),
            "skipped": dict(Counter(one.reason for one in self.skipped)),
            "not_merged": [one.to_json() for one in told[:most]],
            "not_merged_total": len(told),
            "left_behind": self.left_behind[:most],
            "attempts": self.attempts,
        }
