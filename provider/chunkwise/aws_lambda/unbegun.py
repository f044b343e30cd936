"""The failed record of an attempt that ended before it could leave one itself.

Whoever waits for an attempt reads its record at the next look. Without one he would wait until the attempt
counts as lost, and not be told why.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from botocore.exceptions import ClientError

from chunkwise.aws_lambda import clients, environment
from chunkwise.aws_lambda.references import Reference, read
from chunkwise.core import decoding
from chunkwise.core.dispatch.functions import log_place
from chunkwise.core.dispatch.model import Failed, Started
from chunkwise.core.dispatch.staging import Staging, parse_state
from chunkwise.core.errors import ChunkwiseError
from chunkwise.core.storage.failures import BODY_ERRORS

log = logging.getLogger(__name__)


def leave_all(event: Any, context: Any, error: Exception) -> None:
    """Leave a record for every chunk that an event names: none of them can be begun.

    :param context: of the invocation.
    """
    try:
        references = read(event).references
        client, extra_args = clients.s3(), environment.staging_extra_args()
    except Exception as second:  # the first error counts
        log.warning("no failure could be kept: %s", type(second).__name__)
        return
    for reference in references:
        staging = Staging(client, reference.bucket, reference.prefix, extra_args)
        leave(staging, reference, context, error)


def leave(staging: Staging, reference: Reference, context: Any, error: Exception) -> None:
    """Leave the failed record of an attempt, if somebody may wait for it: he has named it, the dispatch
    stands, the chunk is not done, and no earlier delivery of the attempt is at work. Never raises.

    :param context: of the invocation.
    """
    if reference.attempt is None or _silent(error):
        return
    try:
        _leave(staging, reference.chunk, reference.attempt, context, error)
    except Exception as second:  # the first error counts
        log.warning("the failure of %s could not be kept: %s", reference.name, type(second).__name__)


def _leave(staging: Staging, chunk: int, attempt: str, context: Any, error: Exception) -> None:
    plan = staging.body(staging.plan_key)
    if plan is None or not _is_awaited(staging, chunk, attempt):
        return
    planned = _planned(plan)
    place = log_place(
        region=staging.client.meta.region_name,
        log_group=context.log_group_name,
        log_stream=context.log_stream_name,
        request_id=context.aws_request_id,
        partition=staging.client.meta.partition,
    )
    ours = isinstance(error, ChunkwiseError)
    # a foreign text may quote data
    text = str(error) if ours else f"Lambda function {context.function_name!r} failed before it began"
    record = Failed(
        dispatch=planned.dispatch,
        chunk=chunk,
        revision=planned.revisions.get(chunk, 0),
        attempt=attempt,
        error=type(error).__name__,
        message=f"{text}; {place}",
        transient=error.transient if isinstance(error, ChunkwiseError) else True,
        failed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    staging.put_new(staging.failed_key(chunk, attempt), record)


def _is_awaited(staging: Staging, chunk: int, attempt: str) -> bool:
    """Whether an attempt has neither ended nor begun elsewhere."""
    for item in staging.list(f"{staging.state_prefix}chunk_{chunk:04d}."):
        state = parse_state(item.key)
        if state is None:
            continue
        if state.kind == "done" or (state.attempt == attempt and state.kind in ("failed", "doubtful")):
            return False
        if state.attempt == attempt and state.kind == "started":
            return is_over(staging, chunk, attempt)
    return True


def is_over(staging: Staging, chunk: int, attempt: str) -> bool:
    """Whether the time of the function in which this attempt has begun is over."""
    found = staging.get(staging.started_key(chunk, attempt), Started)
    if found is None or found[0].deadline_at is None:
        return False
    return datetime.fromisoformat(found[0].deadline_at) < datetime.now(UTC)


class _Planned(msgspec.Struct):
    """What a failed record needs of a plan, which may be of another version."""

    dispatch: str = ""
    revisions: dict[int, int] = {}


def _planned(body: bytes) -> _Planned:
    try:
        return decoding.decode(body, _Planned)
    except (msgspec.DecodeError, ValueError):
        return _Planned()  # what it says is wrong is not for here


def _silent(error: Exception) -> bool:
    """Whether S3 did not answer: a second try would only use up the time in which the error can be told."""
    return any(isinstance(one, BODY_ERRORS) and not isinstance(one, ClientError) for one in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
