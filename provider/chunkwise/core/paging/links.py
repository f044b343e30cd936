"""Paginators that follow a link to the next page: in the Link header, or in the page body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urldefrag, urljoin, urlsplit

from chunkwise.core.errors import InvalidEnvelope
from chunkwise.core.paging.link_header import parse_link_header
from chunkwise.core.paging.model import Page, PageRequest, Stop, StopReason
from chunkwise.core.paging.rules import Name, PagingRules, Path, place, read_header, read_path, type_name
from chunkwise.core.selector import MISSING, Selector


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkHeaderPaginator(PagingRules):
    """Follow the ``rel="next"`` link of the Link header (RFC 8288), as GitHub sends it.

    The run ends with a page that has no such link. Several relations in one link, any case, and targets
    relative to the page are understood; a link of another resource (``anchor``) is not followed. A header
    without such a link that could not be read as a whole, or one that names two different next pages, is an
    :class:`InvalidEnvelope`.

    :param rel: the relation to follow.
    :param header: name of the header.
    """

    kind: ClassVar[str] = "link_header"

    rel: Name = "next"
    header: Name = "Link"

    def _next(self, _request: PageRequest, page: Page, has_more: bool | None, /) -> PageRequest | Stop:
        if stop := self._empty_end(page):
            return stop
        found_at = f"the header {self.header!r}"
        links, clean = parse_link_header(read_header(page.headers, self.header) or "")
        targets = {
            _resolve(page, link.target, found_at)
            for link in links
            if self.rel.lower() in link.relations
            and (link.anchor is None or _resolve(page, link.anchor, found_at) == page.url)
        }
        if len(targets) == 1:
            return PageRequest(url=urldefrag(targets.pop()).url)
        if targets:
            raise InvalidEnvelope(
                f"{place(page)} names {len(targets)} different {self.rel!r} links in {found_at}"
            )
        if not clean:
            raise InvalidEnvelope(
                f"{place(page)} has something in {found_at} that is not a link as in RFC 8288"
            )
        if has_more:
            raise self._no_way_on(page, f"has no {self.rel!r} link in {found_at}")
        return Stop(StopReason.NO_NEXT_LINK)


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonLinkPaginator(PagingRules):
    """Follow the URL of the next page that stands in the page body.

    The run ends when it is missing, ``null`` or ``""``. It may be relative to the page (RFC 3986).

    :param next_path: path of the URL in the page body, e.g. ``"links.next"`` or ``'"@odata.nextLink"'``.
    :param always_present: whether every page has the member, the last one with ``null`` or ``""``; a page
        without it is then an :class:`InvalidEnvelope`.
    """

    kind: ClassVar[str] = "json_link"

    next_path: Path
    always_present: bool = False

    def _check(self) -> None:
        if self.always_present and Selector.compile(self.next_path).keys is None:
            raise self._refuse("always_present needs a plain path: JMESPath cannot tell missing from null")

    def _next(self, _request: PageRequest, page: Page, has_more: bool | None, /) -> PageRequest | Stop:
        if stop := self._empty_end(page):
            return stop
        found_at = f"next_path = {self.next_path!r}"
        link = read_path(page, self.next_path)
        if link is MISSING and self.always_present:
            raise InvalidEnvelope(
                f"{place(page)} has no member at {found_at}, and always_present says it must"
            )
        if link is MISSING or link is None or link == "":
            if has_more:
                raise self._no_way_on(page, f"has no link at {found_at}")
            return Stop(StopReason.NO_NEXT_LINK)
        if not isinstance(link, str):
            raise InvalidEnvelope(f"{place(page)} has {type_name(link)} at {found_at}, where a URL must be")
        return PageRequest(url=urldefrag(_resolve(page, link, found_at)).url)


def _resolve(page: Page, reference: str, found_at: str) -> str:
    """A URI reference of a page as an absolute URL (RFC 3986, 5)."""
    try:
        url = urljoin(page.url, reference)
        _ = urlsplit(url).port  # parsed only when asked for
    except ValueError:
        # The parser's text quotes the link, and with it perhaps a token.
        raise InvalidEnvelope(f"{place(page)} has a link in {found_at} that is not a URL") from None
    return url
