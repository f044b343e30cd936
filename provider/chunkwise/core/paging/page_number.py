"""The paginator that asks by page number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec

from chunkwise.core.paging.counting import CountingRules
from chunkwise.core.paging.model import Page, PageRequest, Stop, StopReason
from chunkwise.core.paging.rules import (
    NO_CONTENT,
    Count,
    Name,
    OnEmptyPage,
    Path,
    read_header,
    read_path,
)
from chunkwise.core.paging.send import SendAs, check_names, request_with


@dataclass(frozen=True, kw_only=True, slots=True)
class PageNumberPaginator(CountingRules):
    """Ask for page 1, 2, 3, ...

    The run ends by the number of pages where it is given, else when the total of records is reached; by
    ``has_more_path``; or on an empty page.

    :param first_page: number of the API's first page, usually 1 or 0.
    :param name: name of the page number. Body names may be dotted paths.
    :param size: records to ask for per page, ``None`` to leave it to the API.
    :param size_name: name of the size; ``None`` if it is not sent.
    :param send_as: where both go: ``"query"``, ``"body"`` or ``"header"``.
    :param total_pages_path: path of the number of pages.
    :param total_pages_header: the same in a response header, e.g. ``"X-WP-TotalPages"``.
    """

    kind: ClassVar[str] = "page_number"
    _on_empty_page: ClassVar[OnEmptyPage] = "stop"

    first_page: Annotated[int, msgspec.Meta(ge=0)] = 1
    name: Name = "page"
    size: Count | None = None
    size_name: Name | None = None
    send_as: SendAs = "query"
    total_pages_path: Path | None = None
    total_pages_header: Name | None = None

    def _check(self) -> None:
        check_names(self.send_as, self.name, self.size_name)
        if self.size_name is not None and self.size is None:
            raise self._refuse("size_name needs a size")
        if self.total_pages_path is not None and self.total_pages_header is not None:
            raise self._refuse("give total_pages_path or total_pages_header, not both")
        pages = self.total_pages_path is not None or self.total_pages_header is not None
        self._check_rules(other_end=pages, passes_empty=True)

    @property
    def page_size(self) -> int | None:
        """Records asked for per page, ``None`` where the API decides."""
        return self.size

    @property
    def origin(self) -> int:
        """Position of the first page: its number."""
        return self.first_page

    @property
    def step(self) -> int:
        """Positions of a page."""
        return 1

    def first(self) -> PageRequest:
        """The request for the first page."""
        return self.at(self.first_page)

    def at(self, position: int, *, end: int | None = None) -> PageRequest:  # noqa: ARG002
        """The request for the page at a position.

        :param position: its number.
        :param end: position that it must not reach beyond, which a page never does.
        """
        members = {self.name: position}
        if self.size_name is not None and self.size is not None:
            members[self.size_name] = self.size
        return request_with(self.send_as, members)

    def position(self, request: PageRequest) -> int:
        """Of a request of this paginator."""
        return self._position(self.send_as, request, self.name)

    def guess(self, request: PageRequest, pages: int) -> PageRequest:
        """The request ``pages`` pages after ``request``."""
        return self.at(self.position(request) + pages)

    def declared_pages(self, page: Page) -> int | None:
        """Pages that the API says the whole run has; ``None`` if not configured, or not in this page.

        :raises InvalidEnvelope: for a value that is not a whole number, or a first page without one.
        """
        if page.status == NO_CONTENT:
            return None
        if self.total_pages_path is not None:
            return self._total(page, "total_pages_path", read_path(page, self.total_pages_path))
        if self.total_pages_header is not None:
            return self._total(page, "total_pages_header", read_header(page.headers, self.total_pages_header))
        return None

    def _next(self, request: PageRequest, page: Page, has_more: bool | None, /) -> PageRequest | Stop:
        number = self.position(request)
        if has_more is None and self._is_complete(number, page):
            return Stop(StopReason.TOTAL_REACHED)
        return self._empty_end(page) or self._short_end(page) or self.at(number + 1)

    def _is_complete(self, number: int, page: Page) -> bool:
        pages = self.declared_pages(page)
        if pages is not None:
            return number - self.first_page + 1 >= pages
        total = self.declared_total(page)
        return total is not None and page.records_before + page.record_count >= total
