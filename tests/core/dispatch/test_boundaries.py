"""A plan is flat in the size of its source."""

import pytest

from benchmarks.dispatch.figures import source_of
from chunkwise.core.dispatch import boundaries
from chunkwise.core.dispatch.spec import DEFAULT_CHUNK, MAX_CHUNKS
from chunkwise.core.formats.model import Boundary
from chunkwise.core.formats.registry import format_named
from chunkwise.core.units import KiB, MiB


@pytest.mark.parametrize("kind", ["jsonl", "csv", "json"])
def test_a_terabyte_is_planned_by_three_small_reads_a_chunk(kind):
    """A simulated source: what is read of it is all that there ever is in memory."""
    source = source_of(kind, 10**12)
    format_ = format_named(kind)
    layout = format_.inspect(source, {})
    positions, _ = boundaries.wanted(format_, layout, DEFAULT_CHUNK)
    tiles = boundaries.assume(format_, source, layout, positions)
    chunks = len(tiles) - 1
    assert chunks == -(-source.size // DEFAULT_CHUNK)
    assert source.reads <= 3 * chunks
    assert source.bytes_read <= 256 * KiB * chunks
    assert tiles[-1] == Boundary(position=source.size)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "json"])
def test_exact_boundaries_are_the_assumed_ones_where_nothing_is_hostile(kind):
    source = source_of(kind, 40 * MiB)
    format_ = format_named(kind)
    layout = format_.inspect(source, {})
    positions, _ = boundaries.wanted(format_, layout, 1 * MiB)
    assert boundaries.prove(format_, source, layout, positions) == boundaries.assume(
        format_, source, layout, positions
    )


def test_there_are_never_more_chunks_than_one_upload_can_hold():
    source = source_of("jsonl", 10**12)
    format_ = format_named("jsonl")
    layout = format_.inspect(source, {})
    positions, chunk_bytes = boundaries.wanted(format_, layout, 1 * MiB)
    assert len(positions) + 1 <= MAX_CHUNKS
    assert len(positions) + 1 > MAX_CHUNKS // 2
    assert chunk_bytes > 1 * MiB
