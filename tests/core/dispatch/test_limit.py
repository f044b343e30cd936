"""Shares of a limit that nobody has to coordinate."""

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from chunkwise.core.dispatch.limit import Demand, at_work, places, share

NEEDS = st.dictionaries(st.integers(0, 63), st.integers(1, 300), min_size=1, max_size=64)


@given(NEEDS, st.integers(1, 2000))
def test_all_shares_together_are_the_limit_or_all_that_is_needed(needs, limit):
    shares = {group: share(needs, limit, group) for group in needs}
    assert sum(shares.values()) == min(limit, sum(needs.values()))
    assert all(shares[group] <= needs[group] for group in needs)


@given(NEEDS, st.integers(1, 2000))
def test_nobody_gets_more_than_one_above_somebody_who_needs_more(needs, limit):
    shares = {group: share(needs, limit, group) for group in needs}
    wanting = [shares[group] for group in needs if shares[group] < needs[group]]
    if wanting:
        assert max(shares.values()) <= min(wanting) + 1


def test_a_group_without_needs_gets_nothing():
    assert share({1: 5}, 10, 0) == 0


QUIET, POLL = 30, 5


@dataclass
class Group:
    """A group of a dispatch that never ran before, and its driver in a process of its own.

    :param begins: when somebody drives it; ``None``: nobody ever does.
    """

    left: int
    begins: int | None
    phase: int
    slow: int
    ends: list[int]
    seen: float | None = None


def simulate(groups: dict[int, Group], limit: int, until: int) -> int:
    """Drive the groups, second by second; the most that was in flight."""
    most = 0
    for now in range(until):
        for group in groups.values():
            if any(end <= now for end in group.ends):
                group.seen = now
            group.ends = [end for end in group.ends if end > now]
        for number, group in groups.items():
            if group.begins is None or now < group.begins or (now - group.phase) % POLL:
                continue
            demands = {
                n: Demand(need=g.left + len(g.ends), in_flight=len(g.ends), seen=g.seen)
                for n, g in groups.items()
            }
            counted = set(demands) if now - group.begins < QUIET else at_work(demands, now, QUIET)
            held = len(group.ends)
            free = places(demands, counted, limit, number, need=group.left + held, in_flight=held)
            handed = min(free, group.left)
            group.left -= handed
            group.ends += [now + group.slow] * handed
            if handed or (group.left and number not in at_work(demands, now, QUIET / 2)):
                group.seen = now
        most = max(most, sum(len(group.ends) for group in groups.values()))
    return most


GROUPS = st.lists(
    st.tuples(st.integers(1, 12), st.none() | st.integers(0, 200), st.integers(1, 300)),
    min_size=1,
    max_size=9,
)


@settings(max_examples=60)
@given(GROUPS, st.integers(1, 12), st.randoms(use_true_random=False))
def test_no_group_waits_for_ever_and_the_limit_holds_whoever_is_not_driven(drawn, limit, random: Random):
    groups = {
        number: Group(left, begins, random.randrange(POLL), slow, [])
        for number, (left, begins, slow) in enumerate(drawn)
    }
    # one chunk after the other, with two polls and the doubt whether the others are driven between them
    until = 200 + sum((slow + 2 * POLL + QUIET) * left for left, _, slow in drawn) + 2 * QUIET
    assert simulate(groups, limit, until) <= limit
    assert all(group.left == 0 for group in groups.values() if group.begins is not None)


def test_a_small_limit_goes_round_among_groups_in_processes_of_their_own():
    groups = {number: Group(3, 0, number, 100, []) for number in range(3)}
    simulate(groups, 1, 4 * 115)
    assert all(group.left < 3 for group in groups.values())
