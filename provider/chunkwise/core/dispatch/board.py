"""How far the chunks of a dispatch are, from listings alone."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from chunkwise.core.dispatch.model import Done, Plan
from chunkwise.core.dispatch.staging import IN_FLIGHT, Staging, decode, parse_state
from chunkwise.core.dispatch.weights import weights
from chunkwise.core.storage.objects import Listed
from chunkwise.core.units import MiB

Verdict = Literal["waiting", "done", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Chunks by their state.

    :param pending: no attempt has begun; a function may have been invoked for it.
    :param running: an attempt has begun, and its deadline has not passed.
    :param done: with a done record.
    :param doubtful: failed where the cut is not proved; the merge finds out, so they count as reported.
    :param failed: the last attempt failed, and no other one runs.
    :param lost: the last attempt reported nothing before its deadline.
    :param total: of the dispatch.
    :param bytes_done: of the source, of the chunks that are done.
    :param bytes_total: of the source.
    :param rows: of the chunks whose done record was read.
    """

    pending: int
    running: int
    done: int
    doubtful: int
    failed: int
    lost: int
    total: int
    bytes_done: int
    bytes_total: int
    rows: int

    def to_json(self) -> dict[str, int]:
        """A plain dictionary."""
        return asdict(self)


#: how far an attempt got, by its latest mark: S3's times tell no more than seconds
_ADVANCE: Final = {"invoked": 0, "started": 1, "failed": 2, "doubtful": 2}


class _Attempt(NamedTuple):
    since: datetime
    kind: str


def _rank(attempt: _Attempt) -> tuple[datetime, bool]:
    # of two in the same second the one that may still report counts
    return attempt.since, attempt.kind in ("invoked", "started")


