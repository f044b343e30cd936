"""Shares of a limit that nobody has to coordinate."""

from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.dispatch.limit import share

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
