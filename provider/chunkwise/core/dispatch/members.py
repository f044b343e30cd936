"""Where a gzip file of Chunkwise's own making can be cut.

Its members end where the parts of its upload end (a checkpoint of the ingest, a part of a merge), and S3
still knows these: HeadObject tells the size of each part. A part that begins with the header of a member is
assumed to be a cut; the processors prove it, since a chunk must end with its member and at the end of a line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any, Final

from chunkwise.core.formats.model import Boundary
from chunkwise.core.storage.source import ObjectRef, S3Source

#: RFC 1952, section 2.3: magic, deflate, no flags, no time: what Chunkwise writes
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
_IN_FLIGHT: Final = 16
#: lines can be told from one another without what came before; brackets and commas cannot
FORMATS: Final = frozenset({"csv", "jsonl"})


def member_cuts(client: Any, source: S3Source, ref: ObjectRef, chunk_bytes: int) -> tuple[Boundary, ...]:
    """Boundaries of a gzip source, in compressed bytes; only its ends where it cannot be cut.

    One request per part of its upload, and one for each cut.
    """
    whole = (Boundary(position=0), Boundary(position=ref.size))
    if ref.size <= chunk_bytes:
        return whole
    arguments: dict[str, Any] = {"Bucket": ref.bucket, "Key": ref.key}
    if ref.version_id is not None:
        arguments["VersionId"] = ref.version_id

    def head(number: int) -> dict[str, Any]:
        answer: dict[str, Any] = client.head_object(**arguments, PartNumber=number)
        return answer

    first = head(1)
    count = first.get("PartsCount") or 1
    if count == 1:
        return whole
    with ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="chunkwise-members") as pool:
        sizes = [
            first["ContentLength"],
            *(part["ContentLength"] for part in pool.map(head, range(2, count + 1))),
        ]
    ends = list(accumulate(sizes))
    if ends[-1] != ref.size:
        return whole  # another object stands there by now: reading it will say so
    cuts: list[int] = []
    for near in _wanted(ref.size, chunk_bytes):
        for position in ends[bisect_left(ends, near) : -1]:
            if source.read(position, position + len(_HEADER)) == _HEADER:
                cuts.append(position)
                break
    inner = [Boundary(position=position) for position in sorted(set(cuts))]
    return (whole[0], *inner, whole[1])


def _wanted(size: int, chunk_bytes: int) -> Sequence[int]:
    return range(chunk_bytes, size, chunk_bytes)
