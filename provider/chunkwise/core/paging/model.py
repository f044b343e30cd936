"""The values that travel between a paginator and whatever drives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import msgspec
import xxhash

_CANONICAL = msgspec.json.Encoder(order="deterministic", decimal_format="number")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseRequest:
    """The request that every page shares: what the user configured, before paging adds to it.

    :param url: absolute URL of the endpoint.
    :param method: ``"GET"`` or ``"POST"``.
    :param params: query parameters.
    :param headers: request headers.
    :param json: JSON body of a POST; paging merges its own keys into it.
    """

    url: str
    method: str = "GET"
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PageRequest:
    """What paging adds to the base request to ask for one page. JSON-able, so that a run can be saved by its
    last one.

    :param url: reference, absolute or relative to the endpoint, that replaces the endpoint and its query
        (next links).
    :param query: query parameters to add.
    :param headers: headers to add.
    :param body: keys to merge into the JSON body; a dotted key goes into nested objects.
    """

    url: str | None = None
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary without the empty members."""
        members = {"url": self.url, "query": self.query, "headers": self.headers, "body": self.body}
        return {name: value for name, value in members.items() if value}

    @classmethod
    def from_json(cls, members: Mapping[str, Any]) -> PageRequest:
        """The inverse of :meth:`to_json`; an unknown member is an error."""
        return cls(**members)

    def fingerprint(self) -> bytes:
        """16 bytes that are equal for equal requests, whatever the order of their members."""
        return xxhash.xxh3_128_digest(_CANONICAL.encode(self.to_json()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a paginator may know of a page once it was read: everything but its records.

    :param number: 1 for the first page of the run.
    :param url: URL that answered, to resolve relative links against.
    :param status: HTTP status.
    :param headers: response headers, names matched without regard to case.
    :param envelope: the decoded body with its records array emptied; numbers with a fraction are ``Decimal``.
    :param record_count: records received in this page.
    :param records_before: records received in all pages of the run before this one.
    :param last_record: the JSON bytes of its last record, ``None`` in an empty page.
    """

    number: int
    url: str
    status: int
    headers: Mapping[str, str]
    envelope: Any
    record_count: int
    last_record: bytes | None
    records_before: int = 0


class StopReason(StrEnum):
    """Why a run ended. Each is a statement of the API or of a rule that the user set, never a guess."""

    NO_CURSOR = "no_cursor"
    NO_NEXT_LINK = "no_next_link"
    HAS_MORE_FALSE = "has_more_false"
    TOTAL_REACHED = "total_reached"
    EMPTY_PAGE = "empty_page"
    SHORT_PAGE = "short_page"
    END_STATUS = "end_status"
    SINGLE_PAGE = "single_page"
    RANGE_END = "range_end"  # of the pages that were asked for, not of the API
    CUSTOM = "custom"


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a run, with its reason."""

    reason: StopReason


class Paginator(Protocol):
    """A pure function from a page to the next request. It holds no state of a run.

    A run is therefore saved by its last request, and any request seen before is a loop.
    """

    def first(self) -> PageRequest:
        """The request for the first page."""

    def after(self, request: PageRequest, page: Page) -> PageRequest | Stop:
        """The request for the page after ``page``, which answered ``request``; or why there is none."""
