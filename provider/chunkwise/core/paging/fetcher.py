"""Drive a paginator over a transport: every record once, in order, or a typed error."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from chunkwise.core.choices import check_choices
from chunkwise.core.errors import ChunkwiseError, PageChanged, PagingError, RecordsNotFound
from chunkwise.core.paging import exact_json
from chunkwise.core.paging.capabilities import (
    check_paginator,
    declared_total,
    guess,
    page_size,
    refuse_records_reference,
)
from chunkwise.core.paging.guards import Caps, ErrorRule, Guards, RunGuard
from chunkwise.core.paging.model import Page, PageRequest, Paginator, Stop, StopReason
from chunkwise.core.paging.page_json import NonFinite
from chunkwise.core.paging.prefetch import Prefetch
from chunkwise.core.paging.splitter import RecordBatch, RecordSplitter, SplitHints, SplitLimits
from chunkwise.core.paging.transport import Transport
from chunkwise.core.selector import Selector
from chunkwise.core.units import MiB


@dataclass(frozen=True, slots=True)
class FetchState:
    """Where a run stands between two pages: all that a later try needs to go on.

    :param number: of the next page.
    :param request: that asks for it; ``None`` when the run has ended.
    :param guard: what the guards remember.
    """

    number: int
    request: PageRequest | None
    guard: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        # as text: a cursor may be a number that only exact JSON keeps
        request = None if self.request is None else exact_json.encode(self.request.to_json()).decode()
        return {"number": self.number, "request": request, "guard": self.guard}

    @classmethod
    def foretold(cls, number: int, request: PageRequest, *, records: int, total: int | None) -> FetchState:
        """Where a run will stand once it has read everything before a page, for a run that begins there.

        :param number: of the page.
        :param request: that asks for it.
        :param records: in all pages before it.
        :param total: that the API declared meanwhile, if it declares any.
        """
        guard = {"records": records, "size": 0, "total": total}
        return cls(number, request, {**guard, "warnings": [], "requests": [], "pages": []})

    @classmethod
    def from_json(cls, members: dict[str, Any]) -> FetchState:
        """The inverse of :meth:`to_json`."""
        text = members["request"]
        request = None if text is None else PageRequest.from_json(exact_json.decode(text.encode()))
        return cls(members["number"], request, members["guard"])


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """Some records of page ``page``, the first of them with index ``first`` in it."""

    page: int
    first: int
    batch: RecordBatch


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """The end of a page: its batches came before.

    :param number: of the page.
    :param records: in it.
    :param stop: why the run ends here, ``None`` when it goes on.
    :param state: from which a later try goes on after this page.
    """

    number: int
    records: int
    stop: StopReason | None
    state: FetchState


@dataclass(frozen=True, slots=True)
class _Read:
    """What is known of a page once it was read, but for its place in the run."""

    url: str
    status: int
    headers: Any
    envelope: Any
    records: int
    last_record: bytes | None
    digest: bytes
    ended: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchOptions:
    """How pages are read.

    :param caps: bounds of the run.
    :param guards: what counts as a wrong answer.
    :param error_rule: when a successful status is an error all the same.
    :param limits: bounds in bytes of what is held of a page.
    :param non_finite: see :class:`RecordSplitter`.
    :param null_is_empty: see :class:`RecordSplitter`.
    :param requests_in_flight: pages asked for at once, for paginators whose requests can be foretold (offset,
        page number). A guess is used only if it is the request that the page before it leads to.
    :param prefetch_bytes: bound of the records that wait for the consumer, for each page in flight.
    """

    caps: Caps = field(default_factory=Caps)
    guards: Guards = field(default_factory=Guards)
    error_rule: ErrorRule = field(default_factory=ErrorRule)
    limits: SplitLimits = field(default_factory=SplitLimits)
    non_finite: NonFinite = "fail"
    null_is_empty: bool = False
    requests_in_flight: int = 1
    prefetch_bytes: int = 8 * MiB

    def __post_init__(self) -> None:
        check_choices(self, non_finite=NonFinite)


class Fetcher:
    """Fetch every record of a paged API, or fail loudly.

    :param transport: makes the requests and retries them.
    :param paginator: says which ones.
    :param records_path: where a page's records are.
    :param options: bounds and guards.
    :param start: where an earlier try stopped.
    :param until: asked between two pages whether to end there; the state of the page before goes on.
    :raises PagingError: one of its kinds, naming the page.
    """

    def __init__(
        self,
        transport: Transport,
        paginator: Paginator,
        records_path: str | Sequence[str],
        options: FetchOptions | None = None,
        start: FetchState | None = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        check_paginator(paginator)
        self._transport = transport
        self._paginator = paginator
        self._records = Selector.compile(records_path)
        self._options = options or FetchOptions()
        self._start = start
        self._until = until
        self._hints = SplitHints()
        self.guard = RunGuard(self._options.caps, self._options.guards, page_size=page_size(paginator))
        refuse_records_reference(paginator, self._records)

    def ahead(self) -> Prefetch[FetchedBatch | FetchedPage]:
        """What :meth:`fetch` yields, fetched and split in a thread while the consumer works."""
        return Prefetch(self.fetch(), size=_size, max_bytes=self._options.prefetch_bytes)

    def fetch(self) -> Generator[FetchedBatch | FetchedPage, None, None]:
        """Batches of records, and a :class:`FetchedPage` after those of each page."""
        number, request, records = 1, self._paginator.first(), 0
        if self._start is not None:
            self.guard.recall(self._start.guard)
            if self._start.request is None:
                return
            number, request, records = self._start.number, self._start.request, self._start.guard["records"]
        ahead: deque[tuple[PageRequest, Prefetch[RecordBatch | _Read]]] = deque()
        try:
            while True:
                try:
                    self.guard.before(number, request)
                    following: PageRequest | Stop = request
                    for item in self._page(number, request, ahead):
                        if isinstance(item, RecordBatch):
                            self.guard.add(len(item.records), len(item.text))
                            yield FetchedBatch(number, self.guard.records - records - len(item.records), item)
                            continue
                        following = self._after(number, request, item, records)
                except ChunkwiseError as error:
                    raise _placed(error, number) from error.__cause__
                stop = following.reason if isinstance(following, Stop) else None
                count = self.guard.records - records
                records += count
                upcoming = following if isinstance(following, PageRequest) else None
                # the answer whose status means the end is no page
                pages = number - 1 if stop is StopReason.END_STATUS else number
                yield FetchedPage(pages, count, stop, FetchState(number + 1, upcoming, self.guard.remember()))
                if stop is StopReason.RANGE_END:
                    return  # what the API says of its end is for whoever puts the ranges together
                if upcoming is None:
                    self.guard.end()
                    return
                if self._until is not None and self._until():
                    return
                number, request = number + 1, upcoming
        finally:
            for _, prefetch in ahead:
                prefetch.close()

    def _page(
        self,
        number: int,
        request: PageRequest,
        ahead: deque[tuple[PageRequest, Prefetch[RecordBatch | _Read]]],
    ) -> Iterator[RecordBatch | _Read]:
        """One page, from a request in flight if there is one for it."""
        foretell = guess(self._paginator)
        if foretell is None or self._options.requests_in_flight < 2:
            yield from self._read(request)
            return
        if ahead and ahead[0][0] != request:
            for _, prefetch in ahead:
                prefetch.close()
            ahead.clear()
        last = self._options.caps.pages
        while len(ahead) < self._options.requests_in_flight and (last is None or number + len(ahead) <= last):
            foretold = foretell(request, len(ahead)) if ahead else request
            items = Prefetch(self._read(foretold), size=_size, max_bytes=self._options.prefetch_bytes)
            ahead.append((foretold, items))
        with ahead.popleft()[1] as items:
            yield from items

    def _read(self, request: PageRequest) -> Generator[RecordBatch | _Read, None, None]:
        """One page with its retries: batches, then what else it says.

        A page that breaks off is asked for again, and goes on after the records that it gave before only if
        they are the same.
        """
        given, digest = 0, xxhash.xxh3_128()
        for attempt in self._transport.attempts(request):
            with attempt as response:
                if response.is_end or response.status == 204:
                    yield _Read(
                        response.url, response.status, response.headers, None, 0, None, b"", response.is_end
                    )
                    continue
                splitter = RecordSplitter(
                    response.readinto,
                    self._records,
                    limits=self._options.limits,
                    hints=self._hints,
                    non_finite=self._options.non_finite,
                    null_is_empty=self._options.null_is_empty,
                )
                again, expected = (xxhash.xxh3_128(), digest.digest()) if given else (digest, b"")
                skip = given
                try:
                    for batch in splitter:
                        fresh = batch
                        if skip:
                            old, new = batch.records[:skip], batch.records[skip:]
                            _update(again, old)
                            skip -= len(old)
                            if skip == 0:
                                if again.digest() != expected:
                                    raise PageChanged("the page gives other records than before it broke off")
                                digest = again
                            if not new:
                                continue
                            fresh = RecordBatch(new, batch.text)
                        _update(digest, fresh.records)
                        given += len(fresh.records)
                        yield fresh
                except RecordsNotFound:
                    self._options.error_rule.check(splitter.envelope, self._records)
                    raise
                if skip:
                    raise PageChanged("the page gives fewer records than before it broke off")
                self._options.error_rule.check(splitter.envelope, self._records)
                yield _Read(
                    response.url,
                    response.status,
                    response.headers,
                    splitter.envelope,
                    given,
                    splitter.last_record,
                    digest.digest(),
                    False,
                )

    def _after(self, number: int, request: PageRequest, read: _Read, before: int) -> PageRequest | Stop:
        page = Page(
            number=number,
            url=read.url,
            status=read.status,
            headers=read.headers,
            envelope=read.envelope,
            record_count=read.records,
            last_record=read.last_record,
            records_before=before,
        )
        if read.ended:
            return Stop(StopReason.END_STATUS)
        self.guard.after(page, read.digest, declared_total(self._paginator, page))
        return self._paginator.after(request, page)


def _update(digest: xxhash.xxh3_128, records: list[Any]) -> None:
    deque(map(digest.update, records), maxlen=0)


def _size(item: object) -> int:
    if isinstance(item, FetchedBatch):
        item = item.batch
    return len(item.text) if isinstance(item, RecordBatch) else 0


def _placed(error: ChunkwiseError, number: int) -> ChunkwiseError:
    if isinstance(error, PagingError):
        error.args = (f"page {number}: {error}", *error.args[1:])
    return error
