"""From a page request to an HTTP request: where it goes, what it carries, and whether that may go there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl, urldefrag, urljoin, urlsplit

from requests.structures import CaseInsensitiveDict

from chunkwise.core.errors import ConfigError, ForeignOrigin, InvalidEnvelope
from chunkwise.core.paging.exact_json import encode
from chunkwise.core.paging.model import BaseRequest, PageRequest
from chunkwise.core.paging.origin import Origin, is_secret_name, without_query
from chunkwise.core.selector import merge_body

# What another origin gets to see of the headers: nothing that could be a credential.
_HARMLESS: Final = ("accept", "accept-encoding", "accept-language", "user-agent")


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One HTTP request that is not signed yet.

    :param method: ``"GET"`` or ``"POST"``.
    :param url: absolute, perhaps with a query.
    :param query: parameters to add to that query, in order.
    :param headers: all but those that the session adds.
    :param body: encoded.
    :param origin: of the URL.
    :param own: whether it goes to the API itself; only then it is signed.
    """

    method: str
    url: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str]
    body: bytes | None = None
    origin: Origin
    own: bool

    @property
    def place(self) -> str:
        """Method and URL without its query, for texts."""
        return f"{self.method} {without_query(self.url)}"


class Addressing:
    """Makes calls of page requests and redirects, and refuses those that lead to a foreign origin.

    :param base: what all pages share. Its URL decides which origin is the API's own.
    :param allowed_origins: others that links and redirects may lead to. They get no credentials,
        no cookies, no base parameters and no request body.
    :raises ConfigError: for a base URL or an origin that is none.
    """

    def __init__(self, base: BaseRequest, allowed_origins: Collection[str] = ()) -> None:
        self._base = base
        self.origin = _configured("the URL of the API", base.url)
        if isinstance(allowed_origins, str):
            raise ConfigError("allowed_origins is a list of origins, not a text")
        self._allowed = {
            _configured("one of allowed_origins", text, exactly=True) for text in allowed_origins
        }

    def call(self, page: PageRequest) -> Call:
        """The call for one page.

        :raises ForeignOrigin: if its URL leads to an origin that is not allowed.
        :raises InvalidEnvelope: if its URL is none.
        """
        base = self._base
        headers = CaseInsensitiveDict(base.headers)
        headers.update(page.headers)
        method = base.method.upper()
        body = None
        if base.json is not None or page.body:
            body = encode(merge_body(base.json, page.body))
            headers.setdefault("Content-Type", "application/json")
        if page.url is None:
            query = _query({**base.params, **page.query})
            call = Call(
                method=method,
                url=base.url,
                query=query,
                headers=headers,
                body=body,
                origin=self.origin,
                own=True,
            )
        else:
            url, origin, problem = _resolve(base.url, page.url)
            if origin is None:
                raise (ForeignOrigin if _names_user(url) else InvalidEnvelope)(
                    f"the link to the next page cannot be followed: {problem}"
                )
            call = Call(
                method=method,
                url=url,
                query=_query(page.query),
                headers=headers,
                body=body,
                origin=origin,
                own=True,
            )
            call = self._at_home(call, "the link to the next page") if origin != self.origin else call
        return call

    def redirected(self, call: Call, url: str, status: int, location: str) -> Call:
        """The call that a redirect asks for (RFC 9110, 15.4).

        POST becomes GET on 301, 302 and 303, as all clients do; 307 and 308 repeat the request. Once a
        redirect has led away from the API, no later one leads credentials back to it.

        :param url: that answered.
        :raises ForeignOrigin: if it leads to an origin that is not allowed.
        """
        target, origin, problem = _resolve(
            url, location.encode("latin-1", "replace").decode("utf-8", "replace")
        )
        if origin is None:
            raise ForeignOrigin(f"the redirect of {call.place} cannot be followed: {problem}")
        following = replace(call, url=target, origin=origin, query=())
        if status == 303 or (status in (301, 302) and call.method == "POST"):
            headers = CaseInsensitiveDict(call.headers)
            headers.pop("Content-Type", None)
            following = replace(following, method="GET", body=None, headers=headers)
        if origin != self.origin:  # a call that is not the API's own stays so, whatever it comes back to
            following = self._at_home(following, f"the redirect of {call.place}")
        return following

    def _at_home(self, call: Call, what: str) -> Call:
        """The call without anything that only the API itself may see.

        :raises ForeignOrigin: if it may not be made at all.
        """
        if call.origin != self.origin and call.origin not in self._allowed:
            raise ForeignOrigin(
                f"{what} leads from {self.origin} to {call.origin}: it is not followed;"
                f" name {call.origin} in allowed_origins if that is right (it gets no credentials)"
            )
        if call.body is not None:
            raise ForeignOrigin(
                f"{what} leads from {self.origin} to {call.origin}:"
                " a request body is not sent to another origin"
            )
        shared = set(parse_qsl(urlsplit(call.url).query)) & set(_query(self._base.params))
        if any(is_secret_name(name) for name, _ in shared):
            raise ForeignOrigin(
                f"{what} leads from {self.origin} to {call.origin} with a credential of the API in its query:"
                " it is not followed"
            )
        headers = {name: value for name, value in call.headers.items() if name.lower() in _HARMLESS}
        return replace(call, headers=CaseInsensitiveDict(headers), query=(), own=False)


def _query(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names and values as text: ``true``, ``false``, every digit of a number, lists repeated, no ``None``."""
    return tuple(
        (name, _query_value(name, item))
        for name, value in params.items()
        for item in (value if isinstance(value, list | tuple) else (value,))
        if item is not None
    )


def _query_value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | Decimal):
        return str(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise ConfigError(
        f"the query parameter {name!r} is a {type(value).__name__}:"
        " give a string, a number, a date or a list of them"
    )


def _resolve(base: str, reference: str) -> tuple[str, Origin | None, str]:
    """An absolute URL and its origin, or ``None`` and why there is none, which quotes nothing of it."""
    url = ""
    try:
        url = urldefrag(urljoin(base, reference.strip())).url
        return url, Origin.of(url), ""
    except ValueError as error:
        return url, None, str(error) if url else "it is not a URL"


def _names_user(url: str) -> bool:
    return "@" in url.partition("://")[2].partition("/")[0]


def _configured(what: str, text: str, *, exactly: bool = False) -> Origin:
    problem = ""
    try:
        return Origin.exactly(text) if exactly else Origin.of(text)
    except ValueError as error:
        problem = str(error)
    raise ConfigError(f"{what} cannot be used: {problem}")
