"""The paginator whose cursor is a field of the last record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chunkwise.core.errors import InvalidPage, MissingCursor
from chunkwise.core.paging import exact_json
from chunkwise.core.paging.counting import CountingRules
from chunkwise.core.paging.model import Page, PageRequest, Stop
from chunkwise.core.paging.rules import Count, Name, OnEmptyPage, Path, place
from chunkwise.core.paging.send import SendAs, check_names, request_with, send_cursor
from chunkwise.core.selector import MISSING, Selector


@dataclass(frozen=True, kw_only=True, slots=True)
class LastRecordPaginator(CountingRules):
    """Send back a field of the last record: Stripe's ``starting_after``, Elasticsearch's ``search_after``.

    The run ends by ``has_more_path``, or on an empty page. A total does not end it, since such APIs cap the
    totals that they count; it is compared with what was read. Numbers keep all their digits.

    :param field_path: path of the field in the record (default ``"id"``).
    :param name: its name in the next request, e.g. ``"starting_after"``. A body name may be a dotted path.
    :param send_as: where it goes: ``"query"``, ``"body"`` or ``"header"``.
    :param structured: whether the field may be an array or object (``sort`` of an Elasticsearch hit); only in
        a body.
    :param size: records to ask for per page, ``None`` to leave it to the API.
    :param size_name: name of the size; ``None`` if it is not sent.
    """

    kind: ClassVar[str] = "last_record"
    _on_empty_page: ClassVar[OnEmptyPage] = "stop"

    field_path: Path = "id"
    send_as: SendAs = "query"
    name: Name
    structured: bool = False
    size: Count | None = None
    size_name: Name | None = None

    def _check(self) -> None:
        check_names(self.send_as, self.name, self.size_name)
        if self.size_name is not None and self.size is None:
            raise self._refuse("size_name needs a size")
        if self.structured and self.send_as != "body":
            raise self._refuse("structured=True needs send_as='body': an object has no form elsewhere")
        self._check_rules()

    @property
    def page_size(self) -> int | None:
        """Records asked for per page, ``None`` where the API decides."""
        return self.size

    def paths(self) -> tuple[Selector, ...]:
        """Every path that is read from a page's envelope: not that of the record's field."""
        return tuple(
            Selector.compile(path) for path in (self.has_more_path, self.total_path) if path is not None
        )

    def first(self) -> PageRequest:
        """The request for the first page."""
        return request_with(self.send_as, self._size_member())

    def _next(self, _request: PageRequest, page: Page, _flag: bool | None, /) -> PageRequest | Stop:
        if stop := self._empty_end(page) or self._short_end(page):
            return stop
        if page.last_record is None:
            raise self._no_way_on(page, "has no record to take the cursor from")
        found_at = f"field_path = {self.field_path!r} of its last record"
        try:
            record = exact_json.decode(page.last_record)
        except ValueError as error:
            raise InvalidPage(f"{place(page)} has a last record that is not valid JSON") from error
        cursor = Selector.compile(self.field_path).get(record)
        if cursor is MISSING or cursor is None:
            raise MissingCursor(f"{place(page)} has no value at {found_at}: correct the path")
        return send_cursor(
            page,
            cursor,
            found_at=found_at,
            send_as=self.send_as,
            name=self.name,
            structured=self.structured,
            beside=self._size_member(),
        )

    def _size_member(self) -> Mapping[str, Any]:
        return {} if self.size_name is None else {self.size_name: self.size}
