"""What a listing says about the chunks."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.spec import Config, Target
from chunkwise.core.storage.objects import Listed
from tests.core.dispatch.test_proof import done_of, plan_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONFIG = Config(target=Target(bucket="b", key="out"), deadline_seconds=600)


def board_of(chunks: int) -> Board:
    plan = plan_of([10 * chunk for chunk in range(chunks + 1)])
    return Board(msgspec.structs.replace(plan, config=CONFIG))


def listed(name: str, *, seconds_ago: float = 0) -> Listed:
    return Listed(
        key=f"big.jsonl.dispatch/done/{name}",
        size=1,
        etag='"e"',
        last_modified=NOW - timedelta(seconds=seconds_ago),
    )


STATES = {
    "pending": [],
    "running": [listed("chunk_0000.a1.started", seconds_ago=599)],
    "lost": [listed("chunk_0000.a1.started", seconds_ago=601)],
    "failed": [listed("chunk_0000.a1.failed.json")],
    "doubtful": [listed("chunk_0000.a1.doubtful.json")],
    "done": [listed("chunk_0000.json"), listed("chunk_0000.a1.started", seconds_ago=5000)],
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_told_from_the_listing(state):
    board = board_of(3)
    board.take(STATES[state], NOW)
    assert board.chunks(state)[0] == 0
    assert board.chunks("pending") == ([0, 1, 2] if state == "pending" else [1, 2])


@pytest.mark.parametrize("order", [1, -1])
def test_the_latest_attempt_counts(order):
    """A second attempt runs although the first one failed, in whatever order they are listed."""
    board = board_of(1)
    states = [
        listed("chunk_0000.a1.failed.json", seconds_ago=20),
        listed("chunk_0000.a2.started", seconds_ago=10),
    ]
    board.take(states[::order], NOW)
    assert board.chunks("running") == [0]
    states = [
        listed("chunk_0000.a1.started", seconds_ago=20),
        listed("chunk_0000.a2.failed.json", seconds_ago=10),
    ]
    board.take(states[::order], NOW)
    assert board.chunks("failed") == [0]


@pytest.mark.parametrize("order", [1, -1])
def test_of_one_attempt_the_last_mark_counts_though_s3_tells_seconds_only(order):
    board = board_of(1)
    names = ["invoked", "started", "failed.json"]
    for length, state in enumerate(["invoked", "running", "failed"], 1):
        board.take([listed(f"chunk_0000.a1.{name}") for name in names[:length]][::order], NOW)
        assert board.state(0) == state
    board.take(
        [listed(f"chunk_0000.{name}") for name in ("a1.invoked", "a1.failed.json", "a2.invoked")][::order],
        NOW,
    )
    assert board.state(0) == "invoked", "the second attempt may still report"
    assert board.attempts(0) == ["a1", "a2"]
    assert board.counts.pending == 1


def test_an_attempt_in_a_queue_is_lost_when_nothing_has_moved_for_too_long():
    plan = msgspec.structs.replace(plan_of([0, 10, 20]), config=CONFIG)
    board = Board(plan, deadline_seconds=100, queue_seconds=1000)
    queued = listed("chunk_0000.a1.invoked", seconds_ago=1500)
    others = [
        listed("chunk_0001.a1.invoked", seconds_ago=1500),
        listed("chunk_0001.a1.started", seconds_ago=999),
    ]
    board.take([queued, *others], NOW)
    assert (board.state(0), board.state(1)) == ("invoked", "lost")
    board.take([queued, *others], NOW + timedelta(seconds=1))
    assert board.state(0) == "lost"
    board.take([queued, listed("chunk_0001.json", seconds_ago=10)], NOW)
    assert board.state(0) == "invoked"


@pytest.mark.parametrize("order", [1, -1])
def test_a_done_record_ends_every_doubt(order):
    board = board_of(1)
    states = [
        listed("chunk_0000.json", seconds_ago=30),
        listed("chunk_0000.a1.failed.json", seconds_ago=20),
        listed("chunk_0000.a2.started", seconds_ago=10),
    ]
    board.take(states[::order], NOW)
    assert board.chunks("done") == [0]


def test_a_new_listing_replaces_the_old_one():
    board = board_of(2)
    board.take([listed("chunk_0000.json")], NOW)
    board.take([], NOW)
    assert board.counts.done == 0


def test_keys_that_are_no_states_are_passed_over():
    board = board_of(1)
    board.take([listed("notes.txt"), listed("chunk_0000.tmp"), listed("chunk_0007.json")], NOW)
    assert board.counts.pending == 1


@pytest.mark.parametrize(
    ("names", "count", "share", "verdict"),
    [
        ([], 0, 0.0, "waiting"),
        (["chunk_0000.json", "chunk_0001.json"], 0, 0.0, "waiting"),
        (["chunk_0000.json", "chunk_0001.json", "chunk_0002.json", "chunk_0003.json"], 0, 0.0, "done"),
        (["chunk_0000.a.failed.json"], 0, 0.0, "failed"),
        (["chunk_0000.a.failed.json"], 1, 0.0, "waiting"),
        (["chunk_0000.a.failed.json"], 0, 0.25, "waiting"),
        (["chunk_0000.a.failed.json", "chunk_0001.a.failed.json"], 1, 0.25, "failed"),
        (
            ["chunk_0000.a.failed.json", "chunk_0001.json", "chunk_0002.json", "chunk_0003.json"],
            1,
            0.0,
            "failed",
        ),
        (
            ["chunk_0000.a.doubtful.json", "chunk_0001.json", "chunk_0002.json", "chunk_0003.json"],
            0,
            0.0,
            "done",
        ),
    ],
)
def test_the_verdict_ends_the_waiting_as_soon_as_it_can(names, count, share, verdict):
    board = board_of(4)
    board.take([listed(name) for name in names], NOW)
    assert board.verdict(count, share) == verdict


def test_a_lost_chunk_is_a_failure():
    board = board_of(1)
    board.take([listed("chunk_0000.a.started", seconds_ago=601)], NOW)
    assert board.verdict() == "failed"


def test_progress_counts_bytes_rows_and_the_time_that_is_left():
    board = board_of(4)
    board.take([listed("chunk_0000.json")], NOW)
    assert board.seconds_left is None
    board.take([listed("chunk_0000.json"), listed("chunk_0001.json")], NOW + timedelta(seconds=10))
    assert board.seconds_left == 20
    assert (board.counts.bytes_done, board.counts.bytes_total) == (20, 40)
    plan = plan_of([0, 10, 20, 30, 40])
    assert len(board.unread) == 2
    for chunk, key in enumerate(board.unread):
        board.read(key, msgspec.json.encode(done_of(plan, chunk, rows_in=7)))
    assert board.counts.rows == 14
    assert board.unread == []
    assert "2 of 4 chunks done (2 pending)" in board.line()
    assert "14 rows, about 20 s left" in board.line()
