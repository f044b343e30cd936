"""Small files of a Delta table become few: new files, and one commit that puts them in the place of the old.

Readers see the table before or after it, the rows are the same, and the log says so (``dataChange`` is
false). What the table had once, its ledger knows: files that arrive again add nothing. The old files stay on
S3 until a vacuum, for readers of earlier versions.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chunkwise.core.compact.choosing import Choosing
from chunkwise.core.compact.live import Active, Live
from chunkwise.core.compact.making import Making
from chunkwise.core.compact.model import Compacted, Options, Output, Skipped
from chunkwise.core.compact.outputs import Place
from chunkwise.core.compact.packing import Bin
from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.actions import commit_body
from chunkwise.core.delta.append import Settings, pause, put_version
from chunkwise.core.delta.footer import REWRITTEN, Footer, read_footers, rewritten
from chunkwise.core.delta.judge import Decision
from chunkwise.core.delta.maintain import maintain
from chunkwise.core.delta.places import Table, encode
from chunkwise.core.delta.rows import partition_path
from chunkwise.core.delta.state import ETAG_TAG, TableState
from chunkwise.core.delta.statistics import stats_of
from chunkwise.core.errors import CommitContended, ReadFailed, StorageError, TableNotFound
from chunkwise.core.storage import objects

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A new file that is not in the log yet.

    :param output: it.
    :param replaces: what it was made of, as the log had it.
    :param path: of it, from the table's root on.
    :param footer: of it.
    """

    output: Output
    replaces: tuple[Active, ...]
    path: str
    footer: Footer


def compact_table(
    client: Any,
    table: Table,
    *,
    partition: Mapping[str, str | None] | None = None,
    options: Options | None = None,
    settings: Settings | None = None,
    preview: bool = False,
) -> Compacted:
    """Merge the small files of each partition, with one commit for all of them.

    Another writer's commit in between makes no difference, unless it took a file away that was merged: what
    was made of that is given up. Files of different columns, such as those from before a column was added,
    are merged among themselves.

    :param client: boto3 S3 client; no more requests run at once than its pool has connections.
    :param partition: values of some or all partition columns, as in paths; default: all partitions.
    :param settings: of the commit: how often it is tried, what it says of itself, and what is done beside it.
    :param preview: look and decide only; nothing is written.
    :raises TableNotFound: there is no table.
    :raises UnsupportedTable: it has a feature that a writer of whole files must not ignore, e.g. deletion
        vectors.
    :raises LogDamaged: its log cannot be read.
    :raises ConfigError: the partition does not fit the table.
    :raises CommitContended: other writers were faster at every attempt; nothing was changed.
    :raises StorageError: S3 refuses, or failed at every attempt.
    """
    options, settings = options or Options(), settings or Settings()
    state = table_log.load(client, table, extra_args=options.extra_args)
    if not state.exists:
        raise TableNotFound(f"there is no Delta table at {table.uri}").naming("table_uri")
    live = Live(table.uri)
    table_log.load_whole(client, table, live, extra_args=options.extra_args)
    table_log.level(client, table, state, live, extra_args=options.extra_args)
    live.check_writable()
    found = Compacted(uri=table.uri, preview=preview, version=live.version)
    choosing = Choosing(client, table, live, options, found)
    bins = choosing.bins(partition or {})
    run = _Run(client, table, live, options, settings, found, choosing.by_key)
    if preview:
        for values, one in bins:
            run.plan(values, one)
        return found
    if not bins:
        return found
    made: list[Made] = []
    try:
        for values, one in bins:
            run.make(values, one, made)
        body, etag = run.commit(state, made)
    except BaseException:
        run.give_up(made)
        raise
    if etag is not None:
        found.committed, found.version = True, live.version + 1
        state.fold(state.version + 1, body)
        maintain(client, table, state, etag, settings.maintenance, extra_args=options.extra_args)
    log.info(
        "%s is at version %d: %d files became %d, %d attempts",
        table.uri,
        found.version,
        found.merged,
        len(found.outputs),
        found.attempts,
    )
    return found


