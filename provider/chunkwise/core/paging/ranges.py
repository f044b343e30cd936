"""Some pages of an API whose pages can be counted, from one position up to another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chunkwise.core.errors import ConfigError, PageSizeCapped
from chunkwise.core.paging.fetcher import FetchState
from chunkwise.core.paging.model import Page, PageRequest, Paginator, Stop, StopReason
from chunkwise.core.paging.offset import OffsetPaginator
from chunkwise.core.paging.page_number import PageNumberPaginator
from chunkwise.core.selector import Selector

#: paginators that know where a page begins without having read those before
Countable = OffsetPaginator | PageNumberPaginator


def countable(paginator: Paginator) -> Countable | None:
    """The paginator, if its pages can be counted, so that some can be read without those before."""
    return paginator if isinstance(paginator, OffsetPaginator | PageNumberPaginator) else None


def records_before(paginator: Countable, position: int, page_records: int) -> int:
    """How many records stand before a position.

    :param page_records: records of a full page, where positions are pages.
    """
    moved = position - paginator.origin
    return moved if isinstance(paginator, OffsetPaginator) else moved * page_records


@dataclass(frozen=True, kw_only=True, slots=True)
class PageRange:
    """A paginator that begins in the middle of another one, and ends there, too.

    Positions are those of the other one: records to skip (offset), or page numbers. The last page asks for no
    more records than belong to the range, so that ranges of an offset meet exactly, also where a server gives
    fewer records than it is asked for.

    :param of: the other one.
    :param start: position of the first page.
    :param end: position after the last page; ``None``: the API says where it ends.
    """

    of: Countable
    start: int
    end: int | None = None

    def __post_init__(self) -> None:
        if self.start < self.of.origin or (self.end is not None and self.end <= self.start):
            raise ConfigError(f"there is no range of pages from {self.start} to {self.end}")

    def first(self) -> PageRequest:
        """The request for the first page."""
        return self.of.at(self.start, end=self.end)

    def after(self, request: PageRequest, page: Page) -> PageRequest | Stop:
        """See :class:`~chunkwise.core.paging.model.Paginator`.

        :raises PageSizeCapped: a page reaches beyond the range.
        """
        following = self.of.after(request, page)
        if isinstance(following, Stop) or self.end is None:
            return following
        position = self.of.position(following)
        if position > self.end:
            raise PageSizeCapped(
                f"the page reaches up to position {position}, and its range ends at {self.end}: the API gives"
                " more records than it is asked for, or is not told how many (limit_name)"
            )
        return Stop(StopReason.RANGE_END) if position == self.end else self.of.at(position, end=self.end)

    def begin(self, *, page_records: int, total: int | None) -> FetchState:
        """Where a run stands that has read everything before.

        :param page_records: records of a full page.
        :param total: records that the API declared.
        """
        before = (self.start - self.of.origin) // self.of.step
        return FetchState.foretold(
            before + 1,
            self.first(),
            records=records_before(self.of, self.start, page_records),
            total=total,
        )

    def declared_total(self, page: Page) -> int | None:
        """Of all records of the API, in and outside of the range."""
        return self.of.declared_total(page)

    @property
    def page_size(self) -> int | None:
        """Records asked for per page."""
        return self.of.page_size

    @property
    def end_statuses(self) -> tuple[int, ...]:
        """Statuses that mean the end of the run."""
        return self.of.end_statuses

    def paths(self) -> tuple[Selector, ...]:
        """Every path that is read from a page's envelope."""
        return self.of.paths()


@dataclass(slots=True)
class FirstPage:
    """Follow another paginator for one page, and keep what it said.

    :param of: the other one.
    """

    of: Countable
    page: Page | None = None
    following: PageRequest | Stop | None = None

    def first(self) -> PageRequest:
        """The request for the first page."""
        return self.of.first()

    def after(self, request: PageRequest, page: Page) -> PageRequest | Stop:
        """Always the end."""
        self.page, self.following = page, self.of.after(request, page)
        return Stop(StopReason.RANGE_END)

    def __getattr__(self, name: str) -> Callable[..., object]:
        """What a driver may ask of any paginator."""
        if name not in ("declared_total", "page_size", "end_statuses", "paths"):
            raise AttributeError(name)
        found: Callable[..., object] = getattr(self.of, name)
        return found
