"""Who a URL belongs to: scheme, host and port decide whether credentials may go there."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote_plus, urlsplit, urlunsplit

import idna

_PORTS = {"http": 80, "https": 443}

# Parsers disagree on all of these, and a disagreement is a way to another host. A space in a query is common
# (OData).
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[a-z0-9._-]+")

# Names of query parameters that hold a credential, in the spellings that are common.
_SECRET_NAME = re.compile(
    r"(?:^|[_\-.\[])(?:token|secret|password|passwd|pwd|credential|signature|sig|auth|authorization|session)s?(?:$|[_\-.\]])"
    r"|api[_\-]?key|access[_\-]?key|app[_\-]?key|app[_\-]?id|subscription[_\-]?key|access[_\-]?token|^key$|^jwt$"
    r"|(?:token|secret|password|apikey)$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL (RFC 6454): ``http`` and ``https`` differ, and so do two ports.

    :param scheme: ``"http"`` or ``"https"``.
    :param host: lower-case, in ASCII (IDNA), an IP address in its shortest form.
    :param port: a number, also where the URL has the default.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an absolute URL.

        :raises ValueError: for anything but an absolute HTTP URL without user name and password. The text
            quotes nothing of the URL.
        """
        if _CONTROL.search(url):
            raise ValueError("it holds a control character")
        parts, port = _split(url)
        if parts.scheme not in _PORTS:
            raise ValueError("it is not an absolute http or https URL")
        if "@" in parts.netloc:
            raise ValueError("it holds a user name or password")
        if not parts.hostname:
            raise ValueError("it names no host")
        return cls(parts.scheme, _host(parts.hostname), _PORTS[parts.scheme] if port is None else port)

    @classmethod
    def exactly(cls, text: str) -> Origin:
        """The origin that a text such as ``"https://cdn.example.com"`` names, and nothing more than that.

        :raises ValueError: also for a text with a path, a query or a fragment.
        """
        origin = cls.of(text)
        parts = urlsplit(text)
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("an origin has no path and no query")
        return origin

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def is_secret_name(name: str) -> bool:
    """Whether a query parameter of this name is taken for a credential."""
    return _SECRET_NAME.search(name) is not None


def without_credentials(url: str) -> str:
    """A URL without user name, password, fragment, and query parameters that look like credentials."""
    parts = urlsplit(url)
    kept = [
        pair for pair in parts.query.split("&") if not is_secret_name(unquote_plus(pair.partition("=")[0]))
    ]
    return urlunsplit(
        SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "&".join(kept), "")
    )


def without_query(url: str) -> str:
    """A URL for an error text: without user name, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit(SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _split(url: str) -> tuple[SplitResult, int | None]:
    problem = None
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError:
        problem = ValueError("it is not a URL")
    raise problem  # outside of the except block: the parser's text quotes the URL


def _host(host: str) -> str:
    try:
        return ipaddress.ip_address(host).compressed
    except ValueError:
        pass
    ascii_host = host.lower()
    if not host.isascii():
        ascii_host = ""
        with contextlib.suppress(idna.IDNAError):
            ascii_host = idna.encode(host, uts46=True).decode("ascii")
    if not _HOST.fullmatch(ascii_host):
        raise ValueError("its host is not a valid name")
    return ascii_host
