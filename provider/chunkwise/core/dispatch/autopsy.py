"""Why chunks that were handed to functions have no done record."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from chunkwise.core.dispatch.functions import Function, log_place, out_of_memory, timed_out
from chunkwise.core.dispatch.model import Failed, Started
from chunkwise.core.dispatch.platform_log import Said, read
from chunkwise.core.dispatch.staging import Staging, parse_state
from chunkwise.core.errors import FunctionFailed
from chunkwise.core.storage.failures import BODY_ERRORS, code_of
from chunkwise.core.storage.objects import Listed

log = logging.getLogger(__name__)

#: chunks that are looked at: the others mostly died of the same
LOOKED_AT: Final = 5
#: answers that are read of one log: an answer may be empty and yet have a next one
_PAGES: Final = 10
#: the log is read from so long before the mark of a start, which the function's clock tells
_BEFORE_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why one chunk is not done.

    :param text: with the chunk, and the kind of error.
    :param transient: whether another attempt may succeed.
    """

    text: str
    transient: bool


def why(
    staging: Staging, chunks: Iterable[int], function: Function, *, region: str | None, logs: Any = None
) -> list[Reason]:
    """A reason for each of the first few chunks, from its latest attempt.

    A failed record says it itself. Without one the function did not come to write it: the mark of its start
    tells the request, and the request's log, where it may be read, what Lambda did to it.

    :param region: of the function.
    :param logs: boto3 client of CloudWatch Logs; ``None``: the log is linked to, not read.
    """
    wanted = list(chunks)[:LOOKED_AT]
    listed = list(staging.list(staging.state_prefix))
    reader = _Reader(function, region, logs)
    return [_reason(staging, chunk, listed, reader) for chunk in wanted]


def _reason(staging: Staging, chunk: int, listed: list[Listed], reader: _Reader) -> Reason:
    attempt = _latest(chunk, listed)
    mark = staging.get(staging.started_key(chunk, attempt), Started) if attempt else None
    record = _record(staging, chunk, attempt) if attempt else None
    if record is None:
        error = reader.lost(None if mark is None else mark[0])
        return Reason(text=f"chunk {chunk}: {type(error).__name__}: {error}", transient=error.transient)
    if record.error == FunctionFailed.__name__ and mark is not None:
        # whoever waited saw that it had ended, and not of what
        found = reader.cause(mark[0])
        if found is not None:
            return Reason(text=f"chunk {chunk}: {type(found).__name__}: {found}", transient=found.transient)
    return Reason(text=f"chunk {chunk}: {record.error}: {record.message}", transient=record.transient)


def _latest(chunk: int, listed: list[Listed]) -> str | None:
    """Name of the attempt at a chunk that was the last one to begin or to end."""
    ended: dict[str, Listed] = {}
    begun: dict[str, Listed] = {}
    for item in listed:
        state = parse_state(item.key)
        if state is not None and state.chunk == chunk and state.attempt:
            of_kind = ended if state.kind in ("failed", "doubtful") else begun
            before = of_kind.get(state.attempt)
            if before is None or before.last_modified <= item.last_modified:
                of_kind[state.attempt] = item
    # S3's times tell no more than seconds: of two in the same one, the attempt without an end is the later
    order = {name: (item.last_modified, name not in ended) for name, item in {**begun, **ended}.items()}
    return max(order, key=lambda name: order[name], default=None)


def _record(staging: Staging, chunk: int, attempt: str) -> Failed | None:
    for doubtful in (False, True):
        found = staging.get(staging.failed_key(chunk, attempt, doubtful=doubtful), Failed)
        if found is not None:
            return found[0]
    return None


class _Reader:
    """Reads the logs of one function, until it may not.

    :param function: that processed.
    :param region: of it.
    :param logs: client of CloudWatch Logs, or ``None``.
    """

    def __init__(self, function: Function, region: str | None, logs: Any) -> None:
        self._function = function
        self._region = region
        self._logs = logs
        self._partition = "aws" if logs is None else str(logs.meta.partition)
        self._name = f"Lambda function {function.name!r}"

    def lost(self, mark: Started | None) -> FunctionFailed:
        """The error of an attempt without a record.

        :param mark: of its start, if it came to it.
        """
        if mark is None:
            return FunctionFailed(
                f"{self._name} was invoked and never began: look whether it can start, and at its concurrency"
                f" and its dead letters; {self._place(None)}"
            )
        return self.cause(mark) or FunctionFailed(
            f"{self._name} began attempt {mark.attempt} at {mark.started_at} and reported nothing before its"
            f" deadline: killed at its memory limit or time-out, most likely; {self._place(mark)}"
        )

    def cause(self, mark: Started) -> FunctionFailed | None:
        """What the log says that an attempt died of, if it says so."""
        said = self._said(mark)
        if said is None:
            return None
        if said.timed_out:
            seconds = said.seconds or self._function.timeout_seconds
            return timed_out(self._name, seconds, self._place(mark))
        if said.out_of_memory:
            return out_of_memory(self._name, said.memory_mb or self._function.memory_mb, self._place(mark))
        if said.end is None:
            return None
        used = ""
        if said.used_mb is not None and said.memory_mb is not None:
            used = f", with {said.used_mb} of {said.memory_mb} MB of memory used"
        return FunctionFailed(
            f"{self._name} ended in attempt {mark.attempt} with {said.end}{used}; {self._place(mark)}"
        )

    def _said(self, mark: Started) -> Said | None:
        """What Lambda itself wrote about the request."""
        if self._logs is None or not (mark.log_group and mark.log_stream and mark.request_id):
            return None
        asked: dict[str, Any] = {
            "logGroupName": mark.log_group,
            "logStreamNames": [mark.log_stream],
            "filterPattern": f'"{mark.request_id}"',
            "startTime": int((datetime.fromisoformat(mark.started_at).timestamp() - _BEFORE_SECONDS) * 1000),
        }
        messages: list[str] = []
        try:
            for _ in range(_PAGES):
                answer = self._logs.filter_log_events(**asked)
                messages += [str(event.get("message", "")) for event in answer.get("events", ())]
                if not answer.get("nextToken"):
                    break
                asked["nextToken"] = answer["nextToken"]
        except BODY_ERRORS as error:
            # the links must do, and the next one would not be read either
            log.warning(
                "the log of %s was not read: %s; the connection needs logs:FilterLogEvents to tell why a"
                " function died",
                self._name,
                code_of(error) or type(error).__name__,
            )
            self._logs = None
        return read(messages, mark.request_id)

    def _place(self, mark: Started | None) -> str:
        group = self._function.log_group if mark is None else mark.log_group or self._function.log_group
        return log_place(
            region=self._region,
            log_group=group,
            log_stream=None if mark is None else mark.log_stream,
            request_id=None if mark is None else mark.request_id,
            partition=self._partition,
        )
