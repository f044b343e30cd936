"""What a dispatch will cost, before anything is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from chunkwise.core.dispatch.model import Plan
from chunkwise.core.dispatch.weights import weights
from chunkwise.core.storage.source import ObjectRef
from chunkwise.core.units import KiB, MiB

# List prices of us-east-1, in dollars: aws.amazon.com/lambda/pricing (x86), aws.amazon.com/s3/pricing
_GB_SECOND: Final = 0.0000166667
_INVOCATION: Final = 0.20 / 1_000_000
_WRITE: Final = 0.005 / 1_000  # PUT, COPY, POST, LIST
_READ: Final = 0.0004 / 1_000  # GET and all others
#: AWS Lambda quotas: a function runs for 900 seconds at most
_LAMBDA_SECONDS: Final = 900
_BLOCK: Final = 8 * MiB
_PART: Final = 8 * MiB


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """Figures of a plan. Requests and prices are of AWS's list in us-east-1; transforms may need more time.

    :param chunks: number.
    :param source_bytes: of the source.
    :param largest_chunk: bytes.
    :param read_requests: GET and HEAD.
    :param write_requests: PUT, COPY and LIST.
    :param invocations: of processors.
    :param seconds_per_chunk: of the largest one.
    :param gb_seconds: of all processors.
    :param lambda_dollars: for these.
    :param s3_dollars: for the requests.
    :param dollars: together.
    :param warnings: limits that the plan comes near.
    """

    chunks: int
    source_bytes: int
    largest_chunk: int
    read_requests: int
    write_requests: int
    invocations: int
    seconds_per_chunk: float
    gb_seconds: float
    lambda_dollars: float
    s3_dollars: float
    dollars: float
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def estimate(plan: Plan, *, memory_mb: int = 2048, mb_per_second: float = 50.0) -> Estimate:
    """Estimate the cost of a plan.

    :param memory_mb: of a processor.
    :param mb_per_second: that a processor gets through, in 10**6 bytes.
    """
    sizes = weights(plan)
    seconds = [weight / (mb_per_second * 1e6) for weight in sizes]
    gb_seconds = sum(seconds) * memory_mb / KiB
    # a processor: manifest, done record, mark of a cancel, its blocks; the merge: done records
    reads = sum(4 + -(-weight // _BLOCK) for weight in sizes) + 2 * plan.chunks
    # manifest, mark, part (and its upload's), done record; deletes are free; the merge: a copy a chunk, lists
    writes = sum(4 + (-(-weight // _PART) + 2 if weight > _PART else 1) for weight in sizes) + 3 * -(
        -plan.chunks // 1000
    )
    lambda_dollars = gb_seconds * _GB_SECOND + plan.chunks * _INVOCATION
    s3_dollars = reads * _READ + writes * _WRITE
    slowest = max(seconds, default=0.0)
    warnings = list(plan.warnings)
    if slowest > 0.8 * _LAMBDA_SECONDS:
        warnings.append(
            f"the largest chunk needs about {slowest:,.0f} s, and a Lambda ends after {_LAMBDA_SECONDS} s:"
            " choose smaller chunks"
        )
    return Estimate(
        chunks=plan.chunks,
        source_bytes=plan.source.size if isinstance(plan.source, ObjectRef) else sum(sizes),
        largest_chunk=max(sizes, default=0),
        read_requests=reads,
        write_requests=writes,
        invocations=plan.chunks,
        seconds_per_chunk=round(slowest, 3),
        gb_seconds=round(gb_seconds, 3),
        lambda_dollars=round(lambda_dollars, 6),
        s3_dollars=round(s3_dollars, 6),
        dollars=round(lambda_dollars + s3_dollars, 6),
        warnings=tuple(warnings),
    )
