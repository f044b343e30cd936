"""What the done records of pages prove: pure functions, no request."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise

from chunkwise.core.dispatch.model import Done, Plan
from chunkwise.core.dispatch.pages.model import END, ApiSource, PagesRead
from chunkwise.core.errors import (
    ChunksMissing,
    LimitExceeded,
    PageRepeated,
    PageSizeCapped,
    PagingError,
    ProofFailed,
    TotalChanged,
    TotalMismatch,
)
from chunkwise.core.paging.guards import Policy

log = logging.getLogger(__name__)


def astray(plan: Plan, source: ApiSource, done: Mapping[int, Done]) -> list[int]:
    """Legs that do not go on where the one before them ended: it was done again, and ended elsewhere."""
    if source.cut != "legs":
        return []
    for number in range(1, plan.chunks):
        before, record = done.get(number - 1), done.get(number)
        if before is None or (record is not None and record.start.state != before.end.state):
            return [chunk for chunk in range(number, plan.chunks) if chunk in done]
    return []


def check(plan: Plan, source: ApiSource, done: Mapping[int, Done]) -> list[str]:
    """The chunks are the API's pages from the first one to its own end, without gap or overlap.

    :return: warnings, where a guard is told to warn.
    :raises ProofFailed: a chunk began or ended elsewhere than the plan says.
    :raises ChunksMissing: the API goes on after the last chunk.
    :raises PagingError: one of its kinds: the API gave something else to one chunk than to another.
    """
    records = [done[number] for number in range(plan.chunks)]
    read = [_pages(record) for record in records]
    judge = _Judge()
    if source.cut == "legs":
        _check_legs(plan, records, read)
    else:
        _check_ranges(plan, source, records, read)
        _check_totals(source, records, read, judge)
        _check_pages(source, records, read, judge)
    rows, caps = sum(record.rows_in for record in records), source.caps
    if caps.records is not None and rows > caps.records:
        raise LimitExceeded(f"the API has {rows} records, more than max_records = {caps.records}")
    size = sum(record.bytes_in for record in records)
    if caps.bytes is not None and size > caps.bytes:
        raise LimitExceeded(f"the API's records have {size} bytes, more than max_bytes = {caps.bytes}")
    # a leg hands the warnings of those before it on
    of_chunks = read[-1:] if source.cut == "legs" else read
    found = [warning for pages in of_chunks for warning in pages.warnings]
    return list(dict.fromkeys([*found, *judge.warnings]))


def total_of(done: Mapping[int, Done]) -> int | None:
    """Records that the API declared, as far as it did."""
    found = [record.pages.total for record in done.values() if record.pages is not None]
    return next((total for total in reversed(found) if total is not None), None)


class _Judge:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def __call__(self, policy: Policy, error: type[PagingError], message: str) -> None:
        if policy == "fail":
            raise error(f"{message}; nothing was published")
        log.warning("%s", message)
        self.warnings.append(message)


def _pages(record: Done) -> PagesRead:
    if record.pages is None:
        raise ProofFailed(f"the done record of chunk {record.chunk} says nothing of pages")
    return record.pages


def _check_legs(plan: Plan, records: Sequence[Done], read: Sequence[PagesRead]) -> None:
    for before, record in pairwise(records):
        if record.start.state != before.end.state:
            raise ProofFailed(f"chunk {record.chunk} did not begin where chunk {before.chunk} ended")
    if read[-1].stop is None:
        raise ChunksMissing(
            f"the API goes on after the {plan.chunks} chunks that are done: resume the dispatch, which"
            " follows its cursor"
        )


def _check_ranges(plan: Plan, source: ApiSource, records: Sequence[Done], read: Sequence[PagesRead]) -> None:
    ended: int | None = None
    for number, (record, pages) in enumerate(zip(records, read, strict=True)):
        span = plan.span(number)
        if record.start.position != span.start.position:
            raise ProofFailed(
                f"chunk {number} began at position {record.start.position}, and the plan says"
                f" {span.start.position}"
            )
        if ended is not None:
            if record.rows_in:
                raise TotalChanged(
                    f"the API ended for chunk {ended} at position {records[ended].end.position}, and chunk"
                    f" {number}, which comes after it, has {record.rows_in} records: the data of {source.uri}"
                    " changed while it was read, so that records may be missing or doubled; nothing was"
                    " published. Restart the dispatch"
                )
        elif pages.stop is not None:
            ended = number
        elif record.end != span.end:
            raise ProofFailed(
                f"chunk {number} ended at position {record.end.position}, and the plan says"
                f" {span.end.position}"
            )
    if ended is None or records[-1].end.state != END:
        raise ProofFailed(f"the last chunk of {source.uri} did not read up to the end of the API")


def _check_totals(
    source: ApiSource, records: Sequence[Done], read: Sequence[PagesRead], judge: _Judge
) -> None:
    totals = [pages.total for pages in read if pages.total is not None]
    if len(set(totals)) > 1:
        judge(
            source.guards.total_changed,
            TotalChanged,
            f"the API declared {totals[0]} records to the first chunk and {max(set(totals) - {totals[0]})} to"
            " another one: its data changed while it was read, so that records may be missing or doubled. Try"
            " again, or accept it with total_changed='warn'",
        )
    rows = sum(record.rows_in for record in records)
    if totals and totals[-1] != rows:
        judge(
            source.guards.total_mismatch,
            TotalMismatch,
            f"the API declares {totals[-1]} records and delivered {rows}",
        )


def _check_pages(
    source: ApiSource, records: Sequence[Done], read: Sequence[PagesRead], judge: _Judge
) -> None:
    seen: dict[str, int] = {}
    short: tuple[int, int] | None = None
    for record, pages in zip(records, read, strict=True):
        if short is not None and record.rows_in:
            judge(
                source.guards.capped_page,
                PageSizeCapped,
                f"page {short[0]} has {short[1]} records, fewer than were asked for, and more pages follow:"
                " the server caps the page size or filters after paging. Ask for no more than it gives, or"
                " accept it with capped_page='warn'",
            )
            short = None
        short = pages.short or short
        for digest, number in pages.digests.items():
            if digest in seen and record.rows_in:
                judge(
                    source.guards.repeated_page,
                    PageRepeated,
                    f"page {number} holds the same records as page {seen[digest]}: the API ignores the"
                    " position or gives a page twice. Accept it with repeated_page='warn' if equal pages are"
                    " right",
                )
            seen[digest] = number
