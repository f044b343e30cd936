"""The stop rules of paginators whose position is counted, or taken from the records themselves."""

from __future__ import annotations

from dataclasses import dataclass

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging.model import Page, PageRequest, Stop, StopReason
from chunkwise.core.paging.rules import PagingRules
from chunkwise.core.paging.send import SendAs, members_of


@dataclass(frozen=True, kw_only=True, slots=True)
class CountingRules(PagingRules):
    """What the paginators share that the API gives no cursor.

    :param stop_on_short_page: whether a page with fewer records than asked for is the last one. It loses
        records where the server caps or filters its pages, so it is off unless asked for, and excludes better
        rules.
    """

    stop_on_short_page: bool = False

    def _check_rules(self, *, other_end: bool = False, passes_empty: bool = False) -> None:
        """Refuse rules that exclude each other, or that never end.

        :param other_end: whether this kind has a further rule that ends the run.
        :param passes_empty: whether an empty page can have a next one.
        """
        better = (self.has_more_path, self.total_path, self.total_header)
        if self.stop_on_short_page and (other_end or better != (None, None, None)):
            raise self._refuse(
                "stop_on_short_page cannot stand beside has_more_path or a total, which decide better"
            )
        if self.stop_on_short_page and self.page_size is None:
            raise self._refuse("stop_on_short_page needs the page size that is asked for")
        if self.on_empty_page == "continue" and not passes_empty:
            raise self._refuse(
                "on_empty_page='continue' is impossible: the position does not move past an empty page"
            )
        ends = other_end or self.stop_on_short_page or bool(self.end_statuses) or better != (None, None, None)
        if self.on_empty_page in ("continue", "fail") and not ends:
            raise self._refuse(f"on_empty_page={self.on_empty_page!r} needs another rule that ends the run")

    def _short_end(self, page: Page) -> Stop | None:
        """The end by a page with fewer records than asked for, if the rule says so."""
        size = self.page_size
        if self.stop_on_short_page and size is not None and page.record_count < size:
            return Stop(StopReason.SHORT_PAGE)
        return None

    def _position(self, send_as: SendAs, request: PageRequest, name: str) -> int:
        """The whole number that an earlier request of this paginator carries under ``name``.

        :raises ConfigError: if it has none.
        """
        value = members_of(send_as, request).get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ConfigError(
            f"{type(self).__name__}: a request without a whole number {name!r} in its"
            f" {send_as} was not made by this paginator"
        )
