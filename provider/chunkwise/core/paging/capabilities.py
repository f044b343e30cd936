"""What a driver may ask of any paginator, a user's own among them.

A paginator needs ``first`` and ``after`` alone. ``declared_total(page)``, ``page_size``, ``end_statuses``,
``paths()`` and ``guess(request, pages)`` are optional; every paginator of Chunkwise has all but the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging.model import Page, PageRequest, Paginator
from chunkwise.core.paging.records_reference import reads, records_keys, refers
from chunkwise.core.selector import Selector


def check_paginator(paginator: object) -> None:
    """Refuse an object that is no paginator.

    :raises ConfigError: naming the method that it lacks.
    """
    for method in ("first", "after"):
        if isinstance(paginator, type) or not callable(getattr(paginator, method, None)):
            raise ConfigError(
                f"{paginator!r} is no paginator: it needs the methods first() and after(request, page)"
            )


def declared_total(paginator: Paginator, page: Page) -> int | None:
    """Records that the API says the whole run has, ``None`` where this paginator or page does not know.

    :raises InvalidEnvelope: for a total that is not a whole number.
    """
    ask: Callable[[Page], int | None] | None = getattr(paginator, "declared_total", None)
    return None if ask is None else ask(page)


def page_size(paginator: Paginator) -> int | None:
    """Records asked for per page, ``None`` where this paginator does not know."""
    size: int | None = getattr(paginator, "page_size", None)
    return size


def end_statuses(paginator: Paginator) -> tuple[int, ...]:
    """HTTP statuses that mean the end of the run."""
    return tuple(getattr(paginator, "end_statuses", ()))


def guess(paginator: Paginator) -> Callable[[PageRequest, int], PageRequest] | None:
    """What foretells the request some pages ahead, ``None`` where only the page before can tell."""
    foretell: Callable[[PageRequest, int], PageRequest] | None = getattr(paginator, "guess", None)
    return foretell


def refuse_records_reference(paginator: Paginator, records: Selector | str | Sequence[str]) -> None:
    """Refuse a path of the paginator that reads the records array.

    The driver takes the records out of the page before a paginator sees it: such a path would find nothing,
    and end the run after its first page.

    :param records: where a page's records are.
    :raises ConfigError: naming the path and the way out.
    """
    selector = records if isinstance(records, Selector) else Selector.compile(records)
    keys = records_keys(selector)
    if keys is None:
        return
    ask: Callable[[], tuple[Selector, ...]] | None = getattr(paginator, "paths", None)
    for path in () if ask is None else ask():
        if any(refers(read, keys) for read in reads(path)):
            raise ConfigError(
                f"{type(paginator).__name__}: the path {str(path)!r} reads the records at {str(selector)!r},"
                " which are taken out of the page before. For a cursor in the last record use"
                " LastRecordPaginator; for the end of the run by an empty page use on_empty_page"
            )
