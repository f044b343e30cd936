"""Where a paginator's own values go in a request: query, body or header."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from itertools import permutations
from typing import Any, Literal

from chunkwise.core.errors import ConfigError, InvalidEnvelope
from chunkwise.core.paging.model import Page, PageRequest
from chunkwise.core.paging.rules import place, type_name
from chunkwise.core.selector import Selector, merge_body

SendAs = Literal["query", "body", "header"]


def request_with(send_as: SendAs, members: Mapping[str, Any]) -> PageRequest:
    """The request that carries ``members`` in its query, its body or its headers.

    A header value is text; so is a number with a fraction in a query, which keeps its digits that way. In a
    body such a number stays a ``Decimal``.
    """
    if send_as == "body":
        return PageRequest(body=dict(members))
    if send_as == "header":
        return PageRequest(headers={name: str(value) for name, value in members.items()})
    return PageRequest(
        query={name: str(value) if isinstance(value, Decimal) else value for name, value in members.items()}
    )


def send_cursor(
    page: Page,
    cursor: Any,
    *,
    found_at: str,
    send_as: SendAs,
    name: str,
    structured: bool = False,
    beside: Mapping[str, Any] | None = None,
) -> PageRequest:
    """The request that carries a cursor, if it is a value that can be one.

    :param found_at: where in the page it was found, for error texts.
    :param structured: whether it may be an object or array.
    :param beside: what the request carries besides.
    :raises InvalidEnvelope: for a value that cannot be sent; its text does not quote it.
    """
    compound = isinstance(cursor, list | Mapping)
    if compound and not structured:
        raise InvalidEnvelope(
            f"{place(page)} has {type_name(cursor)} as its cursor at {found_at}: correct the path, or give"
            " structured=True with send_as='body' if the API wants all of it back"
        )
    if not compound and not _is_scalar(cursor):
        raise InvalidEnvelope(
            f"{place(page)} has {type_name(cursor)} as its cursor at {found_at}:"
            " a cursor is a string or a finite number"
        )
    if send_as == "header" and not str(cursor).isprintable():
        raise InvalidEnvelope(
            f"{place(page)} has a cursor at {found_at} with control characters: it cannot be sent as a header"
        )
    return request_with(send_as, {**(beside or {}), name: cursor})


def members_of(send_as: SendAs, request: PageRequest) -> Mapping[str, Any]:
    """The members of a request where :func:`request_with` put them."""
    return {"query": request.query, "body": request.body, "header": request.headers}[send_as]


def check_names(send_as: SendAs, *names: str | None) -> None:
    """Refuse names that cannot stand side by side in one request; ``None`` is a value that is not sent.

    :raises ConfigError: for a name given twice, or a body path that another one leads through.
    """
    given = [name.lower() if send_as == "header" else name for name in names if name is not None]
    if send_as == "body":  # one path may be written in several ways
        given = [str(Selector.compile(Selector.compile(name).keys or name)) for name in given]
    if len(set(given)) < len(given):
        raise ConfigError(f"the same {send_as} name is given twice: {', '.join(map(repr, given))}")
    if send_as == "body":
        for names in permutations(given):  # a later name would replace what an earlier one leads through
            merge_body(None, dict.fromkeys(names, 0))


def _is_scalar(cursor: Any) -> bool:
    if isinstance(cursor, float | Decimal):
        return math.isfinite(cursor)
    return isinstance(cursor, str | int) and not isinstance(cursor, bool)
