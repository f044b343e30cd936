"""Files of JSON become rows of a Delta table: a Parquet file for each, and one commit for all of them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.append import Settings, append
from chunkwise.core.delta.aside import Aside
from chunkwise.core.delta.earlier import earlier_commits
from chunkwise.core.delta.json_records import batches, document, form_of, lines_of, without_mark
from chunkwise.core.delta.loads import Loaded, LoadReceipt, RowPolicy
from chunkwise.core.delta.places import Table
from chunkwise.core.delta.rows import (
    SAMPLE_ROWS,
    BadRow,
    RowEncoder,
    columns_of,
    partition_path,
)
from chunkwise.core.delta.state import TableState
from chunkwise.core.errors import (
    ChunkwiseError,
    DeltaError,
    SourceNotFound,
)
from chunkwise.core.records.compression import decompress
from chunkwise.core.storage import ObjectRef, S3Source, S3Writer, objects, pin

log = logging.getLogger(__name__)


def load_json_files(
    client: Any,
    table: Table,
    arrivals: Iterable[Arrival],
    *,
    policy: RowPolicy | None = None,
    settings: Settings | None = None,
) -> LoadReceipt:
    """Add the rows of files, each file's once, in memory that does not depend on their size.

    A file is known by its key and ETag, of which the Parquet file's name is made: the table's ledger has that
    name, also after a compaction, and in whatever partition its rows are. One that cannot be loaded stops no
    other.

    What stands there counts, not what the events say: a file that was deleted and written again is loaded.

    :param client: boto3 S3 client.
    :raises ChunkwiseError: the table cannot be read or written; see :func:`~chunkwise.core.delta.append`.
    """
    policy, settings = policy or RowPolicy(), settings or Settings()
    earlier = earlier_commits(client, table, settings)
    state = table_log.load(client, table, extra_args=settings.extra_args)
    known: dict[str, str] = {}
    files: dict[str, Loaded] = {}
    written: dict[str, _Written] = {}
    for arrival in arrivals:
        if arrival.uri in files:
            continue
        try:
            found = _Load(client, table, state, known, arrival, policy, settings).run()
        except ChunkwiseError as error:
            log.error("%s was not loaded: %s", arrival.uri, error)
            files[arrival.uri] = Loaded(uri=arrival.uri, kind="failed", error=error)
            continue
        if isinstance(found, _Written):
            written[found.arrival.uri] = found
            files[arrival.uri] = found.loaded
        else:
            files[arrival.uri] = found
    # what was in the table before is known of the files that rows are made of
    trusting = replace(settings, policy=replace(settings.policy, on_unproven="add"))
    receipt = append(client, table, [one.arrival for one in written.values()], settings=trusting)
    for verdict in receipt.verdicts:
        one = written[verdict.uri].loaded
        if verdict.kind in ("added", "duplicate"):
            continue
        if verdict.kind == "replay":
            files[one.uri] = Loaded(uri=one.uri, kind="replay")
            continue
        # or the next try would find it, and take it for what it would write itself
        if verdict.settled:
            written[verdict.uri].delete(client)
        why = DeltaError(f"the rows of {one.uri} were not added: {verdict.detail or verdict.kind}")
        why.transient = not verdict.settled
        files[one.uri] = Loaded(uri=one.uri, kind="failed", error=why)
    return LoadReceipt(table=replace(receipt, earlier=earlier), files=tuple(files.values()))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    """A Parquet file that is to be committed."""

    arrival: Arrival
    loaded: Loaded

    def delete(self, client: Any) -> None:
        place = self.arrival
        etag = place.etag
        objects.delete(client, place.bucket, place.key, if_match=etag)


class _Load:
    """One file."""

    def __init__(
        self,
        client: Any,
        table: Table,
        state: TableState,
        known: dict[str, str],
        arrival: Arrival,
        policy: RowPolicy,
        settings: Settings,
    ) -> None:
        self._client = client
        self._table = table
        self._state = state
        self._known = known
        self._arrival = arrival
        self._policy = policy
        self._settings = settings

    def run(self) -> _Written | Loaded:
        """:raises ChunkwiseError: it cannot be loaded."""
        arrival, extra_args = self._arrival, self._settings.extra_args
        name, compression = form_of(arrival.key)
        try:
            ref = pin(self._client, arrival.bucket, arrival.key, extra_args=extra_args)
        except SourceNotFound:
            log.warning("%s is gone: there is nothing to load", arrival.uri)
            return Loaded(uri=arrival.uri, kind="ignored")
        digest = hashlib.blake2b(f"{ref.uri} {ref.etag}".encode("utf-8", "surrogatepass"), digest_size=16)
        name_of_rows = f"rows-{digest.hexdigest()}"
        known = self._state.ledger.get(f"{name_of_rows}.parquet")
        if known is None:
            self._check_proven(ref)
        elif known.state != "deleted":  # else somebody took them away with their file: they may come again
            return Loaded(uri=arrival.uri, kind="replay")
        blocks = S3Source(self._client, ref, extra_args=extra_args).stream(0, ref.size)
        pieces = without_mark(decompress(blocks, compression))
        found = batches(document(pieces, ref) if name == ".json" else lines_of(pieces, ref))
        return self._write(ref, name_of_rows, found)

    def _check_proven(self, ref: ObjectRef) -> None:
        """:raises DeltaError: nobody can know whether its rows were in the table before the ledger began."""
        if not self._state.known_from or self._settings.policy.on_unproven == "add":
            return
        found = objects.list_objects(self._client, ref.bucket, ref.key, extra_args=self._settings.extra_args)
        one = next(found, None)
        if one is not None and one.key == ref.key and self._state.is_unproven(one.last_modified):
            raise DeltaError(
                f"{ref.uri} is older than what the log and the ledger of {self._table.uri} know: its rows "
                "may be in the table already. Write it anew if they are not"
            )

    def _write(self, ref: ObjectRef, name: str, groups: Iterator[list[bytes]]) -> _Written | Loaded:
        first = next(groups, None)
        if first is None:
            return Loaded(uri=ref.uri, kind="empty")
        policy = self._policy
        columns = columns_of(
            self._state,
            first[:SAMPLE_ROWS],
            schema=policy.schema,
            known=self._known,
            partition=policy.partition,
            add_columns=self._settings.policy.schema == "add_columns",
        )
        encoder = RowEncoder(columns, policy.compression)
        table = self._table
        # an earlier try may have left its file: it is the same one if it was made in the same way
        how = json.dumps([list(columns.items()), policy.compression]).encode()
        made = hashlib.blake2b(how, digest_size=8).hexdigest()
        path = f"{partition_path(policy.partition)}{name}-{made}.parquet"
        aside = Aside(
            self._client,
            ref,
            most=policy.max_bad_rows,
            place=policy.quarantine_uri,
            extra_args=self._settings.extra_args,
        )
        writer = S3Writer(
            self._client,
            table.bucket,
            table.key(path),
            on_exists="skip",
            content_type="application/vnd.apache.parquet",
            extra_args=self._settings.extra_args,
        )
        with writer, aside:
            number = 0
            for batch in chain([first], groups):
                bad: list[BadRow] = []
                for piece in encoder.put(batch, number, bad):
                    writer.write(piece)
                aside.put(bad)
                number += len(batch)
            for piece in encoder.finish():
                writer.write(piece)
            quarantine_uri = aside.publish()
            if not encoder.rows:
                writer.abort()
                return Loaded(uri=ref.uri, kind="empty", bad_rows=aside.count, quarantine_uri=quarantine_uri)
            receipt = writer.close()
        self._known.update(columns)
        return _Written(
            arrival=Arrival(bucket=table.bucket, key=table.key(path), etag=receipt.etag, size=receipt.size),
            loaded=Loaded(
                uri=ref.uri,
                kind="added",
                rows=encoder.rows,
                bad_rows=aside.count,
                quarantine_uri=quarantine_uri,
            ),
        )
