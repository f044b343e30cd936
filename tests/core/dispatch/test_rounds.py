"""Which chunks are handed to a function, by what the board shows."""

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.rounds import Rounds
from chunkwise.core.dispatch.spec import Config, Target
from chunkwise.core.storage.objects import Listed
from tests.core.dispatch.test_proof import plan_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLAN = msgspec.structs.replace(
    plan_of([10 * chunk for chunk in range(7)]),
    config=Config(target=Target(bucket="b", key="out"), deadline_seconds=600),
    groups=2,
)


def board_of(*names: str, age: float = 1) -> Board:
    """A listing of states; a name with ``@seconds`` is that old."""
    board = Board(PLAN, deadline_seconds=100, queue_seconds=1000)
    listed = []
    for name in names:
        name, _, seconds = name.partition("@")
        since = NOW - timedelta(seconds=float(seconds or age))
        listed.append(Listed(key=f"x.dispatch/done/chunk_{name}", size=1, etag='"e"', last_modified=since))
    board.take(listed, NOW)
    return board


def rounds(*, attempts: int = 3, recall: bool = False) -> Rounds:
    return Rounds(PLAN, 0, "r", attempts=attempts, recall=recall)


def test_a_group_begins_with_all_its_chunks_and_no_other():
    decision = rounds().decide(board_of())
    assert decision.due == [(0, "r-1"), (2, "r-1"), (4, "r-1")]
    assert not decision.finished


def test_what_was_handed_over_is_in_flight_though_the_listing_is_older():
    group = rounds()
    group.decide(board_of())
    group.handed(0, "r-1")
    decision = group.decide(board_of())
    assert decision.due == [(2, "r-1"), (4, "r-1")]
    assert decision.in_flight == 1
    group.taken_back(0)
    assert group.decide(board_of()).due[0] == (0, "r-1")


def test_whoever_starts_again_invokes_what_only_the_mark_tells_of_under_the_same_name():
    board = board_of("0000.r-1.invoked", "0002.r-1.invoked", "0002.r-1.started", "0004.json")
    decision = rounds().decide(board)
    assert (decision.again, decision.due, decision.in_flight) == ([(0, "r-1")], [], 2)
    assert rounds(recall=True).decide(board).again == [(0, "r-1"), (2, "r-1")]


def test_another_runs_attempts_are_waited_for_and_get_no_rivals():
    """What only its mark tells of is invoked again, by its own name, for nobody may have come to do so."""
    board = board_of("0000.older-1.invoked", "0002.older-3.started", "0004.json")
    group = rounds()
    decision = group.decide(board)
    assert (decision.again, decision.due, decision.in_flight) == ([(0, "older-1")], [], 2)
    group.handed(0, "older-1")
    assert group.decide(board).again == []


def test_what_has_not_begun_is_invoked_again_by_the_same_name_ever_more_rarely():
    group = Rounds(PLAN, 0, "r", attempts=1, again_seconds=60)
    group.handed(0, "r-1", 1000.0)
    board = board_of("0000.r-1.invoked", "0002.json", "0004.json")
    when = []
    for now in range(1000, 1500):
        if group.decide(board, now).again == [(0, "r-1")]:
            when.append(now)
            group.handed(0, "r-1", now)
    assert when == [1060, 1180, 1420]
    begun = board_of("0000.r-1.invoked", "0000.r-1.started", "0002.json", "0004.json")
    assert group.decide(begun, 9999.0).again == []


def test_a_failure_of_another_run_is_tried_again():
    board = board_of("0000.older-1.failed.json", "0002.older-1.doubtful.json", "0004.older-9.started@101")
    assert rounds().decide(board).due == [(0, "r-1"), (2, "r-1"), (4, "r-1")]


def test_an_own_failure_is_read_before_it_counts():
    group = rounds()
    board = board_of("0000.r-1.failed.json", "0000.r-1.invoked", "0002.json", "0004.json")
    assert group.decide(board).unknown == [(0, "r-1")]
    group.learned(0, "r-1", passes=True)
    assert group.decide(board).due == [(0, "r-2")]
    group.learned(0, "r-1", passes=False)
    decision = group.decide(board)
    assert decision.finished
    assert decision.given_up == [0]


def test_a_doubtful_chunk_has_reported():
    board = board_of("0000.r-1.doubtful.json", "0002.json", "0004.json")
    decision = rounds().decide(board)
    assert decision.finished
    assert decision.given_up == []


def test_lost_chunks_have_as_many_attempts_as_they_may():
    marks = ["0002.json", "0004.json", "0000.r-1.started@300", "0000.older-1.failed.json@500"]
    assert rounds(attempts=2).decide(board_of(*marks)).due == [(0, "r-2")]
    marks += ["0000.r-1.invoked@300", "0000.r-2.invoked@200", "0000.r-2.started@150"]
    decision = rounds(attempts=2).decide(board_of(*marks))
    assert decision.given_up == [0]
    assert decision.finished


KINDS = st.sampled_from(["invoked", "started", "failed.json", "doubtful.json"])
MARKS = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(["r-1", "r-2", "r-3", "old-1"]), KINDS, st.integers(0, 2000)
    ),
    max_size=20,
)


@given(MARKS, st.sets(st.integers(0, 5)), st.integers(1, 3))
def test_every_chunk_is_in_exactly_one_place_and_no_attempt_has_the_name_of_another(marks, done, most):
    names = [f"{chunk:04d}.{attempt}.{kind}@{age}" for chunk, attempt, kind, age in marks]
    board = board_of(*names, *(f"{chunk:04d}.json" for chunk in done))
    group = rounds(attempts=most)
    decision = group.decide(board)
    for chunk, attempt in decision.unknown:
        group.learned(chunk, attempt, passes=bool(chunk % 2))
    decision = group.decide(board)
    due, given_up = [chunk for chunk, _ in decision.due], decision.given_up
    reported = [chunk for chunk in (0, 2, 4) if board.state(chunk) in ("done", "doubtful")]
    assert not decision.unknown
    assert len(due) + len(given_up) + decision.in_flight <= 3
    assert not set(due) & set(given_up)
    assert len(due) + len(given_up) + decision.in_flight >= 3 - len(reported)
    for chunk, attempt in decision.due:
        assert attempt not in board.attempts(chunk)
        assert len([name for name in board.attempts(chunk) if name.startswith("r-")]) < most
    assert {chunk for chunk, _ in decision.again} <= {0, 2, 4}
