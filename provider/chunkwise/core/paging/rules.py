"""What every paginator has in common: checked fields, stop rules, and the declared total."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_type_hints
from urllib.parse import urlsplit

import msgspec

from chunkwise.core import decoding
from chunkwise.core.errors import ConfigError, InvalidEnvelope, MissingCursor, TooManyEmptyPages
from chunkwise.core.paging.model import Page, PageRequest, Stop, StopReason
from chunkwise.core.selector import MISSING, Selector

Name = Annotated[str, msgspec.Meta(min_length=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Status = Annotated[int, msgspec.Meta(ge=100, le=599)]
#: a dotted path or JMESPath expression, or a list of keys, see :class:`Selector`
Path = Name | Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
OnEmptyPage = Literal["stop", "continue", "fail"]

NO_CONTENT = 204  # RFC 9110, 15.3.5: an answer without a body, which is an empty page that says nothing else


_TOTAL_DIGITS = 18


@dataclass(frozen=True, kw_only=True, slots=True)
class PagingRules:
    """The fields and rules that all paginators share. Every check happens when the object is made.

    The rules of a page are asked in this order: a status that means the end; ``has_more``; for kinds that
    count, the total; an empty page; for kinds that count, a short page. Where ``has_more_path`` is given the
    flag decides, and neither a total nor a short page ends the run.

    :param has_more_path: path of a JSON boolean that says whether there are more pages. For a flag of the
        opposite meaning write ``"!isLast"``. A page where it is missing or anything but a boolean is an
        :class:`InvalidEnvelope`.
    :param total_path: path of the number of records in all pages together. It is compared with what was read;
        kinds that count their position also stop there.
    :param total_header: the same in a response header, e.g. ``"X-Total-Count"``; ``"Content-Range"`` is
        understood.
    :param on_empty_page: ``"stop"`` ends the run, ``"continue"`` leaves the decision to the other rules,
        ``"fail"`` is an error. ``None`` is the default of the kind: ``"continue"`` where a cursor, a link or
        ``has_more_path`` decides, else ``"stop"``.
    :param end_statuses: HTTP statuses that mean "past the last page", e.g. ``(400,)`` for WordPress.
    :raises ConfigError: for a field that cannot work.
    """

    #: the type tag of this paginator in JSON
    kind: ClassVar[str]
    _on_empty_page: ClassVar[OnEmptyPage] = "continue"

    has_more_path: Path | None = None
    total_path: Path | None = None
    total_header: Name | None = None
    on_empty_page: OnEmptyPage | None = None
    end_statuses: tuple[Status, ...] = ()

    def __post_init__(self) -> None:
        for name, hint in self._types().items():
            try:
                value = decoding.convert(getattr(self, name), hint)
            except msgspec.ValidationError as error:
                raise self._refuse(f"{name}: {error}") from None
            object.__setattr__(self, name, value)
            if name.endswith("_path") and value is not None and Selector.compile(value).keys == ():
                raise self._refuse(f"{name} must name a member, not the whole document")
        if self.total_path is not None and self.total_header is not None:
            raise self._refuse("give total_path or total_header, not both")
        if 200 in self.end_statuses:
            raise self._refuse("end_statuses holds 200, which is what every page answers")
        self._check()

    def _check(self) -> None:
        """Checks of one kind, once every field has its type."""

    def _types(self) -> dict[str, Any]:
        kind: Any = type(self)
        return _field_types(kind)

    def _refuse(self, what: str) -> ConfigError:
        return ConfigError(f"{type(self).__name__}: {what}")

    @property
    def page_size(self) -> int | None:
        """Records asked for per page, ``None`` where this paginator does not know."""
        return None

    def first(self) -> PageRequest:
        """The request for the first page."""
        return PageRequest()

    def after(self, request: PageRequest, page: Page) -> PageRequest | Stop:
        """The request for the page after ``page``, which answered ``request``; or why there is none.

        :raises InvalidEnvelope: if the page does not say what this paginator needs to know.
        :raises MissingCursor: if the page says that there is more, and not how to get it.
        """
        if page.status in self.end_statuses:
            return Stop(StopReason.END_STATUS)
        has_more = self._has_more(page)
        if has_more is False:
            return Stop(StopReason.HAS_MORE_FALSE)
        return self._next(request, page, has_more)

    def _next(self, request: PageRequest, page: Page, has_more: bool | None, /) -> PageRequest | Stop:
        """What one kind does; ``has_more`` is true, or ``None`` where no flag is configured."""
        raise NotImplementedError

    def paths(self) -> tuple[Selector, ...]:
        """Every path that is read from a page's envelope."""
        return tuple(
            Selector.compile(path)
            for path in (getattr(self, name) for name in self._types() if name.endswith("_path"))
            if path is not None
        )

    def declared_total(self, page: Page) -> int | None:
        """Records that the API says the whole run has; ``None`` if not configured, or not in this page.

        The first page must have it, later pages may leave it out.

        :raises InvalidEnvelope: for a value that is not a whole number, or a first page without one.
        """
        if page.status in (NO_CONTENT, *self.end_statuses):
            return None
        if self.total_path is not None:
            return self._total(page, "total_path", read_path(page, self.total_path))
        if self.total_header is not None:
            return self._total(page, "total_header", read_total_header(page, self.total_header))
        return None

    def _total(self, page: Page, field: str, value: Any) -> int | None:
        """``value`` as a number of records (or pages) that ``field`` of this paginator points to."""
        if value is MISSING or value is None:
            if page.number == 1:
                raise InvalidEnvelope(
                    f"{place(page)} has no total at {field} = {getattr(self, field)!r}:"
                    " correct it, or leave it out"
                )
            return None
        if value == "*":  # RFC 9110, 14.4: a Content-Range of unknown length
            return None
        # the size is looked at first: 1e100000000 would take all memory as an integer
        small = isinstance(value, Decimal) and value.is_finite() and value.adjusted() < _TOTAL_DIGITS
        if small and value == value.to_integral_value():
            return int(value)
        if (
            isinstance(value, str)
            and len(value) <= _TOTAL_DIGITS
            and value.isascii()
            and value.strip().isdigit()
        ):
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise InvalidEnvelope(
            f"{place(page)} has a total that is not a whole number ({type_name(value)})"
            f" at {field} = {getattr(self, field)!r}"
        )

    def _has_more(self, page: Page) -> bool | None:
        """The API's own flag, ``None`` where none is configured."""
        if self.has_more_path is None or page.status == NO_CONTENT:
            return None
        value = read_path(page, self.has_more_path)
        if isinstance(value, bool):
            return value
        raise InvalidEnvelope(
            f"{place(page)} must have true or false at has_more_path = {self.has_more_path!r},"
            f" and has {type_name(value)}"
        )

    def _empty_end(self, page: Page) -> Stop | None:
        """The end by an empty page, if the rule says so."""
        if page.record_count > 0:
            return None
        rule = self.on_empty_page
        if rule is None:
            rule = self._default_on_empty_page(page)
        if rule == "fail":
            raise TooManyEmptyPages(f"{place(page)} has no records, and on_empty_page is 'fail'")
        return Stop(StopReason.EMPTY_PAGE) if rule == "stop" else None

    def _default_on_empty_page(self, page: Page) -> OnEmptyPage:
        if page.status == NO_CONTENT:
            return "stop"
        return self._on_empty_page if self.has_more_path is None else "continue"

    def _no_way_on(self, page: Page, what: str) -> MissingCursor:
        """The error for a page that says there is more, and not how to get it."""
        return MissingCursor(
            f"{place(page)} says that there is more (has_more_path = {self.has_more_path!r}), but {what}:"
            " check the paths of this paginator against a page of the API"
        )


@cache
def _field_types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def read_path(page: Page, path: Path) -> Any:
    """The value at ``path`` in the envelope of a page, or MISSING."""
    return Selector.compile(path).get(page.envelope)


def read_header(headers: Mapping[str, str], name: str) -> str | None:
    """A header by its name in any case (RFC 9110, 5.1), ``None`` if it was not sent."""
    wanted = name.lower()
    return next((value for key, value in headers.items() if key.lower() == wanted), None)


def read_total_header(page: Page, name: str) -> str | None:
    """The total in a header: all of it, or what follows the slash of a Content-Range (RFC 9110, 14.4)."""
    value = read_header(page.headers, name)
    if value is not None and name.lower() == "content-range":
        return value.rpartition("/")[2].strip()
    return value


def place(page: Page) -> str:
    """Whose answer, for an error text: no query and no user of its URL. The driver adds the page's number."""
    parts = urlsplit(page.url)
    return f"the answer of {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def type_name(value: Any) -> str:
    """The JSON name of a value's type, for an error text that must not quote the value."""
    if value is MISSING:
        return "no such member"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float | Decimal):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "an array"
