"""Keep what a request carries out of error texts and logs."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import requests

_HIDDEN: Final = "***"

# Too short to be a secret, and to be looked for in a text without spoiling it.
_SHORTEST: Final = 3

# Request headers that say nothing worth hiding.
_OPEN_HEADERS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "content-length",
        "content-type",
        "user-agent",
    }
)

_MESSAGE_LENGTH: Final = 200

# These write whole request targets to the log, at DEBUG and, for odd response headers, at WARNING.
_TALKATIVE: Final = ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry")
_QUERY: Final = re.compile(r"\?[^\s\"'()]+")

_our_request: ContextVar[bool] = ContextVar("chunkwise_request", default=False)


def status_text(place: str, status: int) -> str:
    """Which request got which status. The phrase is the standard one: a server's own could say anything."""
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    return f"{place} answered {status}{phrase}"


def error_message(document: Any, sent: Iterable[requests.PreparedRequest]) -> str | None:
    """What an error body says, at most 200 characters, with everything hidden that the requests carried.

    Only a string at ``message``, ``error`` or ``detail`` (or at one of them inside ``error``) is taken: other
    members may hold anything.
    """
    text = _message(document)
    if text is None:
        return None
    for value in sorted(carried(sent), key=len, reverse=True):
        text = re.sub(re.escape(value), _HIDDEN, text, flags=re.IGNORECASE)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + "..."


def carried(sent: Iterable[requests.PreparedRequest]) -> set[str]:
    """Every value that requests carried in headers, queries and bodies, in all forms that may be quoted."""
    values: set[str] = set()
    for request in sent:
        for name, header in request.headers.items():
            if name.lower() not in _OPEN_HEADERS:
                values |= set(_header_values(_text(header)))
        values |= {value for _, value in parse_qsl(urlsplit(request.url or "").query)}
        values |= set(_body_values(request.body))
    values |= {
        form
        for value in values
        for form in (quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1])
    }
    return {value for value in values if len(value) >= _SHORTEST}


@contextmanager
def hidden_queries() -> Iterator[None]:
    """While this is open, the log lines that urllib3 writes in this thread or task show no query."""
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_hide_query)  # adding it again changes nothing
    token = _our_request.set(True)
    try:
        yield
    finally:
        _our_request.reset(token)


def _hide_query(record: logging.LogRecord) -> bool:
    if _our_request.get():
        if str(record.msg).startswith("Failed to parse headers"):
            return False  # it quotes headers of the answer, and the answer is refused
        record.msg, record.args = _QUERY.sub("?" + _HIDDEN, record.getMessage()), ()
    return True


def _message(document: Any) -> str | None:
    if not isinstance(document, dict):
        return None
    for name in ("message", "error", "detail"):
        value = document.get(name)
        if isinstance(value, str) and value.strip():
            return value
    inner = document.get("error")
    return _message({**inner, "error": None}) if isinstance(inner, dict) else None


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _header_values(header: str) -> Iterator[str]:
    yield header.strip()
    for word in re.split(r"[\s,;]+", header):
        yield word
        yield word.partition("=")[2].strip('"')
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() == "basic":
        try:
            user = base64.b64decode(encoded).decode("utf-8", "replace")
        except binascii.Error:
            return
        yield user
        yield from user.split(":", 1)


def _body_values(body: Any) -> Iterator[str]:
    if not isinstance(body, str | bytes) or not body:
        return
    try:
        pending = [json.loads(body)]
    except ValueError:
        yield from (value for _, value in parse_qsl(_text(body)))
        return
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif value is not None and not isinstance(value, bool):
            yield str(value)