class Board:
    """The states of all chunks, from what LIST says of the state prefix. Makes no request.

    The time is S3's own: an attempt began when its mark was written, and ``now`` comes from the listing's
    answer where it can be had, so that a wrong clock does no harm.

    :param plan: of the dispatch.
    :param deadline_seconds: a started attempt that reported nothing for so long is lost; default: the plan's.
    :param queue_seconds: an attempt that a function was invoked for and that has not begun is lost when
        nothing of the dispatch has moved for so long: as long as others begin or end, it stands in a queue.
    """

    def __init__(
        self, plan: Plan, *, deadline_seconds: float | None = None, queue_seconds: float | None = None
    ) -> None:
        own = plan.config.deadline_seconds
        self._plan = plan
        self._deadlines = {
            "started": timedelta(seconds=own if deadline_seconds is None else deadline_seconds),
            "invoked": timedelta(seconds=own if queue_seconds is None else queue_seconds),
        }
        self._weights = weights(plan)
        self._states: list[str] = ["pending"] * plan.chunks
        self._attempts: dict[int, dict[str, _Attempt]] = {}
        self._rows: dict[str, int] = {}
        self._done_keys: dict[str, int] = {}
        self._seen: dict[int, datetime] = {}
        self._first: tuple[datetime, int] | None = None
        self._now = datetime.now(UTC)
        self._moved = self._now

    def take(self, listed: Iterable[Listed], now: datetime | None = None) -> None:
        """Take a whole listing of the state prefix; it replaces the one before.

        :param now: S3's time.
        """
        self._now = now or datetime.now(UTC)
        states = ["pending"] * self._plan.chunks
        attempts: dict[int, dict[str, _Attempt]] = {}
        self._done_keys = {}
        self._seen = {}
        self._moved = datetime.min.replace(tzinfo=UTC)
        for item in listed:
            state = parse_state(item.key)
            if state is None or state.chunk >= self._plan.chunks:
                continue
            self._seen[state.chunk] = max(item.last_modified, self._seen.get(state.chunk, item.last_modified))
            if state.kind != "invoked":
                self._moved = max(self._moved, item.last_modified)
            if state.kind == "done":
                states[state.chunk] = "done"
                self._done_keys[item.key] = state.chunk
                continue
            of_chunk = attempts.setdefault(state.chunk, {})
            before = of_chunk.get(state.attempt)
            if before is None or _ADVANCE[before.kind] < _ADVANCE[state.kind]:
                of_chunk[state.attempt] = _Attempt(item.last_modified, state.kind)
        self._attempts = {chunk: found for chunk, found in attempts.items() if states[chunk] != "done"}
        for chunk, found in self._attempts.items():
            states[chunk] = self._state(max(found.values(), key=_rank))
        self._states = states
        if self._first is None:
            self._first = (self._now, self.counts.bytes_done)

    @property
    def counts(self) -> Counts:
        """Of the last listing."""
        by = {
            name: self._states.count(name)
            for name in ("pending", "running", "done", "doubtful", "failed", "lost")
        }
        done = [weight for weight, state in zip(self._weights, self._states, strict=True) if state == "done"]
        by["pending"] += self._states.count("invoked")
        return Counts(
            total=self._plan.chunks,
            bytes_done=sum(done),
            bytes_total=sum(self._weights),
            rows=sum(self._rows.values()),
            **by,
        )

    def _state(self, attempt: _Attempt) -> str:
        deadline = self._deadlines.get(attempt.kind)
        if deadline is None:
            return attempt.kind
        since = attempt.since if attempt.kind == "started" else max(attempt.since, self._moved)
        if self._now - since >= deadline:
            return "lost"
        return "running" if attempt.kind == "started" else "invoked"

    def attempts(self, chunk: int) -> list[str]:
        """Names of the attempts at a chunk that is not done, the latest one last."""
        found = self._attempts.get(chunk, {})
        return sorted(found, key=lambda name: _rank(found[name]))

    def state(self, chunk: int) -> str:
        """Of one chunk, see :meth:`chunks`."""
        return self._states[chunk]

    @property
    def now(self) -> datetime:
        """S3's time, of the last listing."""
        return self._now

    def seen(self, chunk: int) -> datetime | None:
        """When the latest record of a chunk was written; ``None``: there is none."""
        return self._seen.get(chunk)

    def holds_a_place(self, chunk: int) -> bool:
        """Whether a chunk counts as in flight for the other groups.

        A function that never begins must not keep them waiting for as long as they move themselves: for them
        an invocation counts no longer than the queue time after its mark.
        """
        state, seen = self._states[chunk], self._seen.get(chunk)
        if state != "invoked" or seen is None:
            return state == "running"
        return self._now - seen < self._deadlines["invoked"]

    def chunks(self, state: str) -> list[int]:
        """Numbers of the chunks in a state: one of those of :class:`Counts`, or ``"invoked"``, which counts
        as pending: a function was invoked, and the attempt has not begun.
        """
        return [chunk for chunk, found in enumerate(self._states) if found == state]

    @property
    def unread(self) -> list[str]:
        """Keys of done records whose rows are not known yet."""
        return [key for key in self._done_keys if key not in self._rows]

    def read(self, key: str, body: bytes) -> None:
        """Take the rows of a done record."""
        self._rows[key] = decode(body, Done, key).rows_in

    def verdict(self, tolerated_count: int = 0, tolerated_share: float = 0.0) -> Verdict:
        """Whether to go on waiting.

        :param tolerated_count: chunks that may fail or be lost while the others are still waited for.
        :param tolerated_share: the same as a share of all chunks; the larger of both counts.
        :return: ``"done"`` when every chunk has reported, ``"failed"`` as soon as more than tolerated have
            failed or are lost, or when nothing else is left to wait for.
        """
        counts = self.counts
        bad = counts.failed + counts.lost
        if bad > max(tolerated_count, int(tolerated_share * counts.total)):
            return "failed"
        if counts.pending or counts.running:
            return "waiting"
        return "failed" if bad else "done"

    @property
    def seconds_left(self) -> float | None:
        """By the speed since the first listing; ``None`` while nothing can be said."""
        if self._first is None:
            return None
        counts = self.counts
        since, before = self._first
        moved = counts.bytes_done - before
        passed = (self._now - since).total_seconds()
        if moved <= 0 or passed <= 0:
            return None
        return passed * (counts.bytes_total - counts.bytes_done) / moved

    def line(self) -> str:
        """One line for a log."""
        counts = self.counts
        names = [
            f"{getattr(counts, name)} {name}"
            for name in ("running", "pending", "doubtful", "failed", "lost")
            if getattr(counts, name)
        ]
        left = self.seconds_left
        eta = "" if left is None else f", about {left:,.0f} s left"
        rows = f", {counts.rows:,} rows" if counts.rows else ""
        return (
            f"{counts.done} of {counts.total} chunks done"
            + (f" ({', '.join(names)})" if names else "")
            + f", {counts.bytes_done / MiB:,.0f} of {counts.bytes_total / MiB:,.0f} MiB{rows}{eta}"
        )

    def to_json(self) -> dict[str, Any]:
        """Counts, and the chunks that need a person."""
        return {
            **self.counts.to_json(),
            "failed_chunks": self.chunks("failed")[:100],
            "lost_chunks": self.chunks("lost")[:100],
            "seconds_left": self.seconds_left,
        }


def snapshot(staging: Staging, board: Board, *, rows: bool = True) -> None:
    """List the states once, and read the done records that are new.

    :param rows: whether to read them.
    """
    board.take(list(staging.list(staging.state_prefix)))
    if not rows:
        return
    unread = board.unread
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chunkwise-board") as pool:
        for key, body in zip(unread, pool.map(staging.body, unread), strict=True):
            if body is not None:
                board.read(key, body)
