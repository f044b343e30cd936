"""Marks of a cancel, and how they are taken back."""

from __future__ import annotations

import pytest

from chunkwise.core.dispatch.cancel import cancel, go_on, signals
from chunkwise.core.dispatch.staging import Staging
from tests.support.dispatch import planned, source
from tests.support.s3 import S3


def marked(staging: Staging) -> list[tuple[int | None, str | None]]:
    """What a poll's listing shows."""
    return sorted(
        ((signal.group, signal.run) for signal in signals(staging.list(staging.state_prefix))), key=repr
    )


def test_the_states_show_every_mark_and_the_directory_owns_it(s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    cancel(staging, by="x")
    cancel(staging, by="x", group=2)
    cancel(staging, by="x", group=2, run="abc")
    cancel(staging, by="y", group=2, run="abc")
    assert marked(staging) == sorted([(None, None), (2, None), (2, "abc")], key=repr)
    assert all(staging.owns(item.key) for item in staging.list(staging.prefix))


@pytest.mark.parametrize("group", [None, 2])
def test_going_on_takes_every_mark_back_that_would_stop_it(s3: S3, group: int | None) -> None:
    source(s3)
    staging = planned(s3)
    cancel(staging, by="x")
    cancel(staging, by="x", group=2)
    cancel(staging, by="x", group=2, run="abc")
    cancel(staging, by="x", group=3, run="abc")
    go_on(staging, group=group)
    assert not staging.cancelled(2)
    assert marked(staging) == ([] if group is None else [(3, "abc")])
    assert staging.cancelled(3) is (group is not None)
