"""How many chunks of a dispatch may be in flight at once; may be changed while it runs."""

from __future__ import annotations

from collections.abc import Mapping

from chunkwise.core.dispatch.model import Limit
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError, ObjectExists


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