class _Run:
    """One compaction.

    :ivar is_unsure: whether a commit may have landed of which nobody knows.
    """

    def __init__(
        self,
        client: Any,
        table: Table,
        live: Live,
        options: Options,
        settings: Settings,
        found: Compacted,
        by_key: Mapping[str, Active],
    ) -> None:
        self._client = client
        self._table = table
        self._live = live
        self._options = options
        self._settings = settings
        self._found = found
        self._by_key = by_key
        self.is_unsure = False

    # --- what is made ---------------------------------------------------------------------------------------

    def plan(self, values: Mapping[str, str | None], one: Bin) -> None:
        """Say what would be made."""
        self._found.outputs += [output for _, _, output in self._outputs(values, one, preview=True)]

    def make(self, values: Mapping[str, str | None], one: Bin, made: list[Made]) -> None:
        """Make files, and note them."""
        for done, place, output in self._outputs(values, one):
            extra_args = self._options.extra_args
            (footer,) = read_footers(self._client, [(place.bucket, place.key)], extra_args=extra_args)
            if not isinstance(footer, Footer):
                raise ReadFailed(f"{place.uri} could not be read again: {footer.detail}")
            path = self._table.relative(place.bucket, place.key)
            assert path is not None
            replaces = tuple(self._by_key[file.ref.key] for file in done.files)
            made.append(Made(output=output, replaces=replaces, path=path, footer=footer))

    def _outputs(
        self, values: Mapping[str, str | None], one: Bin, *, preview: bool = False
    ) -> Iterator[tuple[Bin, Place, Output]]:
        making = Making(self._client, self._options, self._found.skipped, changed="stale", preview=preview)
        return making.outputs(one, lambda _: self._place(values))

    def _place(self, values: Mapping[str, str | None]) -> Place:
        """A name that nobody else takes: what no commit names is nobody's, and can be deleted."""
        path = f"{partition_path(values)}compacted-{uuid.uuid4().hex}.parquet"
        return Place(
            bucket=self._table.bucket,
            key=self._table.key(path),
            values={REWRITTEN: rewritten(str(self._live.metadata.get("id")), path).encode()},
        )

    def give_up(self, made: Sequence[Made]) -> None:
        """Delete new files that no commit names; leave those that one may name."""
        for one in made:
            if self.is_unsure:
                log.error("%s stays, because the commit that names it may have landed", one.output.uri)
                continue
            key = self._table.key(one.path)
            arguments = self._options.extra_args
            try:
                objects.delete(
                    self._client, self._table.bucket, key, if_match=one.footer.etag, extra_args=arguments
                )
            except StorageError as error:
                log.error("%s is in no table, and stays until a vacuum: %s", one.output.uri, error)
                self._found.left_behind.append(one.output.uri)

    # --- the commit -----------------------------------------------------------------------------------------

    def commit(self, state: TableState, made: list[Made]) -> tuple[bytes, str | None]:
        """Commit what was made of files that the table still has; what was not is given up.

        :param state: with the ledger; kept at the version of the other one.
        :return: the commit, and its ETag; ``None``: there was nothing to commit.
        """
        found, live, extra_args = self._found, self._live, self._options.extra_args
        while True:
            self._options.ask()
            lost = [one for one in made if any(live.files.get(file.path) != file for file in one.replaces)]
            for one in lost:
                made.remove(one)
                detail = "another writer has rewritten or removed one of these files meanwhile"
                found.skipped += [
                    Skipped(uri=uri, reason="changed", detail=detail) for uri in one.output.sources
                ]
            self.give_up(lost)
            if not made:
                return b"", None
            found.attempts += 1
            now_ms = time.time_ns() // 1_000_000
            body = commit_body(
                live, self._decided(made, now_ms), None, self._settings.info, now_ms, operation="OPTIMIZE"
            )
            self.is_unsure = True
            etag = put_version(self._client, self._table, live.version + 1, body, extra_args)
            if etag is not None:
                found.outputs = [one.output for one in made]
                return body, etag
            self.is_unsure = False
            if found.attempts >= self._settings.attempts:
                raise CommitContended(
                    f"{self._table.uri} got another commit at each of {found.attempts} attempts: compact it "
                    "when fewer write to it"
                )
            pause(found.attempts)
            table_log.catch_up(self._client, self._table, live, extra_args=extra_args)
            table_log.level(self._client, self._table, state, live, extra_args=extra_args)
            live.check_writable()
            found.version = live.version

    def _decided(self, made: Sequence[Made], now_ms: int) -> Decision:
        live = self._live
        columns = [one["name"] for one in live.fields if one["name"] not in live.partitions]
        decision = Decision(fields=live.fields, partitions=dict.fromkeys(live.partitions, ""))
        for one in made:
            decision.removes += [
                {
                    "path": file.raw_path,
                    "deletionTimestamp": now_ms,
                    "dataChange": False,
                    "extendedFileMetadata": True,
                    "partitionValues": file.values,
                    "size": file.size,
                }
                for file in one.replaces
            ]
            footer = one.footer
            decision.adds.append(
                {
                    "path": encode(one.path),
                    "partitionValues": one.replaces[0].values,
                    "size": footer.size,
                    "modificationTime": int(footer.last_modified.timestamp() * 1000),
                    "dataChange": False,
                    "stats": stats_of(footer.rows, footer.bounds, columns),
                    "tags": {ETAG_TAG: footer.etag},
                }
            )
        return decision
