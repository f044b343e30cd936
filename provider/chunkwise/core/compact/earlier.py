"""What earlier tries of the same compaction have done.

A try that dies, or fails for another reason, after it has merged something tells nobody of it; the next one
finds nothing to do. What it made says in whose work, so the next one can tell.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from chunkwise.core.compact.marks import maker_of
from chunkwise.core.compact.model import File, Options
from chunkwise.core.compact.schema import Schemas
from chunkwise.core.compact.survey import survey
from chunkwise.core.compact.where import Where, front_of
from chunkwise.core.compacted import is_named
from chunkwise.core.delta.append import Settings
from chunkwise.core.delta.earlier import DOUBT, earlier_commits
from chunkwise.core.delta.news import News
from chunkwise.core.delta.places import Table
from chunkwise.core.errors import ReadFailed
from chunkwise.core.storage import ObjectRef, objects

#: outputs that are looked at, the newest ones
_MOST: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What earlier tries did, as far as it can be told.

    :param uri: of the prefix or the table.
    :param version: that the table got; ``None``: it is a prefix.
    :param merged: files whose rows are in outputs now.
    :param written: outputs.
    :param rows: of these.
    :param bytes: likewise.
    """

    uri: str
    version: int | None
    merged: int
    written: int
    rows: int
    bytes: int

    @property
    def news(self) -> News:
        """What to tell of it."""
        return News(
            uri=self.uri,
            version=self.version,
            operation="compact",
            committed=self.version is not None,
            bytes=self.bytes,
            files_added=self.written,
            files_removed=self.merged,
        )

    def to_json(self) -> dict[str, Any]:
        """Members that a receipt has as well."""
        return {
            "uri": self.uri,
            "version": self.version,
            "committed": self.version is not None,
            "preview": False,
            "files_merged": self.merged,
            "files_written": self.written,
            "rows": self.rows,
            "bytes": self.bytes,
        }


def earlier_of_table(client: Any, table: Table, settings: Settings) -> list[Done]:
    """Commits of earlier tries, oldest first; see :func:`~chunkwise.core.delta.earlier.earlier_commits`."""
    return [
        Done(
            uri=table.uri,
            version=one.version,
            merged=one.removed,
            written=one.added,
            rows=one.rows,
            bytes=one.bytes,
        )
        for one in earlier_commits(client, table, settings)
    ]


def earlier_of_prefix(
    client: Any,
    where: Where,
    info: Mapping[str, Any],
    tried_since: datetime | None,
    options: Options | None = None,
) -> list[Done]:
    """All outputs of earlier tries that are still there, as one; none if this is the first try.

    A listing of where outputs go, and a request for the footer of each that was written since the work began,
    of which there are at most 1,000. An output that was merged again since has gone into that of somebody
    else, who tells of it.

    :param info: what outputs of the work say of it.
    :param tried_since: since when earlier tries may have made some; ``None``: this is the first one.
    :raises ReadFailed: S3 refuses, or failed at every attempt.
    """
    if tried_since is None or not info:
        return []
    options = options or Options()
    since, target = tried_since - DOUBT, where.target
    listed = objects.list_objects(client, target.bucket, front_of(target), extra_args=options.extra_args)
    named = (one for one in listed if is_named(one.key.rpartition("/")[2]) and one.last_modified >= since)
    newest = heapq.nlargest(_MOST, named, key=lambda one: one.last_modified)
    refs = [ObjectRef(bucket=target.bucket, key=one.key, etag=one.etag, size=one.size) for one in newest]
    if not refs:
        return []
    own: list[File] = []
    for file in survey(client, refs, Schemas(), options):
        if not isinstance(file, File):
            if file.reason == "unread":
                raise ReadFailed(f"{file.uri} could not be read: {file.detail}")
        elif file.is_output and file.made_by == maker_of(info):
            own.append(file)
    if not own:
        return []
    return [
        Done(
            uri=where.source.uri,
            version=None,
            merged=sum(file.made_of for file in own),
            written=len(own),
            rows=sum(file.rows for file in own),
            bytes=sum(file.ref.size for file in own),
        )
    ]
