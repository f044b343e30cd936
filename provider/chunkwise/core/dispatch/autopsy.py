"""Why chunks that were handed to functions have no done record."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from chunkwise.core.dispatch import early_ends
from chunkwise.core.dispatch.early_ends import Ended
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
#: marks that are read to tell the requests that have begun from the others
_MARKS: Final = 50
#: reports among which that of a request is
_REPORTS: Final = 50
#: kinds of ends that one message names
_KINDS: Final = 3
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
    tells the request, and the request's log, where it may be read, what Lambda did to it. Without a mark
    either, the log of the function since the invocation tells how its requests ended, if all did so alike.

    :param region: of the function.
    :param logs: boto3 client of CloudWatch Logs; ``None``: the log is linked to, not read.
    """
    wanted = list(chunks)[:LOOKED_AT]
    listed = list(staging.list(staging.state_prefix))
    reader = _Reader(function, region, logs, staging, listed)
    return [_reason(staging, chunk, listed, reader) for chunk in wanted]


def _reason(staging: Staging, chunk: int, listed: list[Listed], reader: _Reader) -> Reason:
    attempt = _latest(chunk, listed)
    mark = staging.get(staging.started_key(chunk, attempt), Started) if attempt else None
    record = _record(staging, chunk, attempt) if attempt else None
    if record is None:
        found = reader.lost(chunk, mark[0]) if mark else reader.unbegun(chunk, attempt)
        return found or reader.never_began(chunk)
    if record.error == FunctionFailed.__name__:
        # whoever waited saw that it had ended, and not of what
        found = reader.cause(chunk, mark[0]) if mark else reader.unbegun(chunk, attempt, record.message)
        if found is not None:
            return found
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


def _of(chunk: int, error: FunctionFailed) -> Reason:
    return Reason(text=f"chunk {chunk}: {type(error).__name__}: {error}", transient=error.transient)


class _Reader:
    """Reads the logs of one function, until it may not.

    :param function: that processed.
    :param region: of it.
    :param logs: client of CloudWatch Logs, or ``None``.
    :param staging: of the dispatch.
    :param listed: its states.
    """

    def __init__(
        self, function: Function, region: str | None, logs: Any, staging: Staging, listed: list[Listed]
    ) -> None:
        self._function = function
        self._region = region
        self._logs = logs
        self._staging = staging
        self._listed = listed
        self._partition = "aws" if logs is None else str(logs.meta.partition)
        self._name = f"Lambda function {function.name!r}"
        self._ends: dict[str, list[Ended]] | None = None
        self._since: datetime | None = None

    # --- attempts that have begun ---------------------------------------------------------------------------

    def lost(self, chunk: int, mark: Started) -> Reason:
        """Why an attempt that has begun left no record."""
        plain = FunctionFailed(
            f"{self._name} began attempt {mark.attempt} at {mark.started_at} and reported nothing before its"
            f" deadline: killed at its memory limit or time-out, most likely; {self._place(mark)}"
        )
        return self.cause(chunk, mark) or _of(chunk, plain)

    def cause(self, chunk: int, mark: Started) -> Reason | None:
        """What the log says that an attempt died of, if it says so."""
        found = self._cause(mark)
        return None if found is None else _of(chunk, found)

    def _cause(self, mark: Started) -> FunctionFailed | None:
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
        return read([str(event.get("message", "")) for event in self._events(asked)], mark.request_id)

    # --- attempts that have not -----------------------------------------------------------------------------

    def never_began(self, chunk: int) -> Reason:
        """The reason of an attempt of which there is no trace."""
        several = ""
        if self._ends:
            kinds = ", ".join([*self._ends][:_KINDS])
            several = f" (its log has {kinds}{' and more' if len(self._ends) > _KINDS else ''})"
        return _of(
            chunk,
            FunctionFailed(
                f"{self._name} was invoked, and no attempt at the chunk began: look whether it can"
                f" start{several}, and at its concurrency and its dead letters; {self._place(None)}"
            ),
        )

    def unbegun(self, chunk: int, attempt: str | None, known: str = "") -> Reason | None:
        """What the requests of the function died of since an attempt was handed over, if all died alike.

        :param known: what is known already: ``None`` if it is no less.
        """
        since = self._invoked(chunk, attempt)
        group = self._function.log_group
        if since is None or group is None or self._logs is None:
            return None
        if self._ends is None:
            self._since = since
            asked = {
                "logGroupName": group,
                "filterPattern": early_ends.PATTERN,
                # the mark is written before the function is invoked, and its time has no fractions
                "startTime": int(since.timestamp() * 1000),
            }
            self._ends = early_ends.ends(self._events(asked), self._begun)
        if len(self._ends) != 1:
            return None
        ((kind, found),) = self._ends.items()
        if kind in known:
            return None
        last = max(found, key=lambda end: end.timestamp)
        place = log_place(
            region=self._region,
            log_group=group,
            log_stream=last.stream,
            request_id=last.request_id or self._request_of(last, group),
            partition=self._partition,
        )
        times = "" if len(found) == 1 else f", {len(found)} times since {self._since:%Y-%m-%d %H:%M:%S} UTC"
        error = FunctionFailed(
            f"{self._name} ended before it could say which chunk it was{times}: {kind} in {place}"
            f"{f'; {last.advice}' if last.advice else ''}"
        )
        return replace(_of(chunk, error), transient=not last.lasting)

    def _invoked(self, chunk: int, attempt: str | None) -> datetime | None:
        """When an attempt was handed over, by S3's clock."""
        for item in self._listed:
            state = parse_state(item.key)
            if state is not None and (state.chunk, state.attempt, state.kind) == (chunk, attempt, "invoked"):
                return item.last_modified
        return None

    def _begun(self) -> set[str] | None:
        """The requests that have begun and not ended; ``None``: these are too many to look at."""
        keys = [item.key for item in self._listed if item.key.endswith(".started")]
        if len(keys) > _MARKS:
            return None
        marks = [self._staging.get(key, Started) for key in keys]
        return {mark[0].request_id for mark in marks if mark is not None and mark[0].request_id}

    def _request_of(self, end: Ended, group: str) -> str | None:
        asked = {
            "logGroupName": group,
            "logStreamNames": [end.stream],
            "filterPattern": early_ends.REPORTS,
            "startTime": end.timestamp,
            "limit": _REPORTS,
        }
        return early_ends.request_of(self._events(asked))

    # --- the log --------------------------------------------------------------------------------------------

    def _events(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """The lines that are asked for; what there is of them if the log may not be read."""
        events: list[dict[str, Any]] = []
        if self._logs is None:
            return events
        try:
            for _ in range(_PAGES):
                answer = self._logs.filter_log_events(**asked)
                events += answer.get("events", ())
                if not answer.get("nextToken"):
                    break
                asked = {**asked, "nextToken": answer["nextToken"]}
        except BODY_ERRORS as error:
            # the links must do, and the next one would not be read either
            log.warning(
                "the log of %s was not read: %s; the connection needs logs:FilterLogEvents to tell why a"
                " function died",
                self._name,
                code_of(error) or type(error).__name__,
            )
            self._logs = None
        return events

    def _place(self, mark: Started | None) -> str:
        group = self._function.log_group if mark is None else mark.log_group or self._function.log_group
        return log_place(
            region=self._region,
            log_group=group,
            log_stream=None if mark is None else mark.log_stream,
            request_id=None if mark is None else mark.request_id,
            partition=self._partition,
        )
