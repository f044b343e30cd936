"""A cursor run: each chunk is made when the one before it is done and says how to go on."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec

from chunkwise.core.dispatch.model import Plan
from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.dispatch.plan import write_manifests
from chunkwise.core.dispatch.spec import MAX_CHUNKS
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import DispatchNotFound, LimitExceeded, ObjectChanged
from chunkwise.core.formats.model import Boundary

log = logging.getLogger(__name__)


def grows(plan: Plan) -> bool:
    """Whether the plan gets more chunks while it is processed."""
    return isinstance(plan.source, ApiSource) and plan.source.cut == "legs"


def follow(staging: Staging) -> Plan:
    """Give a cursor run its next chunk if its last one is done and the API goes on; the plan as it is then.

    Anybody may call it at any time, several at once: the plan grows by a conditional write, so that each
    chunk is made once. The cursor itself stays in the done record.

    :raises DispatchNotFound: there is no plan.
    :raises LimitExceeded: the run has as many chunks as a dispatch can have.
    """
    while True:
        found = staging.get(staging.plan_key, Plan)
        if found is None:
            raise DispatchNotFound(
                f"there is no plan in {staging.uri}: the dispatch is finished and cleaned up"
            )
        plan, etag = found
        if not grows(plan):
            return plan
        last = plan.chunks - 1
        done = staging.done_of(last)
        if done is None or done[0].dispatch != plan.dispatch:
            # whoever made it may have been killed before its manifest
            write_manifests(staging, plan, [last])
            return plan
        if done[0].pages is None or done[0].pages.next is None:
            return plan
        if plan.chunks >= MAX_CHUNKS:
            raise LimitExceeded(
                f"the cursor run in {staging.uri} has {MAX_CHUNKS} chunks, and its API goes on: give each one"
                " more pages or time (pages_per_chunk, chunk_seconds)"
            )
        grown = msgspec.structs.replace(
            plan, boundaries=(*plan.boundaries, Boundary(position=plan.chunks + 1))
        )
        try:
            staging.put_if_match(staging.plan_key, grown, etag)
        except ObjectChanged:
            continue  # somebody else was first
        write_manifests(staging, grown, [last + 1])
        log.info("chunk %d goes on where chunk %d ended", last + 1, last)
        return grown


def goes_on(staging: Staging) -> bool:
    """Whether the dispatch is a cursor run with a chunk that is not done, which is made if need be."""
    plan = follow(staging)
    return grows(plan) and staging.done_of(plan.chunks - 1) is None


def along(staging: Staging) -> Iterator[int]:
    """The chunks of a cursor run that are left, one after the other, while each is done when it is asked for
    the next.
    """
    before = -1
    while True:
        last = follow(staging).chunks - 1
        if last == before or staging.done_of(last) is not None:
            return  # it was not done, or the API has ended
        yield last
        before = last
