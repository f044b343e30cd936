"""What the done records prove: pure functions, no request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chunkwise.core.dispatch.model import Done, Failed, Plan
from chunkwise.core.errors import ChunkFailed, ChunksMissing, ProofFailed
from chunkwise.core.formats.model import RECORD
from chunkwise.core.storage.combine import combine_crc32

_NAMED = 20


@dataclass(frozen=True, slots=True)
class Chain:
    """How far the chunks follow from one another.

    A chunk's start is proved when every chunk before it ended where the next one began, at a record boundary.
    By induction from byte 0 all of them are right, if the last one ended at the end of the source.

    :param proved: chunks from the first on whose start is proved.
    :param broken: the first chunk that ended elsewhere than the next one began; ``None``: there is none among
        the proved ones.
    """

    proved: int
    broken: int | None


def chain(plan: Plan, done: Mapping[int, Done]) -> Chain:
    """Follow the chunks from the first one on, as far as they are done."""
    for number in range(plan.chunks):
        record = done.get(number)
        if record is None:
            return Chain(number + 1, None)
        span = plan.span(number)
        if record.start != span.start or record.end != span.end or record.end.state != RECORD:
            return Chain(number + 1, number)
    return Chain(plan.chunks, None)


def valid(plan: Plan, done: Mapping[int, Done]) -> dict[int, Done]:
    """The records of this dispatch and of the revision that the plan has of their chunk."""
    return {
        chunk: record
        for chunk, record in done.items()
        if record.dispatch == plan.dispatch and record.revision == plan.revision_of(chunk)
    }


def check_failures(plan: Plan, done: Mapping[int, Done], failed: Mapping[int, Failed]) -> None:
    """Failures that count: those of chunks whose start is proved, or whose plan is exact.

    :raises ChunkFailed: there is one; names the chunk and why.
    """
    follows = chain(plan, done)
    real = sorted(
        chunk
        for chunk, failure in failed.items()
        if chunk not in done
        and failure.revision == plan.revision_of(chunk)
        and (plan.exact or (chunk < follows.proved and follows.broken is None))
    )
    if real:
        first = failed[real[0]]
        raise ChunkFailed(
            f"{len(real)} chunks failed, the first one: chunk {first.chunk}: {first.message};"
            " nothing was published, what is done is kept. Mend the cause and resume; where the source or the"
            " config must change for that, restart",
            transient=all(failed[chunk].transient for chunk in real),
        )


def check_complete(plan: Plan, done: Mapping[int, Done]) -> None:
    """:raises ChunksMissing: chunks have no done record."""
    missing = [chunk for chunk in range(plan.chunks) if chunk not in done]
    if missing:
        raise ChunksMissing(
            f"{len(missing)} of {plan.chunks} chunks are not done: {_named(missing)}; process them, or resume"
            " the dispatch"
        )


def check_sums(plan: Plan, done: Mapping[int, Done]) -> None:
    """Every row that was read was written or put aside, every chunk with bytes has a part, and all were
    protected with the same keys.

    :raises ProofFailed: not so.
    """
    for number in range(plan.chunks):
        record = done[number]
        if record.rows_in != record.rows_out + record.rejected:
            raise ProofFailed(
                f"chunk {number} read {record.rows_in} rows, wrote {record.rows_out} and rejected"
                f" {record.rejected}: {record.rows_in - record.rows_out - record.rejected} are missing"
            )
        if (record.part is None) != (record.bytes_out == 0):
            raise ProofFailed(
                f"chunk {number} wrote {record.bytes_out} bytes, and its record names no part for them"
            )

    keys = {done[number].secrets for number in range(plan.chunks) if done[number].rows_out}
    if len(keys) > 1:
        first = next(done[number].secrets for number in range(plan.chunks) if done[number].rows_out)
        others = [n for n in range(plan.chunks) if done[n].rows_out and done[n].secrets != first]
        raise ProofFailed(
            f"chunks {_named(others)} were protected with other keys than those before: a key was changed"
            " while the dispatch ran; restart it"
        )


def source_crc32(plan: Plan, done: Mapping[int, Done]) -> int | None:
    """CRC-32 of the whole source from those of the chunks, where chunks are bytes."""
    total = 0
    for number in range(plan.chunks):
        crc = done[number].input_crc32
        if crc is None:
            return None
        span = plan.span(number)
        total = combine_crc32(total, crc, span.end.position - span.start.position)
    return total


def _named(chunks: Sequence[int]) -> str:
    text = ", ".join(map(str, chunks[:_NAMED]))
    return text if len(chunks) <= _NAMED else f"{text} and {len(chunks) - _NAMED} more"
