"""Which chunks of a group are to be handed to a function, by what the board shows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.model import Plan


@dataclass(kw_only=True, slots=True)
class Decision:
    """What a look at the board asks for.

    :param due: chunks without an attempt that may still report, with the name of the next attempt.
    :param again: attempts that are marked as invoked and have not begun: somebody else may not have come to
        invoke them, or the function died before it began. The same attempt is invoked again, and a second
        delivery of it ends at once.
    :param unknown: attempts of this run that failed, and nobody has read yet whether that passes.
    :param in_flight: attempts that may still report.
    :param given_up: chunks that failed for good, or have had all their attempts.
    """

    due: list[tuple[int, str]] = field(default_factory=list)
    again: list[tuple[int, str]] = field(default_factory=list)
    unknown: list[tuple[int, str]] = field(default_factory=list)
    in_flight: int = 0
    given_up: list[int] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do or to wait for."""
        return not (self.due or self.again or self.unknown or self.in_flight)


class _Handed(NamedTuple):
    attempt: str
    times: int
    at: float


class Rounds:
    """The attempts of one run at one group.

    Attempts are named ``{run}-{number}``. Those of other runs count as long as they may still report; what
    failed in an earlier run is tried again.

    :param plan: of the dispatch.
    :param group: number.
    :param run: name of this run, without dots: the same one goes on where it was, whoever asks.
    :param attempts: at one chunk, in this run.
    :param again_seconds: after which an attempt that has not begun is invoked again; twice that the next
        time, and so on. ``None``: never.
    :param recall: whether attempts that have begun are invoked again too when nothing is remembered of them,
        because that gives the handle of a durable execution back.
    """

    def __init__(
        self,
        plan: Plan,
        group: int,
        run: str,
        *,
        attempts: int,
        again_seconds: float | None = None,
        recall: bool = False,
    ) -> None:
        self._members = plan.members(group)
        self._run = run
        self._most = attempts
        self._recall = recall
        self._again = again_seconds
        self._handed: dict[int, _Handed] = {}
        self._passes: dict[tuple[int, str], bool] = {}
        self._uncounted: set[tuple[int, str]] = set()

    def decide(self, board: Board, now: float = 0.0) -> Decision:
        """By the latest listing.

        :param now: seconds on a clock that never goes back, as for :meth:`handed`.
        """
        decision = Decision()
        for chunk in self._members:
            state = board.state(chunk)
            if state == "done":
                continue
            attempts = board.attempts(chunk)
            handed = self._handed.get(chunk)
            latest = attempts[-1] if attempts else None
            own = [attempt for attempt in attempts if self.owns(attempt)]
            if handed is not None and handed.attempt not in attempts:
                decision.in_flight += 1  # the listing is older than the mark
            elif state in ("invoked", "running"):
                decision.in_flight += 1
                if latest is not None and self._is_due_again(handed, latest, state, now):
                    decision.again.append((chunk, latest))
            elif latest in own and state == "doubtful":
                continue  # reported: the merge finds out
            elif latest is not None and latest in own and state == "failed" and self._ended(chunk, latest):
                passes = self._passes.get((chunk, latest))
                if passes is None:
                    decision.unknown.append((chunk, latest))
                else:
                    decision.given_up.append(chunk)
            elif sum((chunk, attempt) not in self._uncounted for attempt in own) >= self._most:
                decision.given_up.append(chunk)
            else:
                number = 1 + max((int(attempt.rsplit("-", 1)[1]) for attempt in own), default=0)
                decision.due.append((chunk, f"{self._run}-{number}"))
        return decision

    def owns(self, attempt: str) -> bool:
        """Whether an attempt is of this run."""
        head, _, number = attempt.rpartition("-")
        return head == self._run and number.isdecimal()

    def handed(self, chunk: int, attempt: str, now: float = 0.0) -> None:
        """An attempt is marked as invoked, and about to be."""
        before = self._handed.get(chunk)
        times = before.times + 1 if before is not None and before.attempt == attempt else 1
        self._handed[chunk] = _Handed(attempt, times, now)

    def taken_back(self, chunk: int) -> None:
        """The function could not be invoked, and the mark is removed."""
        self._handed.pop(chunk, None)

    def learned(self, chunk: int, attempt: str, *, passes: bool, counts: bool = True) -> None:
        """Whether another attempt may succeed where this one failed.

        :param counts: as one of the attempts that a chunk may have.
        """
        self._passes[chunk, attempt] = passes
        if not counts:
            self._uncounted.add((chunk, attempt))

    def invoke_again(self) -> None:
        """Whatever has not begun may never do so: all of it is due again, under the same name."""
        for chunk, handed in self._handed.items():
            self._handed[chunk] = handed._replace(at=-math.inf)

    def _is_due_again(self, handed: _Handed | None, latest: str, state: str, now: float) -> bool:
        if handed is None or handed.attempt != latest:
            return state == "invoked" or self._recall
        if state != "invoked" or self._again is None:
            return False
        return now - handed.at >= self._again * 2.0 ** (handed.times - 1)

    def _ended(self, chunk: int, attempt: str) -> bool:
        """Whether a failure ends the chunk, or may do so."""
        return not self._passes.get((chunk, attempt), False)
