"""Small files below a prefix become few: folder by folder, and nothing is lost whenever it ends.

What a reader of a plain prefix sees is no transaction: where outputs lie beside their sources, rows are there
twice from the moment an output appears until its sources are deleted. What holds at every moment, also after
a kill, with several at once, and with one that was suspended in between: each row is there at least once. And
once a run has ended well, each is there exactly once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from chunkwise.core.compact.census import judge
from chunkwise.core.compact.holding import Held
from chunkwise.core.compact.making import Making
from chunkwise.core.compact.marks import COMPACTED, MADE_BY, identity, maker_of, mark_of
from chunkwise.core.compact.model import Compacted, File, Options, Skipped
from chunkwise.core.compact.outputs import Place
from chunkwise.core.compact.packing import Bin, pack
from chunkwise.core.compact.schema import Schemas
from chunkwise.core.compact.survey import survey
from chunkwise.core.compact.tables import refuse_table_above
from chunkwise.core.compact.where import Wanted, Where, folders_with_work, front_of
from chunkwise.core.compacted import is_named
from chunkwise.core.errors import ChunkwiseError, LeaseLost, ObjectChanged, ReadFailed
from chunkwise.core.storage import Listed, ObjectRef, objects

log = logging.getLogger(__name__)

_DELETERS: Final = 16
#: times that a folder is worked on whose lease is lost
_ROUNDS: Final = 3


def compact_prefix(
    client: Any,
    where: Where,
    *,
    options: Options | None = None,
    preview: bool = False,
    owner: str = "chunkwise",
    run: str = "",
    info: Mapping[str, Any] | None = None,
) -> Compacted:
    """Merge the small files of each folder.

    A listing of the whole, and of each folder with work; a request for the footer of each small file and of
    each output in such a folder; memory for the files of one folder.

    :param client: boto3 S3 client; no more requests run at once than its pool has connections.
    :param preview: look and decide only; nothing is written or deleted.
    :param owner: who compacts, for whoever finds its lease (host, task).
    :param run: which run of it.
    :param info: in which work, the same for all tries of it: outputs say so, see
        :func:`chunkwise.core.compact.earlier.earlier_of_prefix`.
    :raises ConfigError: the places do not go together, or it is a table.
    :raises StorageError: S3 refuses, or failed at every attempt; the next run goes on.
    """
    options = options or Options()
    where.check()
    refuse_table_above(client, where.source, options.extra_args)
    if where.target != where.source:
        refuse_table_above(client, where.target, options.extra_args, name="output_uri")
    deletes = where.sources == "delete" and not preview
    found = Compacted(uri=where.source.uri, preview=preview, deletes=deletes)
    for folder in folders_with_work(client, where, options, found):
        one = _Folder(client, where, folder, options, info or {})
        if preview:
            found.add(one.run(preview=True))
            continue
        found.add(_held(one, Held(client, where.target.bucket, one.target_front, options, owner, run)))
    log.info(
        "%s: %d files, %d of them %s %d; %d deleted",
        found.uri,
        found.files_before,
        found.merged,
        "would become" if preview else "became",
        len(found.outputs),
        found.deleted,
    )
    return found


def _held(folder: _Folder, held: Held) -> Compacted:
    """Work on a folder under its lease; whoever loses it looks again at what others have done meanwhile."""
    for left in range(_ROUNDS - 1, -1, -1):
        try:
            with held as lease:
                return folder.run(check=lease.check)
        except LeaseLost as error:
            if not left:
                raise
            log.warning("%s; looking again", error)
    raise AssertionError("the last round returns or raises")


class _Folder:
    """One folder."""

    def __init__(
        self, client: Any, where: Where, folder: str, options: Options, info: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._notes = {MADE_BY: maker_of(info)} if info else {}
        self._where = where
        self._options = self._given = options
        self._found = Compacted(uri="")
        self._front = front_of(where.source) + folder
        self.target_front = front_of(where.target) + folder
        self._in_place = (where.source.bucket, self._front) == (where.target.bucket, self.target_front)
        self._schemas = Schemas()
        self._deletes = where.sources == "delete"

    def run(self, *, preview: bool = False, check: Any = None) -> Compacted:
        """Merge its files; what was done.

        :param check: raises if the folder is no longer this one's to work on.
        """
        found = self._found = Compacted(uri="")
        if check is not None:
            self._options = replace(self._given, check=_both(self._given.check, check))
        small, outputs, others = self._look()
        if outputs is None:
            return found
        census = judge(small, outputs, self._target)
        self._found.skipped += census.skipped
        done = [file for file in census.done if self._deletes or self._is_ours(file)]
        self._found.skipped += [
            Skipped(uri=file.ref.uri, reason="covered", detail="an output has its rows")
            for file in census.done
            if file not in done
        ]
        if not preview:
            gone = [file.ref for file in done]
            if self._deletes:  # also what is not looked for this time: by its name, its size or its age
                gone += [ref for ref in others if identity(ref) in census.stood_for]
            self._delete(gone)
        bins, skipped = pack(census.wanted, self._options)
        self._found.skipped += skipped
        making = Making(self._client, self._options, found.skipped, changed="changed", preview=preview)
        for one in bins:
            for made, _, output in making.outputs(one, self._place):
                self._options.ask()
                found.outputs.append(output)
                if self._deletes and not preview:
                    self._delete([file.ref for file in made.files])
        return found

    def _is_ours(self, file: File) -> bool:
        """Whether it is an output of this folder, rather than one of the files that stay."""
        return not self._in_place and file.is_output and file.ref.uri.rpartition("/")[0] + "/" == self._target

    @property
    def _target(self) -> str:
        return f"s3://{self._where.target.bucket}/{self.target_front}"

    # --- what is there --------------------------------------------------------------------------------------

    def _look(self) -> tuple[list[File], list[File] | None, list[ObjectRef]]:
        """The small files, all outputs, and what is neither; outputs are ``None`` if one cannot be read."""
        where, options = self._where, self._options
        wanted = Wanted(where, options)
        before = datetime.now(UTC) - options.min_age
        refs: dict[str, ObjectRef] = {}
        small: set[str] = set()
        others: list[ObjectRef] = []
        for one in self._listed(where.source.bucket, self._front):
            name = one.key[len(self._front) :]
            ref = ObjectRef(bucket=where.source.bucket, key=one.key, etag=one.etag, size=one.size)
            if one.size < options.small and one.last_modified <= before and wanted.has(one, name):
                small.add(ref.uri)
                refs[ref.uri] = ref
            elif is_named(name):
                refs[ref.uri] = ref
            else:
                others.append(ref)
        if not self._in_place:
            for one in self._listed(where.target.bucket, self.target_front):
                if is_named(one.key[len(self.target_front) :]):
                    ref = ObjectRef(bucket=where.target.bucket, key=one.key, etag=one.etag, size=one.size)
                    refs[ref.uri] = ref
        files: list[File] = []
        unread: list[Skipped] = []
        for file in survey(self._client, list(refs.values()), self._schemas, options):
            if isinstance(file, File):
                files.append(file)
                continue
            self._found.skipped.append(file)
            if is_named(file.uri.rpartition("/")[2]):
                unread.append(file)
        for output in unread:
            # it may have rows of these files: nobody knows
            log.error("%s could not be read, so its folder is left alone: %s", output.uri, output.detail)
        if any(one.reason == "unread" for one in unread):
            raise ReadFailed(f"{unread[0].uri} could not be read: {unread[0].detail}")
        outputs = [file for file in files if file.is_output]
        return [file for file in files if file.ref.uri in small], None if unread else outputs, others

    def _listed(self, bucket: str, front: str) -> Iterator[Listed]:
        arguments = self._options.extra_args
        return objects.list_objects(self._client, bucket, front, below=False, extra_args=arguments)

    # --- what is done ---------------------------------------------------------------------------------------

    def _place(self, one: Bin) -> Place:
        digests = frozenset[bytes]().union(*(file.stands_for for file in one.files))
        key = self.target_front + one.name
        digests |= {identity(file.ref) for file in one.files}
        mark = mark_of(one.rows, len(one.files), digests, key)
        bucket = self._where.target.bucket
        return Place(bucket=bucket, key=key, values={COMPACTED: mark}, notes=self._notes)

    def _delete(self, refs: Sequence[ObjectRef]) -> None:
        """Delete files whose rows an output has, each only if it still is the one that was merged.

        :raises DeleteFailed: S3 refuses, or failed at every attempt, after all were tried.
        """
        if not refs:
            return
        self._options.ask()
        workers = max(1, min(_DELETERS, self._client.meta.config.max_pool_connections, len(refs)))
        with ThreadPoolExecutor(workers, thread_name_prefix="chunkwise-delete") as pool:
            ends = list(pool.map(self._delete_one, refs))
        failures = [end for end in ends if end is not None and not isinstance(end, ObjectChanged)]
        self._found.deleted += ends.count(None)
        for ref, end in zip(refs, ends):
            if isinstance(end, ObjectChanged):
                self._found.skipped.append(Skipped(uri=ref.uri, reason="changed", detail=str(end)))
        for error in sorted(failures, key=lambda error: not error.transient):
            raise error

    def _delete_one(self, ref: ObjectRef) -> ChunkwiseError | None:
        arguments = self._options.extra_args
        try:
            objects.delete(self._client, ref.bucket, ref.key, if_match=ref.etag, extra_args=arguments)
        except ChunkwiseError as error:
            return error
        return None


def _both(one: Any, other: Any) -> Any:
    def check() -> None:
        if one is not None:
            one()
        other()

    return check
