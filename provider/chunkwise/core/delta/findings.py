"""What a listing, the log and the ledger of a table say of its files: decisions and counts, no request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from chunkwise.core.delta.model import KINDS as VERDICTS
from chunkwise.core.delta.model import Verdict
from chunkwise.core.delta.news import News
from chunkwise.core.delta.places import decode
from chunkwise.core.delta.state import ETAG_TAG, TableState
from chunkwise.core.errors import DeltaError, ReadFailed
from chunkwise.core.storage.objects import Listed

Kind = Literal["missing", "stale", "orphan", "pending", "unproven", "reused"]
#: in the order in which a report shows them
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: what may lie there and is no difference: ``retired`` was rewritten or deleted, and waits for a vacuum
Fine = Literal["in_order", "retired"]

#: verdicts after which the table is as the listing is
MENDED: Final = ("added", "replaced", "removed", "duplicate", "replay")

_DETAILS: Final[Mapping[Kind, str]] = {
    "missing": "the table has it, and there is no such object: readers fail",
    "stale": "another object stands there than the one that the table has: readers may fail",
    "orphan": "the table never had it",
    "pending": "it was written a short while ago: its event or its commit may be on its way",
    "unproven": "it is older than what is known of the table: its rows may live on in another file",
    "reused": "it has the name of a file that was rewritten or deleted: its rows are in no table",
}
_LOST: Final = (
    "; a compaction wrote it, and its rows are in no other file of the table: copy what it was made of, as "
    "far as it is still there, to other names, and add these (under their own names they are known)"
)


class Logged(NamedTuple):
    """A file as the log has it.

    :param size: bytes.
    :param etag: in its quotes; ``None``: its writer did not say.
    """

    size: int
    etag: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A file on which listing, log and ledger differ.

    :param uri: of the object.
    :param kind: ``missing``: in the log, and not on S3; ``stale``: another object (ETag, size) than the log
        says; ``orphan``: on S3, and the table never had it; ``pending``: one of the last two, and younger
        than the grace; ``unproven``: an orphan that may have been rewritten before the log or the ledger
        began; ``reused``: another object of the name of a file that was rewritten or deleted.
    :param size: bytes on S3; ``None``: nothing is there.
    :param logged_size: bytes in the log; ``None``: it is not in it.
    :param last_modified: when the object was written.
    :param made_of: of a missing file that a compaction wrote: files whose rows it had, those of other outputs
        of the same commit and partition included.
    :param sources: URIs of those that are still there, of the first ones.
    """

    uri: str
    kind: Kind
    size: int | None = None
    logged_size: int | None = None
    last_modified: datetime | None = None
    made_of: int = 0
    sources: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The members that are known."""
        found: dict[str, Any] = {"uri": self.uri, "kind": self.kind, "detail": _DETAILS[self.kind]}
        if self.size is not None:
            found["size"] = self.size
        if self.logged_size is not None:
            found["logged_size"] = self.logged_size
        if self.last_modified is not None:
            found["last_modified"] = self.last_modified.isoformat()
        if self.made_of:
            found |= {"made_of": self.made_of, "sources": list(self.sources)}
            found["detail"] += _LOST
        return found


class Names(TableState):
    """A table with the names of all its files.

    The ledger is put in its place when the log has been read: it then holds what the log forgot, too.

    :ivar files: by decoded path.
    :ivar keeps_ledger: whether the ledger is in its place, and what is read from now on is new to it.
    """

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.files: dict[str, Logged] = {}
        self.keeps_ledger = False

    def take(self, action: Mapping[str, Any], version: int) -> None:
        """One action."""
        add, remove = action.get("add"), action.get("remove")
        if add is not None:
            etag = (add.get("tags") or {}).get(ETAG_TAG)
            self.files[decode(add["path"])] = Logged(int(add.get("size") or 0), etag)
        elif remove is not None:
            self.files.pop(decode(remove["path"]), None)
        if self.keeps_ledger or (add is None and remove is None):
            super().take(action, version)

    def adopt(self, known: TableState) -> None:
        """Take the ledger of a state of the same version."""
        self.ledger, self.known_from = known.ledger, known.known_from
        self.keeps_ledger = True


def compare(uri: str, path: str, listed: Listed, state: Names, *, before: datetime) -> Finding | Fine:
    """What an object is to a table.

    :param path: from the table's root on.
    :param before: objects that were written later are ``pending``.
    """

    def finding(kind: Kind) -> Finding:
        if kind in ("orphan", "stale", "unproven") and listed.last_modified > before:
            kind = "pending"
        return Finding(
            uri=uri,
            kind=kind,
            size=listed.size,
            logged_size=None if logged is None else logged.size,
            last_modified=listed.last_modified,
        )

    logged, entry = state.files.get(path), state.ledger.get(path)
    if logged is not None:
        # a writer that does not say the ETag of its file may have told it before, to the ledger
        same = logged.size == listed.size and (
            logged.etag.strip('"') == listed.etag.strip('"')
            if logged.etag is not None
            else entry is None or entry.is_same(listed.etag, listed.size)
        )
        return "in_order" if same else finding("stale")
    if entry is not None and entry.state == "removed":
        return "retired" if entry.is_same(listed.etag, listed.size) else finding("reused")
    if entry is None and state.is_unproven(listed.last_modified):
        return finding("unproven")
    return finding("orphan")


@dataclass(kw_only=True)
class Reconciled:
    """What a comparison has shown, and what was mended.

    :param uri: of the table.
    :param version: of it, at the end.
    :param listed: objects below the root, those of its log and other hidden ones included.
    :param in_order: files of the table that are as its log says.
    :param retired: files that were rewritten or deleted, and wait for a vacuum.
    :param nested: objects below folders that are tables of their own.
    :param elsewhere: files of the table that do not lie below its root, which nobody looked at.
    :param counts: differences by kind.
    :param bytes: the same in bytes, on S3 or, where nothing is there, in the log.
    :param examples: the first differences of each kind.
    :param verdicts: of what was to be mended, by kind.
    :param not_mended: the first of those that could not be mended.
    :param commits: that mended.
    :param rows: that were added by them.
    :param news: of these commits, as one; ``None``: there were none.
    :param report_uri: of the full report.
    """

    uri: str
    version: int
    listed: int = 0
    in_order: int = 0
    retired: int = 0
    nested: int = 0
    elsewhere: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    bytes: Counter[Kind] = field(default_factory=Counter)
    examples: list[Finding] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    not_mended: list[Verdict] = field(default_factory=list)
    commits: int = 0
    rows: int = 0
    news: News | None = None
    report_uri: str | None = None

    @property
    def open(self) -> int:
        """Differences that are left and that no waiting mends."""
        found = sum(count for kind, count in self.counts.items() if kind != "pending")
        return found - sum(self.verdicts[kind] for kind in MENDED)

    def check(self, *, fail_on_differences: bool = False) -> None:
        """Raise what is wrong, after everything was done that could be done.

        :param fail_on_differences: whether a difference that is left is an error.
        :raises ReadFailed: files that were to be mended could not be read; the next try does it.
        :raises DeltaError: a difference is left, and that is an error.
        """
        if self.verdicts["unread"]:
            raise ReadFailed(
                f"{self.verdicts['unread']} files of {self.uri} could not be read; a retry mends what is left"
            )
        if fail_on_differences and self.open:
            shown = ", ".join(f"{self.counts[kind]} {kind}" for kind in KINDS if self.counts[kind])
            raise DeltaError(f"{self.uri}: {self.open} differences are left, of {shown}")

    def to_json(self) -> dict[str, Any]:
        """Counts and references."""
        return {
            "uri": self.uri,
            "version": self.version,
            "listed": self.listed,
            "in_order": self.in_order,
            "retired": self.retired,
            "nested": self.nested,
            "elsewhere": self.elsewhere,
            "counts": {kind: self.counts[kind] for kind in KINDS if self.counts[kind]},
            "bytes": {kind: self.bytes[kind] for kind in KINDS if self.counts[kind]},
            "examples": [one.to_json() for one in self.examples],
            "open": self.open,
            "repaired": {
                "counts": {kind: self.verdicts[kind] for kind in VERDICTS if self.verdicts[kind]},
                "commits": self.commits,
                "rows": self.rows,
                "not_repaired": [
                    {"uri": one.uri, "verdict": one.kind, "reason": one.reason, "detail": one.detail}
                    for one in self.not_mended
                ],
            },
            "report_uri": self.report_uri,
        }
