"""What goes into an append and what comes out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from chunkwise.core.choices import check_choices, check_texts

SchemaPolicy = Literal["fail", "add_columns"]
OnOverwrite = Literal["replace", "refuse"]
OnDelete = Literal["ignore", "remove"]
OnNanoseconds = Literal["refuse", "accept"]
OnUnproven = Literal["refuse", "add"]
OnReserved = Literal["ignore", "add"]

Kind = Literal[
    "added",
    "replaced",
    "removed",
    "duplicate",
    "replay",
    "schema_too_new",
    "rejected",
    "quarantined",
    "ignored",
    "unread",
]
#: after which nothing of an arrival is missing in the table
IN_TABLE: Final[tuple[Kind, ...]] = ("added", "replaced", "removed", "duplicate", "replay", "ignored")
#: in the order in which a receipt shows them
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What became of one arrival.

    :param uri: of the object.
    :param kind: ``added``; ``replaced``: overwritten, and the log has the new one now; ``removed``;
        ``duplicate``: the table has this very object; ``replay``: it had it, and its rows were rewritten or
        deleted since; ``schema_too_new``: it has columns that the policy does not let in; ``rejected``: it
        can never be added as it is; ``quarantined``: the same, and it was put on record; ``ignored``: nothing
        for a table; ``unread``: S3 did not let it be read, another try may.
    :param reason: one word for machines, empty where nothing is wrong.
    :param detail: one sentence for people; no data.
    """

    uri: str
    kind: Kind
    reason: str = ""
    detail: str = ""

    @property
    def settled(self) -> bool:
        """Whether another try would end the same way."""
        return self.kind != "unread"


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How an append decides.

    :param schema: ``"fail"``: a file with new columns (or wider small integers) is ``schema_too_new``;
        ``"add_columns"``: they become columns of the table in the same commit. Types that conflict are always
        rejected.
    :param on_overwrite: of an object that the table has, with another ETag or size now: ``"replace"`` its
        entry in the log, or ``"refuse"`` it.
    :param on_delete: of an object that the table has and that is gone: ``"remove"`` it from the table, or
        ``"ignore"`` that, and readers fail. One that was overwritten by a file that cannot be added is gone,
        too; it is never removed where overwritten objects are refused.
    :param on_nanoseconds: timestamps in nanoseconds: Spark reads none, and pyarrow fails on those that are
        not whole microseconds.
    :param on_unproven: a file that the table does not have, and that is older than what log and ledger know:
        its rows may have been rewritten into another file. That can only be where somebody cleaned the log of
        a table before Chunkwise kept its ledger. ``"refuse"`` it, or ``"add"`` it all the same.
    :param on_reserved: a file that another writer of Chunkwise put there to add it itself, see
        :mod:`chunkwise.core.reserved`: ``"ignore"`` it, or ``"add"`` it, as that writer does.
    :param partition_types: types of partition columns of a table that is created, by name, e.g.
        ``{"ds": "date"}``; default: string.
    """

    schema: SchemaPolicy = "fail"
    on_overwrite: OnOverwrite = "replace"
    on_delete: OnDelete = "ignore"
    on_nanoseconds: OnNanoseconds = "refuse"
    on_unproven: OnUnproven = "refuse"
    on_reserved: OnReserved = "ignore"
    partition_types: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_texts("partition_types", self.partition_types)
        check_choices(
            self,
            schema=SchemaPolicy,
            on_overwrite=OnOverwrite,
            on_delete=OnDelete,
            on_nanoseconds=OnNanoseconds,
            on_unproven=OnUnproven,
            on_reserved=OnReserved,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Which batch this is, for a source that counts its batches.

    :param app_id: of the source; lives in the log for ever, so one per source, never one per file or run.
    :param number: of the batch; one of the last one's number is a replay as a whole. Of one below it, what
        the table does not have is rejected: it cannot be known whether that batch was ever there. A number
        counts from when all files of its batch are in the table, or nothing is to be added of them: until
        then it may come again, with the same objects.
    """

    app_id: str
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """A commit that an earlier try of the same work made, and of which nobody may have been told.

    :param version: of it.
    :param added: files.
    :param removed: files.
    :param rows: of those that were added.
    :param bytes: likewise.
    :param new_columns: that it added or widened.
    """

    version: int
    added: int
    removed: int
    rows: int
    bytes: int
    new_columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TableReceipt:
    """What an append did to one table.

    :param uri: of the table.
    :param version: that was committed, or that the table has if nothing was; ``None``: there is no table.
    :param committed: whether there was something to commit.
    :param created: whether the commit made the table.
    :param rows: of the files that were added or replaced.
    :param bytes: of the same.
    :param files_added: how many these are.
    :param files_removed: that the table has no more.
    :param new_columns: that the commit added or widened.
    :param attempts: commits that were tried; all but the last one met another writer.
    :param verdicts: one for each arrival, in their order.
    :param earlier: commits of earlier tries of the same work.
    """

    uri: str
    version: int | None
    committed: bool
    created: bool = False
    rows: int = 0
    bytes: int = 0
    files_added: int = 0
    files_removed: int = 0
    new_columns: tuple[str, ...] = ()
    attempts: int = 0
    verdicts: tuple[Verdict, ...] = ()
    earlier: tuple[Earlier, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Arrivals by kind of verdict, those that occur."""
        found = Counter(verdict.kind for verdict in self.verdicts)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def not_in(self, kinds: Sequence[Kind]) -> tuple[Verdict, ...]:
        """The verdicts of other kinds."""
        return tuple(verdict for verdict in self.verdicts if verdict.kind not in kinds)
