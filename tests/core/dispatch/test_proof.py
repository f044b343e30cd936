"""Whatever one record gets wrong, the chain says so."""

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.dispatch import proof
from chunkwise.core.dispatch.model import Done, Failed, Output, Plan
from chunkwise.core.dispatch.spec import Config, Target
from chunkwise.core.errors import ChunkFailed, ChunksMissing, ProofFailed
from chunkwise.core.formats.model import Boundary, Layout
from chunkwise.core.storage.source import ObjectRef

PART = ObjectRef(bucket="b", key="part", etag='"1"', size=1)


def plan_of(positions: list[int], **changes) -> Plan:
    return Plan(
        dispatch="d",
        source=ObjectRef(bucket="b", key="k", etag='"e"', size=positions[-1]),
        compression="none",
        format="jsonl",
        layout=Layout(extent=positions[-1]),
        output=Output(format="jsonl", native=True, target={}, compression="none"),
        config=Config(target=Target(bucket="b", key="out")),
        fingerprint={},
        boundaries=tuple(Boundary(position=position) for position in positions),
        chunk_bytes=1,
        groups=1,
        created_at="2026-01-01T00:00:00+00:00",
        **changes,
    )


def done_of(plan: Plan, chunk: int, **changes) -> Done:
    span = plan.span(chunk)
    record = Done(
        dispatch="d",
        chunk=chunk,
        attempt="a",
        start=span.start,
        end=span.end,
        rows_in=1,
        rows_out=1,
        bytes_in=1,
        bytes_out=1,
        part=PART,
        started_at="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        peak_rss=1,
    )
    return msgspec.structs.replace(record, **changes)


def failed_of(chunk: int, **changes) -> Failed:
    record = Failed(
        dispatch="d",
        chunk=chunk,
        attempt="a",
        error="RowInvalid",
        message="row 3 has 2 fields",
        transient=False,
        failed_at="2026-01-01T00:00:00+00:00",
    )
    return msgspec.structs.replace(record, **changes)


positions = st.lists(st.integers(1, 1000), min_size=1, max_size=12, unique=True).map(
    lambda xs: [0, *sorted(xs)]
)


@given(positions=positions, data=st.data())
def test_a_chain_closes_only_when_every_link_does(positions, data):
    """One end that is not the next start, in one unit or in its state, breaks it at that very chunk."""
    plan = plan_of(positions)
    done = {chunk: done_of(plan, chunk) for chunk in range(plan.chunks)}
    assert proof.chain(plan, done) == proof.Chain(plan.chunks, None)
    victim = data.draw(st.integers(0, plan.chunks - 1))
    end = done[victim].end
    wrong = data.draw(
        st.sampled_from(
            [
                Boundary(position=end.position + 1),
                Boundary(position=end.position - 1),
                Boundary(position=end.position, state="quoted"),
            ]
        )
    )
    field = data.draw(st.sampled_from(["start", "end"]))
    if field == "start":
        wrong = Boundary(position=done[victim].start.position + 1)
    done[victim] = msgspec.structs.replace(done[victim], **{field: wrong})
    assert proof.chain(plan, done) == proof.Chain(victim + 1, victim)


@given(positions=positions, missing=st.sets(st.integers(0, 11)))
def test_a_missing_chunk_is_named(positions, missing):
    plan = plan_of(positions)
    missing &= set(range(plan.chunks))
    done = {chunk: done_of(plan, chunk) for chunk in range(plan.chunks) if chunk not in missing}
    if not missing:
        proof.check_complete(plan, done)
        return
    with pytest.raises(ChunksMissing, match=f"{len(missing)} of {plan.chunks} .* {min(missing)}"):
        proof.check_complete(plan, done)


def test_a_record_of_another_dispatch_or_revision_does_not_count():
    plan = plan_of([0, 5, 9, 12], revision=1, revisions={1: 1})
    done = {
        0: done_of(plan, 0, dispatch="other"),
        1: done_of(plan, 1),
        2: done_of(plan, 2),
    }
    assert set(proof.valid(plan, done)) == {2}


def test_a_failure_counts_where_the_cut_is_proved():
    plan = plan_of([0, 5, 9])
    with pytest.raises(ChunkFailed, match="chunk 1: row 3 has 2 fields"):
        proof.check_failures(plan, {0: done_of(plan, 0)}, {1: failed_of(1)})


def test_a_failure_behind_a_broken_link_is_left_to_the_exact_plan():
    plan = plan_of([0, 5, 9])
    broken = {0: done_of(plan, 0, end=Boundary(position=5, state="quoted"))}
    proof.check_failures(plan, broken, {1: failed_of(1)})
    exact = msgspec.structs.replace(plan, exact=True)
    with pytest.raises(ChunkFailed):
        proof.check_failures(exact, broken, {1: failed_of(1)})


def test_a_failure_that_another_attempt_has_mended_does_not_count():
    plan = plan_of([0, 5])
    proof.check_failures(plan, {0: done_of(plan, 0)}, {0: failed_of(0)})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rows_in": 3}, "read 3 rows, wrote 1 and rejected 0: 2 are missing"),
        ({"part": None}, "names no part"),
        ({"bytes_out": 0}, "wrote 0 bytes"),
    ],
)
def test_sums_that_do_not_add_up_are_errors(changes, text):
    plan = plan_of([0, 5, 9])
    done = {0: done_of(plan, 0), 1: done_of(plan, 1, **changes)}
    with pytest.raises(ProofFailed, match=f"chunk 1 .*{text}"):
        proof.check_sums(plan, done)


@given(data=st.binary(min_size=1, max_size=200), cuts=st.sets(st.integers(1, 199)))
def test_the_checksums_of_the_chunks_are_that_of_the_source(data, cuts):
    positions = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    plan = plan_of(positions)
    done = {
        chunk: done_of(plan, chunk, input_crc32=zlib.crc32(data[positions[chunk] : positions[chunk + 1]]))
        for chunk in range(plan.chunks)
    }
    assert proof.source_crc32(plan, done) == zlib.crc32(data)
    done[0] = msgspec.structs.replace(done[0], input_crc32=None)
    assert proof.source_crc32(plan, done) is None
