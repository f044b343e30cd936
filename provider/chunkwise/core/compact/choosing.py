"""Which files of a Delta table become one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from chunkwise.core.compact.live import Active, Live
from chunkwise.core.compact.model import Compacted, File, Options, Skipped
from chunkwise.core.compact.packing import Bin, pack
from chunkwise.core.compact.schema import Schemas
from chunkwise.core.compact.survey import look
from chunkwise.core.delta.places import Table
from chunkwise.core.errors import ConfigError, ReadFailed, SourceChanged
from chunkwise.core.storage import ObjectRef, pin

log = logging.getLogger(__name__)


class Choosing:
    """Looks at the small files of a table.

    :param client: boto3 S3 client.
    :param live: the table as it is now.
    :param found: gets the files that are left alone.
    :ivar by_key: what the log says of those that were looked at.
    """

    def __init__(self, client: Any, table: Table, live: Live, options: Options, found: Compacted) -> None:
        self._client = client
        self._table = table
        self._live = live
        self._options = options
        self._found = found
        self.by_key: dict[str, Active] = {}

    def bins(self, partition: Mapping[str, str | None]) -> list[tuple[dict[str, str | None], Bin]]:
        """What becomes one, and the partition that it is in."""
        schemas = Schemas()
        bins: list[tuple[dict[str, str | None], Bin]] = []
        for values, actives in self._partitions(partition):
            files: list[File] = []
            for file in self._survey(actives, schemas):
                if isinstance(file, Skipped):
                    self._found.skipped.append(file)
                else:
                    files.append(file)
            packed, skipped = pack(files, self._options)
            self._found.skipped += skipped
            bins += [(values, one) for one in packed]
        return bins

    def _partitions(
        self, partition: Mapping[str, str | None]
    ) -> Iterator[tuple[dict[str, str | None], list[Active]]]:
        """The small files of each partition, in the order of their paths."""
        live = self._live
        other = [name for name, value in partition.items() if not isinstance(value, str | None)]
        if other:
            raise ConfigError(
                f"partition has values for {', '.join(map(repr, other))} that are no text: give them as in "
                'paths, like {"ds": "1"}'
            ).naming("partition")
        wanted = live.wanted(partition)
        before = datetime.now(UTC) - self._options.min_age
        by_values: dict[tuple[tuple[str, str | None], ...], list[Active]] = {}
        for path in sorted(live.files):
            active = live.files[path]
            if wanted and live.canonical(active.values, wanted) != wanted:
                continue
            self._found.files_before += 1
            if active.size >= self._options.small or active.modified_ms > before.timestamp() * 1000:
                continue
            problem = live.problem(active)
            if problem is not None:
                self._found.skipped.append(problem)
                continue
            names = dict.fromkeys(live.partitions)
            by_values.setdefault(tuple(live.canonical(active.values, names).items()), []).append(active)
        if wanted and not self._found.files_before:
            log.warning("%s has no file in the partition that is wanted", live.place)
        for actives in by_values.values():
            if len(actives) >= self._options.min_files:
                # as the log has them, in whatever form
                yield actives[0].values, actives
                continue
            self._found.skipped += [
                Skipped(
                    uri=live.uri_of(one), reason="alone", detail="there are too few files to merge it with"
                )
                for one in actives
            ]

    def _survey(self, actives: Sequence[Active], schemas: Schemas) -> Iterator[File | Skipped]:
        workers = max(
            1, min(self._options.concurrency, self._client.meta.config.max_pool_connections, len(actives))
        )
        with ThreadPoolExecutor(workers, thread_name_prefix="chunkwise-footer") as pool:
            yield from pool.map(lambda active: self._look(active, schemas), actives)

    def _look(self, active: Active, schemas: Schemas) -> File | Skipped:
        """A file, if it is the one that the log has."""
        self._options.ask()
        bucket, key = self._table.bucket, self._table.key(active.path)
        uri = f"s3://{bucket}/{key}"
        ref = ObjectRef(bucket=bucket, key=key, etag=active.etag or "", size=active.size)
        if active.etag is None:
            try:
                ref = pin(self._client, bucket, key, extra_args=self._options.extra_args)
            except SourceChanged as error:
                return Skipped(uri=uri, reason="stale", detail=str(error))
            except ReadFailed as error:
                return Skipped(uri=uri, reason="unread", detail=str(error))
        if ref.size != active.size:
            return Skipped(uri=uri, reason="stale", detail="another object stands there than the log says")
        self.by_key[key] = active
        return look(self._client, ref, schemas, self._options)
