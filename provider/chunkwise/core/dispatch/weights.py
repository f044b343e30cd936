"""How much of its source each chunk has to read."""

from __future__ import annotations

from itertools import pairwise

from chunkwise.core.dispatch.model import Plan
from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.formats.registry import format_named


def weights(plan: Plan) -> list[int]:
    """Bytes of the source, one number per chunk; of an API about so many, by its first page."""
    ends = [boundary.position for boundary in plan.boundaries]
    spans = list(pairwise(ends))
    if isinstance(plan.source, ApiSource):
        share = plan.layout.details["position_bytes"]
        return [int((end - start) * share) for start, end in spans]
    if plan.compression != "none":
        return [end - start for start, end in spans]
    format_ = format_named(plan.format)
    return [format_.weight(plan.layout, start, end) for start, end in spans]
