"""How much of its source each chunk has to read."""

from __future__ import annotations

from itertools import pairwise

from chunkwise.core.dispatch.model import Plan
from chunkwise.core.formats.registry import format_named


def weights(plan: Plan) -> list[int]:
    """Bytes of the source, one number per chunk."""
    ends = [boundary.position for boundary in plan.boundaries]
    spans = list(pairwise(ends))
    if plan.compression != "none":
        return [end - start for start, end in spans]
    format_ = format_named(plan.format)
    return [format_.weight(plan.layout, start, end) for start, end in spans]
