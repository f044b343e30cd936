"""Process chunks: read a chunk in batches, protect, write its part, leave a done record."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from chunkwise.core import memory
from chunkwise.core.digests import digest_secrets
from chunkwise.core.dispatch.chunk import ChunkRun
from chunkwise.core.dispatch.model import Done, Failed, Manifest, Plan, Started
from chunkwise.core.dispatch.pages.job import Connect, connect_by
from chunkwise.core.dispatch.pages.legs import along, follow, grows
from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.dispatch.pages.run import PageRun
from chunkwise.core.dispatch.staging import Staging, parse_state
from chunkwise.core.errors import (
    AttemptRunning,
    ChunkFailed,
    ChunkwiseError,
    DispatchCancelled,
    DispatchNotFound,
    FormatError,
    Killed,
    ObjectChanged,
    ObjectExists,
    ProofFailed,
    RowInvalid,
    SourceChanged,
    SourceNotFound,
)
from chunkwise.core.protect.protector import build

log = logging.getLogger(__name__)

_ROUNDS: Final = 5
#: between two looks whether the dispatch was cancelled while a chunk is worked on
_CANCEL_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupReceipt:
    """What one task did.

    :param group: its number.
    :param chunks: that it processed.
    :param done_before: that were done already.
    :param doubtful: that failed in a way that a wrong cut may explain; the merge finds out.
    :param rows_in: rows read.
    :param rows_out: rows written.
    :param rejected: rows put aside.
    :param bytes_in: of the source.
    :param bytes_out: of the parts, before compression.
    :param seconds: wall time.
    :param peak_rss: peak memory of the process, bytes.
    """

    group: int
    chunks: int = 0
    done_before: int = 0
    doubtful: int = 0
    rows_in: int = 0
    rows_out: int = 0
    rejected: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    peak_rss: int = 0

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


class Doubtful(ChunkFailed):
    """A chunk failed, and its cut is not proved: the merge finds out whether the cut was wrong."""


def process_chunk(
    client: Any,
    staging: Staging,
    chunk: int,
    *,
    secrets: Mapping[str, str] | None = None,
    lambda_client: Any = None,
    attempt: str | None = None,
    stop: Callable[[], bool] | None = None,
    where: Mapping[str, Any] | None = None,
    connect: Connect | None = None,
) -> Done:
    """Process one chunk by its manifest.

    Delivery: any number of attempts may run; each writes a part of its own name, the first one to write the
    done record wins, and the others remove what they wrote. A chunk that is done is not done again. An
    attempt that fails leaves a failed record and no part; one that is killed leaves a mark of its start, and
    maybe an open upload that :func:`~chunkwise.core.storage.abort_stale_uploads` or a lifecycle rule removes.

    :param client: boto3 S3 client.
    :param staging: of the dispatch.
    :param chunk: number, from 0.
    :param secrets: for the protector, by name.
    :param lambda_client: boto3 Lambda client, for a protector that needs one.
    :param attempt: name of the attempt, without dots; default: a random one.
    :param stop: asked between batches whether to end; may raise what the attempt is to fail with, e.g. a
        :class:`~chunkwise.core.errors.BudgetSpent`, whose text then also says how far the attempt got.
    :param where: where the attempt runs, for its mark: fields of
        :class:`~chunkwise.core.dispatch.model.Started`. A leg of a cursor run ends before ``deadline_at``.
    :param connect: opens a session for the API that is the source, if one is; default: with the credentials
        that ``secrets`` has under the name of its connection, see
        :func:`~chunkwise.core.dispatch.pages.job.connect_by`.
    :return: the done record that counts, maybe another attempt's.
    :raises DispatchNotFound: there is neither a manifest nor a done record.
    :raises ProofFailed: the manifest is none, is of another chunk, or another version of Chunkwise wrote it.
    :raises DispatchCancelled: the dispatch was cancelled.
    :raises AttemptRunning: this attempt has begun already.
    :raises Doubtful: the source is not what its format says, at a place whose cut is not proved.
    :raises ChunkwiseError: one of its kinds, if the chunk cannot be processed.
    """
    found = staging.get(staging.manifest_key(chunk), Manifest)
    standing = staging.done_of(chunk)
    if found is None:
        if standing is not None:
            return standing[0]
        raise DispatchNotFound(
            f"chunk {chunk} has neither a manifest nor a done record in {staging.uri}: resume the dispatch,"
            " or plan it again"
        )
    manifest = found[0]
    if manifest.chunk != chunk:
        raise ProofFailed(
            f"s3://{staging.bucket}/{staging.manifest_key(chunk)} is the manifest of chunk {manifest.chunk}:"
            " plan the dispatch again"
        )
    # a record of an earlier dispatch, left by an attempt that outlived it, proves nothing
    own = standing is not None and standing[0].dispatch == manifest.dispatch
    if standing is not None and own and standing[0].revision >= manifest.revision:
        staging.delete(staging.manifest_key(chunk))
        return standing[0]
    if staging.cancelled(manifest.group):
        raise _cancelled(staging, manifest, "was not begun")
    attempt = attempt or uuid.uuid4().hex[:12]
    mark = staging.started_key(chunk, attempt)
    begun = Started(attempt=attempt, revision=manifest.revision, started_at=_now(), **(where or {}))
    try:
        staging.put_new(mark, begun)
    except ObjectExists:
        raise AttemptRunning(
            f"attempt {attempt} at chunk {chunk} in {staging.uri} has begun already: this is a second"
            " delivery of the same invocation"
        ) from None
    try:
        with ExitStack() as stack:
            watch = _Watch(staging, manifest, stop)
            run: ChunkRun | PageRun
            if isinstance(manifest.source, ApiSource):
                run = PageRun(
                    client,
                    staging,
                    manifest,
                    attempt,
                    session=stack.enter_context((connect or connect_by(secrets or {}))(manifest.source)),
                    secrets=secrets,
                    stop=watch,
                    ends_at=datetime.fromisoformat(begun.deadline_at) if begun.deadline_at else None,
                )
            else:
                protector, told = None, ""
                if manifest.config.protector is not None:
                    protector = build(manifest.config.protector, secrets or {}, lambda_client)
                    name = manifest.config.protector.secret
                    told = _digest(name, (secrets or {}).get(name, ""), manifest.dispatch) if name else ""
                run = ChunkRun(client, staging, manifest, attempt, protector, watch, told)
            done = run.run()
        winner = _settle(staging, manifest, done, run)
    except Exception as error:
        raise _failed(staging, manifest, attempt, mark, error) from error
    staging.delete(staging.manifest_key(chunk), mark, staging.invoked_key(chunk, attempt))
    if winner.pages is not None and winner.pages.next is not None:
        follow(staging)
    return winner


def process_group(
    client: Any,
    staging: Staging,
    group: int,
    *,
    secrets: Mapping[str, str] | None = None,
    lambda_client: Any = None,
    attempt: str | None = None,
    stop: Callable[[], bool] | None = None,
    on_chunk: Callable[[Done], None] | None = None,
    in_flight: int = 1,
    connect: Connect | None = None,
) -> GroupReceipt:
    """Process what a group lacks. A chunk that fails does not keep the others from being done. A cursor run
    is followed up to the end of the API.

    :param group: number, from 0.
    :param on_chunk: called with each done record.
    :param in_flight: chunks at once, in threads.
    :param connect: see :func:`process_chunk`.
    :raises ConfigError: the protector cannot be made, or its secret is missing or too short: no chunk is
        begun.
    :raises ChunkFailed: chunks failed; the text names them, the others are done.
    """
    started = time.monotonic()
    plan = staging.load()
    memory.reset_peak()
    states = (parse_state(item.key) for item in staging.list(staging.state_prefix))
    done = {state.chunk for state in states if state is not None and state.kind == "done"}
    left = [chunk for chunk in plan.members(group) if chunk not in done]
    if left:
        check_protector(plan, secrets, lambda_client)
    in_order = grows(plan)
    begun = 0
    total = {"rows_in": 0, "rows_out": 0, "rejected": 0, "bytes_in": 0, "bytes_out": 0}
    failed: list[tuple[int, ChunkwiseError]] = []
    doubtful = 0

    def one(chunk: int) -> Done | tuple[int, ChunkwiseError]:
        nonlocal begun
        begun += 1
        if stop is not None and stop():
            # an attempt that only begins to be stopped would leave a failed record
            return chunk, Killed(f"chunk {chunk} was not begun: the task was told to end")
        try:
            return process_chunk(
                client,
                staging,
                chunk,
                secrets=secrets,
                lambda_client=lambda_client,
                attempt=None if attempt is None else f"{attempt}-{uuid.uuid4().hex[:6]}",
                stop=stop,
                connect=connect,
            )
        except ChunkFailed as error:
            return chunk, error

    with ThreadPoolExecutor(in_flight, thread_name_prefix="chunkwise-chunk") as pool:
        side_by_side = in_flight > 1 and not in_order
        chunks = chain(left, along(staging)) if in_order else left
        results = pool.map(one, chunks) if side_by_side else map(one, chunks)
        for result in results:
            if isinstance(result, Done):
                for name in total:
                    total[name] += getattr(result, name)
                if on_chunk is not None:
                    on_chunk(result)
            elif isinstance(result[1], Doubtful):
                doubtful += 1
                log.warning("%s", result[1])
            else:
                failed.append(result)
                log.error("%s", result[1])
                if in_order:
                    break
    if failed:
        raise ChunkFailed(
            f"{len(failed)} of {begun} chunks failed; the first: {failed[0][1]}",
            transient=all(error.transient for _, error in failed),
        ) from failed[0][1]
    return GroupReceipt(
        group=group,
        chunks=begun,
        done_before=len(plan.members(group)) - len(left),
        doubtful=doubtful,
        seconds=round(time.monotonic() - started, 3),
        peak_rss=memory.peak_rss(),
        **total,
    )


def check_protector(plan: Plan, secrets: Mapping[str, str] | None, lambda_client: Any) -> None:
    """See that the protector of a dispatch can be made here, once, before each chunk fails of it.

    :raises ConfigError: it cannot, or its secret is missing or too short; names it, never its value.
    """
    if plan.config.protector is not None:
        build(plan.config.protector, secrets or {}, lambda_client)


class _Watch:
    """Whether to end: as the caller says, and because the dispatch was cancelled meanwhile.

    :param stop: of the caller.
    """

    def __init__(self, staging: Staging, manifest: Manifest, stop: Callable[[], bool] | None) -> None:
        self._staging = staging
        self._manifest = manifest
        self._stop = stop
        self._next = time.monotonic() + _CANCEL_SECONDS

    def __call__(self) -> bool:
        """:raises DispatchCancelled: it was."""
        if time.monotonic() >= self._next:
            if self._staging.cancelled(self._manifest.group):
                raise _cancelled(self._staging, self._manifest, "ended early; its part was not written")
            self._next = time.monotonic() + _CANCEL_SECONDS
        return self._stop is not None and self._stop()


def _cancelled(staging: Staging, manifest: Manifest, what: str) -> DispatchCancelled:
    return DispatchCancelled(
        f"chunk {manifest.chunk} {what}: the dispatch in {staging.uri}, or its group {manifest.group}, was"
        " cancelled; run its task again, or resume the dispatch, to go on"
    )


@lru_cache(maxsize=8)
def _digest(name: str, secret: str, dispatch: str) -> str:
    # a tenth of a second, by design: once per dispatch rather than once per chunk
    return digest_secrets({name: secret}, dispatch)


def _settle(staging: Staging, manifest: Manifest, done: Done, run: ChunkRun | PageRun) -> Done:
    """Put the done record, unless another attempt was first: then remove what this one wrote."""
    key = staging.done_key(manifest.chunk)
    for _ in range(_ROUNDS):
        try:
            staging.put_new(key, done)
            return done
        except ObjectExists:
            standing = staging.done_of(manifest.chunk)
        if standing is None:
            continue
        if standing[0].revision >= done.revision and standing[0].dispatch == done.dispatch:
            if standing[0].attempt != done.attempt:
                log.info("chunk %d was done by attempt %s first", manifest.chunk, standing[0].attempt)
                run.remove()
            return standing[0]
        try:
            staging.put_if_match(key, done, standing[1])
            return done
        except ObjectChanged:
            continue
    raise ChunkFailed(
        f"the done record of chunk {manifest.chunk} in {staging.uri} keeps changing", transient=True
    )


def _failed(staging: Staging, manifest: Manifest, attempt: str, mark: str, error: Exception) -> ChunkFailed:
    """Leave a failed record; the error that the caller gets."""
    ours = isinstance(error, ChunkwiseError)
    doubtful = isinstance(error, FormatError) and not manifest.exact and manifest.chunk > 0
    transient = error.transient if isinstance(error, ChunkwiseError) else True
    # a foreign text may quote data; formats that know the name of the source say it themselves
    message = str(error).removeprefix(f"{manifest.source.uri}: ") if ours else type(error).__name__
    message += _way_out(error, manifest)
    record = Failed(
        dispatch=manifest.dispatch,
        chunk=manifest.chunk,
        revision=manifest.revision,
        attempt=attempt,
        error=type(error).__name__,
        message=f"{manifest.source.uri}: {message}",
        transient=transient,
        failed_at=_now(),
    )
    try:
        staging.put_new(staging.failed_key(manifest.chunk, attempt, doubtful=doubtful), record)
        staging.delete(mark)
    except Exception as second:  # the first error counts
        log.warning("the failure of chunk %d could not be kept: %s", manifest.chunk, type(second).__name__)
    kind = Doubtful if doubtful else ChunkFailed
    return kind(f"chunk {manifest.chunk} of {manifest.source.uri}: {message}", transient=transient)


def _way_out(error: Exception, manifest: Manifest) -> str:
    """What no further attempt can do, and a restart can."""
    if isinstance(error, RowInvalid) and manifest.config.rejects is None:
        return ". Mend the source, or let bad rows be put aside (rejects), and restart"
    if isinstance(error, SourceNotFound):
        return ". Put the same object back and resume, or restart with another one"
    if isinstance(error, SourceChanged):
        return ". Restart, to process what stands there now"
    return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
