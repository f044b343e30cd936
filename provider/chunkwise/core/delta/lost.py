"""A file that a compaction wrote is gone: the files that it was made of may still be there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chunkwise.core.compacted import is_named
from chunkwise.core.delta.findings import Finding, Names
from chunkwise.core.delta.log import actions_of
from chunkwise.core.delta.places import Table, decode
from chunkwise.core.storage import objects

log = logging.getLogger(__name__)


class Lost:
    """Says of missing files what they were made of.

    A request for the log entry of each that Chunkwise wrote, by its name, and of some others, once if they
    are of one; and one for each source that is looked for.

    :param client: boto3 S3 client.
    :param state: of the table.
    :param most: files whose sources are looked for, sources of each, and log entries for files of other
        writers at most.
    """

    def __init__(
        self, client: Any, table: Table, state: Names, most: int, extra_args: Mapping[str, Any] | None
    ) -> None:
        self._client = client
        self._table = table
        self._state = state
        self._most = most
        self._extra_args = extra_args
        self._looked_for = self._read_for_others = 0
        self._entry: tuple[int, list[dict[str, Any]]] = (-1, [])

    def explain(self, finding: Finding, path: str) -> Finding:
        """A missing file, with what is known of where its rows are.

        :raises ReadFailed: S3 refuses, or failed at every attempt.
        """
        sources = self._sources(path)
        if not sources:
            return finding
        found: list[str] = []
        if self._looked_for < self._most:
            self._looked_for += 1
            found = [self._uri(one) for one in sources[: self._most] if self._is_there(one)]
            log.warning(
                "%s is gone: a compaction wrote it. Of the first %d of %d files that it may be made of, %d "
                "are still there",
                finding.uri,
                min(len(sources), self._most),
                len(sources),
                len(found),
            )
        return replace(finding, made_of=len(sources), sources=tuple(found))

    def _sources(self, path: str) -> list[str]:
        """Paths of the files that the commit of a file has put it in the place of, with others perhaps."""
        entry = self._state.ledger.get(path)
        if entry is None:
            return []
        if self._entry[0] != entry.version:
            if not is_named(path.rpartition("/")[2]):
                if self._read_for_others >= self._most:
                    return []
                self._read_for_others += 1
            actions = actions_of(self._client, self._table, entry.version, extra_args=self._extra_args) or []
            self._entry = (entry.version, actions)
        actions = self._entry[1]
        values = [
            one["add"].get("partitionValues")
            for one in actions
            if "add" in one and not one["add"].get("dataChange", True) and decode(one["add"]["path"]) == path
        ]
        return [
            decode(one["remove"]["path"])
            for one in actions
            if "remove" in one
            and not one["remove"].get("dataChange", True)
            and one["remove"].get("partitionValues") in values
        ]

    def _is_there(self, path: str) -> bool:
        key, entry = self._table.key(path), self._state.ledger.get(path)
        listed = objects.list_objects(self._client, self._table.bucket, key, extra_args=self._extra_args)
        one = next(listed, None)
        return one is not None and one.key == key and entry is not None and entry.is_same(one.etag, one.size)

    def _uri(self, path: str) -> str:
        return f"s3://{self._table.bucket}/{self._table.key(path)}"
