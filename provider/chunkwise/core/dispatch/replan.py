"""Cut again where the chain does not close: exactly this time, and only as much is done again as must be."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from chunkwise.core.dispatch import boundaries
from chunkwise.core.dispatch.model import Done, Plan
from chunkwise.core.dispatch.opening import open_source
from chunkwise.core.dispatch.plan import write_manifests
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ProofFailed
from chunkwise.core.formats.model import RECORD, Boundary
from chunkwise.core.formats.registry import format_named

log = logging.getLogger(__name__)


def replan(
    client: Any, staging: Staging, plan: Plan, etag: str, done: Mapping[int, tuple[Done, str]], broken: int
) -> tuple[Plan, str, list[int]]:
    """Find the boundaries by a pass over the source, and write the plan and the manifests that change.

    :param etag: of the plan's object.
    :param done: valid done records and their ETags.
    :param broken: the chunk where the chain broke, for the log.
    :return: the plan and its ETag, and the chunks that must be processed again.
    :raises ProofFailed: the plan was exact already: the source breaks the rules of its format.
    :raises ObjectChanged: somebody else changed the plan.
    """
    record = done[broken][0]
    where = (
        f"chunk {broken} of {plan.source.uri} ended at {record.end.position} in state {record.end.state!r}"
    )
    if plan.exact:
        raise ProofFailed(
            f"{where}, and its boundaries are exact: the source breaks the rules of {plan.format}; check its"
            " dialect and its end"
        )
    log.warning("%s: its cut was assumed wrongly; planning again in exact mode", where)
    if plan.compression != "none":
        end = plan.boundaries[-1]
        new: tuple[Boundary, ...] = (plan.boundaries[0], *(end for _ in plan.boundaries[1:]))
    else:
        source, _ = open_source(client, plan.object)
        new = boundaries.mend(format_named(plan.format), source, plan.layout, plan.boundaries)
    revision = plan.revision + 1
    changed = [
        chunk for chunk in range(plan.chunks) if not _agrees(done.get(chunk), new[chunk], new[chunk + 1])
    ]
    changed_plan = msgspec.structs.replace(
        plan,
        boundaries=new,
        exact=True,
        revision=revision,
        revisions={**plan.revisions, **dict.fromkeys(changed, revision)},
    )
    etag = staging.put_if_match(staging.plan_key, changed_plan, etag)
    staging.delete(*(staging.done_key(chunk) for chunk in changed if chunk in done))
    write_manifests(staging, changed_plan, changed)
    log.info("%d of %d chunks are processed again", len(changed), plan.chunks)
    return changed_plan, etag, changed


def _agrees(done: tuple[Done, str] | None, start: Boundary, end: Boundary) -> bool:
    return done is not None and done[0].start == start and done[0].end == end and done[0].end.state == RECORD
