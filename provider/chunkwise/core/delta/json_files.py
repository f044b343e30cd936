"""Files of JSON become rows of a Delta table: a Parquet file for each, and one commit for all of them."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from chunkwise.core.delta import log as table_log
from chunkwise.core.delta.append import Settings, append
from chunkwise.core.delta.aside import Aside
from chunkwise.core.delta.json_records import batches, document, form_of, lines_of
from chunkwise.core.delta.model import Arrival, TableReceipt
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
    ConfigError,
    DeltaError,
    SourceNotFound,
)
from chunkwise.core.records.compression import decompress
from chunkwise.core.storage import ObjectRef, S3Source, S3Writer, objects, pin

log = logging.getLogger(__name__)

Kind = Literal["added", "replay", "empty", "ignored", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowPolicy:
    """How files become rows.

    :param schema: types of Arrow by column; default: the table's, or what the first rows show.
    :param partition: values of the partition columns for all rows.
    :param max_bad_rows: of a file; with more of them it is not added.
    :param quarantine_uri: ``s3://bucket/prefix`` for rows that go aside.
    :param compression: of the Parquet files' pages.
    """

    schema: Mapping[str, str] | None = None
    partition: Mapping[str, str | None] | None = None
    max_bad_rows: int = 0
    quarantine_uri: str | None = None
    compression: str = "zstd"

    def __post_init__(self) -> None:
        if self.max_bad_rows < 0:
            raise ConfigError(f"max_bad_rows is {self.max_bad_rows}: it must be 0 or more").naming(
                "max_bad_rows"
            )
        if self.max_bad_rows and self.quarantine_uri is None:
            raise ConfigError("max_bad_rows needs quarantine_uri: rows must not vanish").naming(
                "quarantine_uri"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What became of one file.

    :param uri: of it.
    :param kind: ``added``; ``replay``: the table has had its rows before; ``empty``: it has no rows;
        ``ignored``: it is gone; ``failed``.
    :param rows: in the table.
    :param bad_rows: that went aside.
    :param quarantine_uri: where they are.
    :param error: of a file that failed.
    """

    uri: str
    kind: Kind
    rows: int = 0
    bad_rows: int = 0
    quarantine_uri: str | None = None
    error: ChunkwiseError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadReceipt:
    """What became of all files.

    :param table: what the commit did.
    :param files: in the order of the arrivals, each object once.
    """

    table: TableReceipt
    files: tuple[Loaded, ...]

    def check(self) -> None:
        """:raises ChunkwiseError: the first failure, one that may pass before one that does not."""
        errors = [file.error for file in self.files if file.error is not None]
        for error in sorted(errors, key=lambda error: not error.transient):
            raise error

    def to_json(self, *, most: int) -> dict[str, Any]:
        """Counts and references.

        :param most: files that are named at most of those that failed or had bad rows.
        """
        told = [one for one in self.files if one.error is not None or one.bad_rows]
        return {
            "uri": self.table.uri,
            "version": self.table.version,
            "committed": self.table.committed,
            "created": self.table.created,
            "new_columns": list(self.table.new_columns),
            "counts": dict(Counter(one.kind for one in self.files)),
            "rows": sum(one.rows for one in self.files),
            "bad_rows": sum(one.bad_rows for one in self.files),
            "files": [
                {
                    "uri": one.uri,
                    "verdict": one.kind,
                    "bad_rows": one.bad_rows,
                    "quarantine_uri": one.quarantine_uri,
                    "error": None if one.error is None else f"{type(one.error).__name__}: {one.error}",
                }
                for one in told[:most]
            ],
            "files_total": len(self.files),
        }


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
    name, also after a compaction. One that cannot be loaded stops no other.

    :param client: boto3 S3 client.
    :raises ChunkwiseError: the table cannot be read or written; see :func:`~chunkwise.core.delta.append`.
    """
    policy, settings = policy or RowPolicy(), settings or Settings()
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
    receipt = append(client, table, [one.arrival for one in written.values()], settings=settings)
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
    return LoadReceipt(table=receipt, files=tuple(files.values()))


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
        if arrival.deleted:
            return Loaded(uri=arrival.uri, kind="ignored")
        name, compression = form_of(arrival.key)
        try:
            ref = pin(self._client, arrival.bucket, arrival.key, extra_args=extra_args)
        except SourceNotFound:
            log.warning("%s is gone: there is nothing to load", arrival.uri)
            return Loaded(uri=arrival.uri, kind="ignored")
        digest = hashlib.blake2b(f"{ref.uri} {ref.etag}".encode("utf-8", "surrogatepass"), digest_size=16)
        path = f"{partition_path(self._policy.partition)}rows-{digest.hexdigest()}.parquet"
        if self._state.ledger.get(path) is not None:
            return Loaded(uri=arrival.uri, kind="replay")
        blocks = S3Source(self._client, ref, extra_args=extra_args).stream(0, ref.size)
        pieces = decompress(blocks, compression)
        found = batches(document(pieces, ref) if name == ".json" else lines_of(pieces, ref))
        return self._write(ref, path, found)

    def _write(self, ref: ObjectRef, path: str, groups: Iterator[list[bytes]]) -> _Written | Loaded:
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
