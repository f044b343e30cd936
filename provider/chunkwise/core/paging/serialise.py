"""Paginators as JSON objects with a ``type``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields
from typing import Any, Final

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging.cursor import CursorPaginator, HeaderCursorPaginator
from chunkwise.core.paging.last_record import LastRecordPaginator
from chunkwise.core.paging.links import JsonLinkPaginator, LinkHeaderPaginator
from chunkwise.core.paging.offset import OffsetPaginator
from chunkwise.core.paging.page_number import PageNumberPaginator
from chunkwise.core.paging.rules import PagingRules
from chunkwise.core.paging.single_page import SinglePagePaginator

#: every paginator that can be saved: a new one is added here
PAGINATORS: Final[tuple[type[PagingRules], ...]] = (
    CursorPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    LinkHeaderPaginator,
    JsonLinkPaginator,
    HeaderCursorPaginator,
    LastRecordPaginator,
    SinglePagePaginator,
)
_BY_KIND: Final = {paginator.kind: paginator for paginator in PAGINATORS}


def paginator_to_json(paginator: object) -> dict[str, Any]:
    """The JSON object of a paginator: its ``type`` and its fields, defaults among them.

    A field that is ``None`` by default and not set is left out. Numbers with a fraction are ``Decimal``:
    encode with
    :func:`exact_json.encode`.

    :raises ConfigError: for a paginator that is not one of Chunkwise's own.
    """
    if not isinstance(paginator, PagingRules) or type(paginator) not in PAGINATORS:
        known = ", ".join(kind.__name__ for kind in PAGINATORS)
        raise ConfigError(
            f"{type(paginator).__name__} cannot be saved as JSON, only {known} can:"
            " use one of them where the paginator travels in a manifest, or run it in one task"
        )
    members: dict[str, Any] = {"type": paginator.kind}
    for field in fields(paginator):
        value = getattr(paginator, field.name)
        if value is not None or field.default is not None:
            members[field.name] = list(value) if isinstance(value, tuple) else value
    return members


def paginator_from_json(members: Mapping[str, Any]) -> PagingRules:
    """The inverse of :func:`paginator_to_json`. Fields with a default may be left out.

    :raises ConfigError: for an unknown type, an unknown or missing field, or a value that cannot be.
    """
    if not isinstance(members, Mapping):
        raise ConfigError("a paginator must be a JSON object with a 'type'")
    tag = members.get("type")
    kind = _BY_KIND.get(tag) if isinstance(tag, str) else None
    if kind is None:
        raise ConfigError(f"paginator type {tag!r} is unknown; known are {_listed(_BY_KIND)}")
    known = {field.name: field for field in fields(kind)}
    given = {name: value for name, value in members.items() if name != "type"}
    if unknown := sorted(map(str, given.keys() - known.keys())):
        raise ConfigError(f"paginator {kind.kind!r} has no field {_listed(unknown)}; it has {_listed(known)}")
    required = {name for name, field in known.items() if field.default is NO_DEFAULT}
    if missing := sorted(required - given.keys()):
        raise ConfigError(f"paginator {kind.kind!r} lacks the field {_listed(missing)}")
    return kind(**given)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
