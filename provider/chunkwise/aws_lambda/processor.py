"""The processor: one chunk, or some, by the references of their manifests.

The event is ``{"manifest": "s3://bucket/.../manifests/chunk_0007.manifest.json", "attempt": "try1-1"}``, a
batch ``{"manifests": [...]}`` of these, or the S3 ObjectCreated event of manifests, with which every manifest
that lands starts its processor. What was done stands on S3, as the chunk's done or failed record; the answer
holds counts and references only.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final

import msgspec

from chunkwise.aws_lambda import clients, environment, logs, unbegun
from chunkwise.aws_lambda.budget import Budget
from chunkwise.aws_lambda.durable import durable, is_replayed
from chunkwise.aws_lambda.references import Reference, read
from chunkwise.aws_lambda.secrets import Secrets
from chunkwise.core import decoding, memory
from chunkwise.core.dispatch.last import merge_if_last, withdraw
from chunkwise.core.dispatch.model import Done
from chunkwise.core.dispatch.process import Doubtful, process_chunk
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import AttemptRunning, ChunkFailed, ChunkwiseError, DispatchNotFound, OutOfTime

log = logging.getLogger(__name__)

#: failures that one message tells
_TOLD: Final = 5


@durable
def handler(event: Any, context: Any) -> dict[str, Any]:
    """Process what the event names.

    **Time and memory.** An attempt that would be killed at the time-out, or at the memory limit, ends by
    itself before: it aborts its upload and leaves a failed record that says so.

    **Failures** leave a failed record, also of an attempt that was named in the event and could not be begun.
    Only where S3 does not answer is there none.

    **Deliveries.** The same event may come twice: a chunk that is done is not done again, and an attempt that
    has begun elsewhere is left alone.

    **The last one merges** where the plan says so (``last_merge``).

    :return: of one manifest ``{"chunk", "state", "rows_in", "rows_out", "bytes_in", "bytes_out", "peak_rss",
        "seconds"}``, where the state is ``"done"``; ``"running"``: this attempt has begun elsewhere;
        ``"doubtful"``: a failure that a wrong cut may explain, which the merge finds out; ``"gone"``: the
        dispatch is finished and cleaned up. Of a batch or event ``{"chunks": [...], "rejected": n}``.
    :raises ChunkwiseError: a chunk failed, which its failed record says, too. In a batch every other chunk is
        processed nevertheless, and the error names those that failed.
    """
    try:
        settings = environment.settings()
    except ChunkwiseError as error:
        unbegun.leave_all(event, context, error)
        raise
    logs.set_up(settings.log_level)
    budget = Budget(context, margin_seconds=settings.stop_margin_seconds)
    with logs.bound(request_id=context.aws_request_id, function=context.function_name):
        asked = read(event)
        for reason in asked.rejected:
            log.warning("rejected: %s", reason)
        worker = Worker(settings, budget, context, replayed=is_replayed(context))
        if asked.single:
            return worker.one(asked.references[0])
        answers, failures = [], []
        for reference in asked.references:
            try:
                answers.append(worker.one(reference))
            except Exception as error:
                failures.append((reference, error))
        if failures:
            raise _all_of(failures, len(asked.references)) from failures[0][1]
        return {"chunks": answers, "rejected": len(asked.rejected)}


class Worker:
    """Processes chunks within one invocation.

    :param settings: of the function.
    :param budget: of the invocation.
    :param context: of the invocation.
    :param replayed: whether an attempt of the same name that has begun must have died: a durable execution
        has one invocation at a time.
    """

    def __init__(
        self, settings: environment.Settings, budget: Budget, context: Any, *, replayed: bool = False
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._context = context
        self._replayed = replayed
        self._client = clients.s3()
        self._secrets = Secrets(settings.secrets)
        self._invoking = clients.Lazy(clients.invoking)

    def one(self, reference: Reference) -> dict[str, Any]:
        """Process one chunk, and merge if it was the last one of a dispatch that asks for that.

        :return: see :func:`handler`.
        :raises ChunkwiseError: see there.
        """
        staging = Staging(self._client, reference.bucket, reference.prefix, self._settings.staging_extra_args)
        attempt = reference.attempt or self._own_name()
        with logs.bound(dispatch=staging.uri, chunk=reference.chunk, attempt=attempt):
            merges = False
            try:
                merges = _merges(staging, reference.chunk)
                answer = self._process(staging, reference, attempt)
            except ChunkFailed:
                if not (merges and withdraw(staging, reference.chunk, attempt)):
                    raise
                log.info("the dispatch was finished and cleaned up meanwhile: the failure does not count")
                return {"chunk": reference.chunk, "state": "gone"}
            except Exception as error:
                unbegun.leave(staging, reference, self._context, error)
                raise
            if merges and answer["state"] in ("done", "doubtful"):
                receipt = merge_if_last(
                    self._client,
                    staging,
                    owner=f"{self._budget.where['function']} {self._budget.where['log_stream']}",
                    run=self._budget.where["request_id"],
                    attempt=(reference.chunk, attempt),
                    before=self._time_to_merge,
                    stop=self._budget.check,
                    secrets=self._secrets,
                    lambda_client=self._invoking,
                )
                if receipt is not None:
                    log.info("merged %d chunks into %s", receipt.chunks, receipt.uri)
                    answer["merged"] = receipt.uri
            return answer

    def _process(self, staging: Staging, reference: Reference, attempt: str) -> dict[str, Any]:
        chunk = reference.chunk
        try:
            if self._budget.time_is_short:
                raise OutOfTime(
                    f"{reference.name} was not begun: {self._budget.seconds_left:,.1f} s are left; send fewer"
                    " chunks with one event, or give the function a longer time-out"
                )
            done = self._attempt(staging, chunk, attempt)
        except AttemptRunning as running:
            if not self._replayed and not unbegun.is_over(staging, chunk, attempt):
                log.info("%s", running)
                return {"chunk": chunk, "state": "running"}
            attempt = f"{attempt}-{uuid.uuid4().hex[:6]}"
            log.info("an earlier delivery of this attempt has died: going on as %s", attempt)
            done = self._attempt(staging, chunk, attempt)
        except DispatchNotFound:
            if not reference.announced or staging.find() is not None:
                raise
            log.info("the dispatch is finished and cleaned up, or was removed")
            return {"chunk": chunk, "state": "gone"}
        except Doubtful as error:
            log.warning("%s", error)
            return {"chunk": chunk, "state": "doubtful"}
        except ChunkFailed as error:
            log.error("%s", error)
            raise
        if done.attempt == attempt:
            self._tell(done)
        else:
            log.info("chunk %d had been done by attempt %s", chunk, done.attempt)
        names = ("rows_in", "rows_out", "bytes_in", "bytes_out", "peak_rss", "seconds")
        return {"chunk": chunk, "state": "done", **{name: getattr(done, name) for name in names}}

    def _attempt(self, staging: Staging, chunk: int, attempt: str) -> Done:
        memory.reset_peak()
        self._budget.begin()
        return process_chunk(
            self._client,
            staging,
            chunk,
            secrets=self._secrets,
            lambda_client=self._invoking,
            attempt=attempt,
            stop=self._budget.check,
            where=self._budget.where,
        )

    def _tell(self, done: Done) -> None:
        """One line, and the metrics of the chunk."""
        limit = self._budget.memory_limit
        log.info(
            "chunk %d done: %d rows in, %d out, %d bytes in, %d out, %.1f s, peak memory %d bytes",
            done.chunk,
            done.rows_in,
            done.rows_out,
            done.bytes_in,
            done.bytes_out,
            done.seconds,
            done.peak_rss,
        )
        warning = memory.near_limit(done.peak_rss, limit)
        if warning is not None:
            log.warning("%s", warning)
        logs.put_metrics(
            self._budget.where["function"],
            peak_memory=done.peak_rss,
            memory_limit=limit,
            rows_in=done.rows_in,
            rows_out=done.rows_out,
            bytes_in=done.bytes_in,
            bytes_out=done.bytes_out,
            seconds=done.seconds,
        )

    def _time_to_merge(self) -> None:
        if self._budget.time_is_short:
            raise OutOfTime(
                "all chunks have reported, and there is no time left to merge them: invoke a processor with"
                " the reference of any of the manifests again, or run `chunkwise merge`"
            )

    def _own_name(self) -> str:
        request = "".join(c for c in self._budget.where["request_id"] if c.isalnum())
        return f"{request[:8]}-{uuid.uuid4().hex[:6]}"


class _Config(msgspec.Struct):
    last_merge: Any = None


class _Asks(msgspec.Struct):
    """Of a manifest or a plan only whether the last processor merges."""

    config: _Config = msgspec.field(default_factory=_Config)


def _merges(staging: Staging, chunk: int) -> bool:
    """Whether the last processor merges: the manifest says so, or the plan, where the chunk is done."""
    body = staging.body(staging.manifest_key(chunk)) or staging.body(staging.plan_key)
    if body is None:
        return False
    try:
        return decoding.decode(body, _Asks).config.last_merge is not None
    except (msgspec.DecodeError, ValueError):
        return False  # whoever reads all of it says what is wrong


def _all_of(failures: list[tuple[Reference, Exception]], total: int) -> ChunkFailed:
    """One error of several."""
    told = [
        f"{reference.name}: {error if isinstance(error, ChunkwiseError) else type(error).__name__}"
        for reference, error in failures[:_TOLD]
    ]
    more = f"; and {len(failures) - _TOLD} more" if len(failures) > _TOLD else ""
    return ChunkFailed(
        f"{len(failures)} of {total} chunks failed: {'; '.join(told)}{more}",
        transient=all(getattr(error, "transient", True) for _, error in failures),
    )
