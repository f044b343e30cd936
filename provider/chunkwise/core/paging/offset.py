"""The paginator that asks by the number of records to skip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec

from chunkwise.core.paging.counting import CountingRules
from chunkwise.core.paging.model import Page, PageRequest, Stop, StopReason
from chunkwise.core.paging.rules import Count, Name, OnEmptyPage
from chunkwise.core.paging.send import SendAs, check_names, request_with


@dataclass(frozen=True, kw_only=True, slots=True)
class OffsetPaginator(CountingRules):
    """Skip the records that were received so far.

    Steps by what was received, not by what was asked for: a server that caps its pages loses nothing. The run
    ends when the total is reached, by ``has_more_path``, or on an empty page.

    :param limit: records to ask for per page.
    :param offset: records to skip at the start; a total counts them too.
    :param limit_name: name of the limit; ``None`` if it is not sent.
    :param offset_name: name of the offset. Body names may be dotted paths.
    :param send_as: where both go: ``"query"``, ``"body"`` or ``"header"``.
    """

    kind: ClassVar[str] = "offset"
    _on_empty_page: ClassVar[OnEmptyPage] = "stop"

    limit: Count
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit_name: Name | None = "limit"
    offset_name: Name = "offset"
    send_as: SendAs = "query"

    def _check(self) -> None:
        check_names(self.send_as, self.limit_name, self.offset_name)
        self._check_rules()

    @property
    def page_size(self) -> int:
        """Records asked for per page."""
        return self.limit

    @property
    def origin(self) -> int:
        """Position of the first page."""
        return self.offset

    @property
    def step(self) -> int:
        """Positions of a full page."""
        return self.limit

    def first(self) -> PageRequest:
        """The request for the first page."""
        return self.at(self.offset)

    def at(self, position: int, *, end: int | None = None) -> PageRequest:
        """The request for the page at a position.

        :param position: records before it.
        :param end: position that it must not reach beyond, where the limit is sent.
        """
        members = {self.offset_name: position}
        if self.limit_name is not None:
            members[self.limit_name] = self.limit if end is None else min(self.limit, end - position)
        return request_with(self.send_as, members)

    def position(self, request: PageRequest) -> int:
        """Of a request of this paginator."""
        return self._position(self.send_as, request, self.offset_name)

    def guess(self, request: PageRequest, pages: int) -> PageRequest:
        """The request ``pages`` pages after ``request`` if every page in between is full."""
        return self.at(self.position(request) + pages * self.limit)

    def declared_total(self, page: Page) -> int | None:
        """Records that the API says this run has: its total without those skipped at the start.

        :raises InvalidEnvelope: for a value that is not a whole number, or a first page without one.
        """
        total = CountingRules.declared_total(self, page)
        return None if total is None else max(total - self.offset, 0)

    def _next(self, request: PageRequest, page: Page, has_more: bool | None, /) -> PageRequest | Stop:
        position = self.position(request) + page.record_count
        if has_more is None:
            total = CountingRules.declared_total(self, page)
            if total is not None and position >= total:
                return Stop(StopReason.TOTAL_REACHED)
        if stop := self._empty_end(page) or self._short_end(page):
            return stop
        if page.record_count == 0:
            raise self._no_way_on(page, "has no records, so the offset cannot move on")
        return self.at(position)
