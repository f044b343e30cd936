"""Where a source is cut: near each wanted position, or by a pass over all of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from chunkwise.core.dispatch.spec import MAX_CHUNKS
from chunkwise.core.formats.model import Boundary, ByteSource, Format, Layout

READS_IN_FLIGHT: Final = 8


def wanted(format_: Format, layout: Layout, chunk_bytes: int) -> tuple[list[int], int]:
    """Positions near which cuts are wanted, and the chunk size, which grows where there were too many."""
    positions = list(format_.wanted(layout, chunk_bytes))
    while len(positions) >= MAX_CHUNKS:
        chunk_bytes = max(chunk_bytes + 1, -(-chunk_bytes * (len(positions) + 1) // MAX_CHUNKS))
        positions = list(format_.wanted(layout, chunk_bytes))
    return positions, chunk_bytes


def assume(
    format_: Format,
    source: ByteSource,
    layout: Layout,
    positions: Sequence[int],
    *,
    reads_in_flight: int = READS_IN_FLIGHT,
) -> tuple[Boundary, ...]:
    """Look near each position; several looks in flight."""
    with ThreadPoolExecutor(reads_in_flight, thread_name_prefix="chunkwise-plan") as pool:
        cuts = list(pool.map(lambda near: format_.cut(source, layout, near), positions))
    return _tile(layout, cuts)


def prove(
    format_: Format, source: ByteSource, layout: Layout, positions: Sequence[int]
) -> tuple[Boundary, ...]:
    """Go over the whole source."""
    return _tile(layout, list(format_.exact(source, layout, positions)))


def mend(
    format_: Format, source: ByteSource, layout: Layout, boundaries: Sequence[Boundary]
) -> tuple[Boundary, ...]:
    """The proved boundaries at or after assumed ones: as many as before, so that chunks keep their numbers.
    Where two fall together, the chunk between them is empty.
    """
    inner = [boundary.position for boundary in boundaries[1:-1]]
    proved = list(format_.exact(source, layout, inner)) if inner else []
    return (boundaries[0], *proved, boundaries[-1])


def _tile(layout: Layout, cuts: Sequence[Boundary]) -> tuple[Boundary, ...]:
    """Ordered, without the ones that fall together: a record longer than a chunk takes several cuts."""
    inner: list[Boundary] = []
    for cut in cuts:
        if 0 < cut.position < layout.extent and (not inner or cut.position > inner[-1].position):
            inner.append(cut)
    return (Boundary(position=0), *inner, Boundary(position=layout.extent))
