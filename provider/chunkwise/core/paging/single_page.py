"""The paginator of an API that has no pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chunkwise.core.paging.model import Page, PageRequest, Stop, StopReason
from chunkwise.core.paging.rules import PagingRules


@dataclass(frozen=True, kw_only=True, slots=True)
class SinglePagePaginator(PagingRules):
    """One request, one page.

    With ``has_more_path`` a page that says there is more is a :class:`MissingCursor`; with a total, the run's
    check of it finds an API that gave the first page only.
    """

    kind: ClassVar[str] = "single_page"

    def _next(self, _request: PageRequest, page: Page, has_more: bool | None, /) -> PageRequest | Stop:
        if has_more:
            raise self._no_way_on(page, "this paginator asks for one page only")
        return self._empty_end(page) or Stop(StopReason.SINGLE_PAGE)
