"""How many chunks of a dispatch may be in flight at once; may be changed while it runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from chunkwise.core.dispatch.model import Limit
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError, ObjectExists

#: a group that nobody has seen to move for so long leaves its share to the others
QUIET_SECONDS: Final = 30.0


def set_limit(staging: Staging, chunks_in_flight: int) -> None:
    """Change the limit of a dispatch. Whoever waits for it sees it at its next poll; what runs is left alone.

    :raises ConfigError: it is below 1.
    :raises DispatchNotFound: there is no dispatch.
    """
    if chunks_in_flight < 1:
        raise ConfigError(f"chunks_in_flight is {chunks_in_flight}: it must be 1 or more")
    staging.load()
    limit = Limit(chunks_in_flight=chunks_in_flight)
    while True:
        found = staging.get(staging.limit_key, Limit)
        if found is not None:
            staging.put_if_match(staging.limit_key, limit, found[1])
            return
        try:
            staging.put_new(staging.limit_key, limit)
        except ObjectExists:
            continue
        return


def share(needs: Mapping[int, int], limit: int, group: int) -> int:
    """What one group may have in flight, so that all groups together never have more than the limit.

    Every group finds the same shares from the same listing, so that nobody has to coordinate them: each gets
    as much as it needs, up to an equal part of what those with smaller needs leave.

    :param needs: chunks of each group that are in flight or should be.
    :param limit: chunks of the dispatch.
    :param group: whose share is asked for.
    """
    left, others = limit, len(needs)
    for found, need in sorted(needs.items(), key=lambda item: (item[1], item[0])):
        part = min(need, left // others)
        if found == group:
            return part
        left -= part
        others -= 1
    return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a listing shows of one group.

    :param need: chunks that have not reported.
    :param in_flight: chunks that are invoked or running.
    :param seen: when its latest record was written, in seconds on the store's clock; ``None``: it has none.
    """

    need: int
    in_flight: int
    seen: float | None


def at_work(demands: Mapping[int, Demand], now: float, quiet_seconds: float) -> set[int]:
    """The groups that somebody drives, as far as a listing shows it: what nobody drives must hold no share.

    :param now: on the clock of :attr:`Demand.seen`.
    """
    return {
        group
        for group, found in demands.items()
        if found.in_flight or (found.seen is not None and now - found.seen < quiet_seconds)
    }


def places(
    demands: Mapping[int, Demand],
    counted: Collection[int],
    limit: int,
    group: int,
    *,
    need: int,
    in_flight: int,
) -> int:
    """How many chunks more a group may hand over.

    It keeps to its share among the groups that are at work, and to what these leave at the moment: a group
    that held more before this one came gives it back as its chunks end.

    :param counted: groups that are at work.
    :param group: that asks; it counts in any case.
    :param need: chunks of it that are in flight or should be.
    :param in_flight: those that are.
    """
    needs = {number: found.need for number, found in demands.items() if found.need and number in counted}
    needs[group] = max(need, needs.get(group, 0))
    held = in_flight + sum(found.in_flight for number, found in demands.items() if number != group)
    return max(0, min(share(needs, limit, group) - in_flight, limit - held))
