"""What a function may still spend: time and memory. Who asks in time ends cleanly instead of being killed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from chunkwise.core import memory
from chunkwise.core.errors import OutOfMemory, OutOfTime
from chunkwise.core.units import MiB

log = logging.getLogger(__name__)

#: kept of the time for aborting an upload and writing a failed record, which are a few requests
MARGIN_SECONDS: Final = 10.0
#: at most so much of the time is kept by default, so that short ones leave time for work, too
_MARGIN_SHARE: Final = 0.2
#: batches differ: the next one may take so many times as long as the longest one so far
_BATCHES: Final = 2.0
_WARN_AT: Final = 0.8
_STOP_AT: Final = 0.95


class Budget:
    """The time and memory of one invocation.

    :param context: of the invocation, as AWS's runtime client gives it.
    :param margin_seconds: kept of the time to end cleanly; default: 10 s, and at most a fifth of the time.
    :param limit: bytes of memory; default: what the environment has.
    :param used: gives the bytes that are used now.
    :param clock: seconds.
    """

    def __init__(
        self,
        context: Any,
        *,
        margin_seconds: float | None = None,
        limit: int | None = None,
        used: Callable[[], int] = memory.current_rss,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._clock = clock
        self._used = used
        self._limit = memory.memory_limit() if limit is None else limit
        self._began = clock()
        self._total = self.seconds_left
        if margin_seconds is None:
            margin_seconds = min(MARGIN_SECONDS, _MARGIN_SHARE * self._total)
        self._margin = margin_seconds
        self._ends_at = datetime.now(UTC) + timedelta(seconds=self._total)
        self._last: float | None = None
        self._longest = 0.0
        self._warned = False

    @property
    def seconds_left(self) -> float:
        """Until the function is killed."""
        return float(self._context.get_remaining_time_in_millis()) / 1000

    @property
    def memory_limit(self) -> int | None:
        """Bytes at which it is killed."""
        return self._limit

    @property
    def where(self) -> dict[str, str]:
        """Where the work runs: fields of :class:`~chunkwise.core.dispatch.model.Started`."""
        return {
            "function": self._context.function_name,
            "request_id": self._context.aws_request_id,
            "log_group": self._context.log_group_name,
            "log_stream": self._context.log_stream_name,
            "deadline_at": self._ends_at.isoformat(timespec="milliseconds"),
        }

    def begin(self) -> None:
        """A new piece of work begins: what came before it was no batch."""
        self._last = None
        self._warned = False

    @property
    def time_is_short(self) -> bool:
        """Whether there is no time for another batch."""
        return self.seconds_left < max(self._margin, _BATCHES * self._longest)

    def check(self) -> bool:
        """Asked between batches, as the ``stop`` of a processor.

        :return: ``False``: go on.
        :raises OutOfTime: it would be killed in the middle of the next batch.
        :raises OutOfMemory: it would soon be killed for its memory.
        """
        now = self._clock()
        if self._last is not None:
            self._longest = max(self._longest, now - self._last)
        self._last = now
        if self.time_is_short:
            raise OutOfTime(
                f"ended by itself after {now - self._began:,.0f} s, with {self.seconds_left:,.1f} s of the"
                f" function's {self._total:,.0f} s left: give the function a longer time-out or more memory,"
                " which also is more CPU, or plan smaller chunks"
            )
        self._check_memory()
        return False

    def _check_memory(self) -> None:
        if self._limit is None or self._limit <= 0:
            return
        used = self._used()
        if used >= _STOP_AT * self._limit:
            raise OutOfMemory(
                f"ended by itself with {used / MiB:,.0f} MiB of the {self._limit / MiB:,.0f} MiB of memory in"
                " use: give the function more memory, or smaller batches (batch_bytes, batch_rows)"
            )
        warning = memory.near_limit(used, self._limit, _WARN_AT)
        if warning is not None and not self._warned:
            self._warned = True
            log.warning("%s", warning)
