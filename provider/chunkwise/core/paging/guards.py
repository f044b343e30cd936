"""What makes a paged read fail rather than end short, twice, or never."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chunkwise.core.choices import check_bounds, check_choices
from chunkwise.core.errors import (
    CursorRepeated,
    ErrorBody,
    LimitExceeded,
    PageRepeated,
    PageSizeCapped,
    TooManyEmptyPages,
    TotalChanged,
    TotalMismatch,
)
from chunkwise.core.paging.model import Page, PageRequest
from chunkwise.core.selector import MISSING, Selector

log = logging.getLogger(__name__)

Policy = Literal["fail", "warn"]
#: requests and pages that a saved run remembers, so that its state stays small
REMEMBERED = 500
#: warnings of one run that are kept and logged
MAX_WARNINGS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Caps:
    """Bounds of one run. A run that reaches one fails and publishes nothing; ``None`` is no bound.

    :param pages: this many pages are fine, the next one fails.
    :param records: records read.
    :param bytes: bytes of records read, uncompressed.
    :param seconds: wall time.
    """

    pages: int | None = 450
    records: int | None = None
    bytes: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "pages", "records", "bytes", "seconds")


@dataclass(frozen=True, kw_only=True, slots=True)
class Guards:
    """What counts as a wrong answer, and how strictly.

    :param total_mismatch: the API declares a total, and delivered another number of records.
    :param total_changed: the declared total changes while its pages are read.
    :param capped_page: a page in the middle of the run is shorter than was asked for. Stepping by what was
        received loses nothing if the server caps the page size, and repeats records if it filters after
        paging: only the user can know.
    :param repeated_page: a page holds the very same records as an earlier one.
    :param empty_pages: how many empty pages in a row are accepted where the paginator goes on after one.
    """

    total_mismatch: Policy = "fail"
    total_changed: Policy = "fail"
    capped_page: Policy = "fail"
    repeated_page: Policy = "fail"
    empty_pages: int = 10

    def __post_init__(self) -> None:
        check_choices(
            self, total_mismatch=Policy, total_changed=Policy, capped_page=Policy, repeated_page=Policy
        )
        check_bounds(self, "empty_pages")


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorRule:
    """When a body with a successful status is an error all the same.

    :param error_paths: an error if any of these holds something (not missing, null, false, ``""``, ``[]``,
        ``{}``, ``0``).
    :param ok_path: an error unless this is ``true`` (Slack's ``ok``).
    :param predicate: an error if it returns true for the decoded body without its records.
    """

    error_paths: Sequence[str] = ("error", "errors")
    ok_path: str | None = None
    predicate: Callable[[Any], bool] | None = None

    def check(self, envelope: Any, records: Selector) -> None:
        """:raises ErrorBody: when the rule says so."""
        for path in self.error_paths:
            selector = Selector.compile(path)
            if selector.keys == records.keys:
                continue
            found = selector.get(envelope)
            if found is not MISSING and found:
                raise ErrorBody(f"the page says that the request failed: it holds something at {path!r}")
        if self.ok_path is not None and Selector.compile(self.ok_path).get(envelope) is not True:
            raise ErrorBody(f"the page says that the request failed: {self.ok_path!r} is not true")
        if self.predicate is not None and self.predicate(envelope):
            raise ErrorBody("the page says that the request failed: the error predicate holds for it")


@dataclass(slots=True)
class RunGuard:
    """The guards of one run, with what they remember of it."""

    caps: Caps
    guards: Guards
    page_size: int | None = None
    records: int = 0
    size: int = 0
    warnings: list[str] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _requests: dict[str, int] = field(default_factory=dict)
    _pages: dict[str, int] = field(default_factory=dict)
    _last_requests: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _last_pages: deque[tuple[str, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _total: int | None = None
    _empty: int = 0
    _short: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._started = self.clock()

    def before(self, number: int, request: PageRequest) -> None:
        """Called before page ``number`` is asked for."""
        if self.caps.pages is not None and number > self.caps.pages:
            raise LimitExceeded(
                f"the API has more than {self.caps.pages} pages ({self.records} records so far); nothing"
                " was published."
                " Raise max_pages if so many are right, or ask for larger pages"
            )
        self._time()
        fingerprint = request.fingerprint().hex()
        earlier = self._requests.get(fingerprint)
        if earlier is not None:
            raise CursorRepeated(
                f"page {number} would be asked for just as page {earlier} was: the API's cursors run in a"
                " circle"
            )
        self._requests[fingerprint] = number
        self._last_requests.append((fingerprint, number))

    def add(self, records: int, size: int) -> None:
        """Called for each batch of records, before it is used."""
        self.records += records
        self.size += size
        if self.caps.records is not None and self.records > self.caps.records:
            raise LimitExceeded(
                f"the API has more than {self.caps.records} records; raise max_records if this is right"
            )
        if self.caps.bytes is not None and self.size > self.caps.bytes:
            raise LimitExceeded(
                f"the API's records have more than {self.caps.bytes} bytes ({self.records} records so far);"
                " raise max_bytes if this is right"
            )
        self._time()

    def after(self, page: Page, digest: bytes, declared: int | None) -> None:
        """Called once per page that was read to its end."""
        self._totals(page.number, declared)
        if page.record_count == 0:
            self._empty += 1
            if self._empty > self.guards.empty_pages:
                raise TooManyEmptyPages(
                    f"{self._empty} empty pages in a row, up to page {page.number}; raise max_empty_pages"
                    " if this is right"
                )
            return
        self._empty = 0
        if self._short is not None:
            number, count = self._short
            self._judge(
                self.guards.capped_page,
                PageSizeCapped,
                f"page {number} has {count} records where {self.page_size} were asked for, and more pages"
                " follow: the"
                " server caps the page size or filters after paging. Ask for no more than it gives, or"
                " accept it with"
                " capped_page='warn'",
            )
            self._short = None
        if self.page_size is not None and page.record_count < self.page_size:
            self._short = (page.number, page.record_count)
        earlier = self._pages.get(digest.hex())
        if earlier is not None:
            self._judge(
                self.guards.repeated_page,
                PageRepeated,
                f"page {page.number} holds the same {page.record_count} records as page {earlier}: the API"
                " ignores the"
                " cursor or gives a page twice. Accept it with repeated_page='warn' if equal pages are right",
            )
        self._pages[digest.hex()] = page.number
        self._last_pages.append((digest.hex(), page.number))

    def end(self) -> None:
        """Called when the paginator says that there are no more pages."""
        if self._total is not None and self._total != self.records:
            self._judge(
                self.guards.total_mismatch,
                TotalMismatch,
                f"the API declares {self._total} records and delivered {self.records}",
            )

    @property
    def declared_total(self) -> int | None:
        """The total that the API declared last."""
        return self._total

    def remember(self) -> dict[str, Any]:
        """What a later try needs to know, JSON-able and small."""
        return {
            "records": self.records,
            "size": self.size,
            "total": self._total,
            "warnings": list(self.warnings),
            "requests": list(self._last_requests),
            "pages": list(self._last_pages),
        }

    def recall(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`remember`."""
        self.records, self.size, self._total = state["records"], state["size"], state["total"]
        self.warnings = list(state["warnings"])
        self._requests, self._pages = dict(state["requests"]), dict(state["pages"])
        self._last_requests.extend(self._requests.items())
        self._last_pages.extend(self._pages.items())

    def _totals(self, number: int, declared: int | None) -> None:
        if declared is None:
            return
        if self._total is not None and declared != self._total:
            self._judge(
                self.guards.total_changed,
                TotalChanged,
                f"the API declared {self._total} records before page {number} and {declared} on it: its"
                " data changed while"
                " it was read, so that records may be missing or doubled. Try again, or accept it with"
                " total_changed='warn'",
            )
        self._total = declared

    def _time(self) -> None:
        if self.caps.seconds is not None and self.clock() - self._started > self.caps.seconds:
            raise LimitExceeded(
                f"the run takes longer than {self.caps.seconds:g} seconds ({self.records} records so far);"
                " raise max_seconds if this is right"
            )

    def _judge(self, policy: Policy, error: type[Exception], message: str) -> None:
        if policy == "fail":
            raise error(message)
        if len(self.warnings) < MAX_WARNINGS:
            log.warning("%s", message)
            self.warnings.append(message)
        elif len(self.warnings) == MAX_WARNINGS:
            self.warnings.append("more warnings of this kind were left out")
