"""Paginators that follow an opaque cursor: named in the page body, or in a response header."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from chunkwise.core.errors import InvalidEnvelope
from chunkwise.core.paging.model import Page, PageRequest, Stop, StopReason
from chunkwise.core.paging.rules import Name, PagingRules, Path, place, read_header, read_path
from chunkwise.core.paging.send import SendAs, check_names, request_with, send_cursor
from chunkwise.core.selector import MISSING, Selector


@dataclass(frozen=True, kw_only=True, slots=True)
class CursorPaginator(PagingRules):
    """Follow an opaque cursor that each page names for the next one.

    The run ends when the page has no cursor at ``cursor_path``; with ``has_more_path`` that flag decides and
    a missing cursor beside ``has_more = true`` is a :class:`MissingCursor`, never a quiet end. An API that
    leaves the cursor out on its last page looks the same as a wrong path: give ``has_more_path`` or a total
    where the API has one, or ``always_present``.

    :param cursor_path: path of the next cursor in the page body, e.g. ``"paging.next.after"``.
    :param send_as: where the cursor goes in the next request: ``"query"``, ``"body"`` or ``"header"``.
    :param name: its parameter name there. A body name may be a dotted path.
    :param end_values: cursor values that mean "no more" (default: ``None`` and ``""``). A missing cursor
        counts as ``None``. ``0`` is a cursor unless it is named here; numbers are compared by value, and
        ``False`` is not ``0``.
    :param initial: cursor of the first request, e.g. ``"*"``; ``None`` sends none.
    :param structured: whether an object or array may be a cursor (DynamoDB's ``LastEvaluatedKey``); only in a
        body.
    :param always_present: whether every page has the member, the last one with an end value; a page without
        it is then an
        :class:`InvalidEnvelope`.
    """

    kind: ClassVar[str] = "cursor"

    cursor_path: Path
    send_as: SendAs = "query"
    name: Name
    end_values: tuple[Any, ...] = (None, "")
    initial: Any | None = None
    structured: bool = False
    always_present: bool = False

    def _check(self) -> None:
        check_names(self.send_as, self.name)
        if self.structured and self.send_as != "body":
            raise self._refuse("structured=True needs send_as='body': an object has no form elsewhere")
        if self.always_present and Selector.compile(self.cursor_path).keys is None:
            raise self._refuse("always_present needs a plain path: JMESPath cannot tell missing from null")
        for value in self.end_values:
            if not (value is None or _is_exact(value)):
                raise self._refuse("end_values may hold null, strings, booleans, integers and Decimal")
        if self.initial is not None and (isinstance(self.initial, bool) or not _is_exact(self.initial)):
            raise self._refuse("initial must be a string, an integer or a Decimal")

    def first(self) -> PageRequest:
        """The request for the first page, with the initial cursor if there is one."""
        if self.initial is None:
            return PageRequest()
        return request_with(self.send_as, {self.name: self.initial})

    def _next(self, _request: PageRequest, page: Page, has_more: bool | None, /) -> PageRequest | Stop:
        if stop := self._empty_end(page):
            return stop
        cursor = read_path(page, self.cursor_path)
        if cursor is MISSING:
            if self.always_present:
                raise InvalidEnvelope(
                    f"{place(page)} has no member at cursor_path = {self.cursor_path!r},"
                    " and always_present says it must"
                )
            cursor = None
        if any(_same(cursor, end) for end in self.end_values):
            if has_more:
                raise self._no_way_on(page, f"has no cursor at cursor_path = {self.cursor_path!r}")
            return Stop(StopReason.NO_CURSOR)
        return send_cursor(
            page,
            cursor,
            found_at=f"cursor_path = {self.cursor_path!r}",
            send_as=self.send_as,
            name=self.name,
            structured=self.structured,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderCursorPaginator(PagingRules):
    """Follow a cursor that a response header names, e.g. GitLab's ``X-Next-Page``.

    The run ends when the header is missing or one of ``end_values``.

    :param header: name of the response header, in any case.
    :param send_as: where the cursor goes in the next request: ``"query"``, ``"body"`` or ``"header"``.
    :param name: its parameter name there.
    :param end_values: header values, without surrounding space, that mean "no more" (default: ``""``).
    """

    kind: ClassVar[str] = "header_cursor"

    header: Name
    send_as: SendAs = "query"
    name: Name
    end_values: tuple[str, ...] = ("",)

    def _check(self) -> None:
        check_names(self.send_as, self.name)

    def _next(self, _request: PageRequest, page: Page, has_more: bool | None, /) -> PageRequest | Stop:
        if stop := self._empty_end(page):
            return stop
        cursor = read_header(page.headers, self.header)
        if cursor is None or cursor.strip() in self.end_values:
            if has_more:
                raise self._no_way_on(page, f"has no cursor in the header {self.header!r}")
            return Stop(StopReason.NO_CURSOR)
        return send_cursor(
            page, cursor.strip(), found_at=f"the header {self.header!r}", send_as=self.send_as, name=self.name
        )


def _is_exact(value: Any) -> bool:
    """Whether a configured value has one form in JSON: a binary fraction such as 0.1 has not."""
    return isinstance(value, str | int) or (isinstance(value, Decimal) and value.is_finite())


def _same(value: Any, end: Any) -> bool:
    """Equality of two JSON values: numbers by value, a boolean never equal to a number."""
    return bool(isinstance(value, bool) == isinstance(end, bool) and value == end)
