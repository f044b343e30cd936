"""Paginators as JSON, and JSON that keeps every digit."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError
from chunkwise.core.paging import (
    CursorPaginator,
    HeaderCursorPaginator,
    JsonLinkPaginator,
    LastRecordPaginator,
    LinkHeaderPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    SinglePagePaginator,
    exact_json,
    paginator_from_json,
    paginator_to_json,
)
from chunkwise.core.paging.serialise import PAGINATORS

_NAME = st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True)
_PATH = (
    _NAME
    | st.lists(_NAME, min_size=1, max_size=3).map(".".join)
    | st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3).map(tuple)
)
_NUMBER = st.integers() | st.decimals(allow_nan=False, allow_infinity=False)
_STATUSES = st.lists(st.integers(400, 599), max_size=3).map(tuple)
_TOTAL = st.one_of(
    st.just({}), st.fixed_dictionaries({"total_path": _PATH}), st.fixed_dictionaries({"total_header": _NAME})
)
_OPTIONAL_RULES = st.fixed_dictionaries({}, optional={"has_more_path": _PATH, "end_statuses": _STATUSES})
_SEND_AS = st.sampled_from(["query", "body", "header"])


def _fields(required, optional, more=None):
    return st.builds(
        lambda *parts: {key: value for part in parts for key, value in part.items()},
        st.fixed_dictionaries(required, optional=optional),
        _OPTIONAL_RULES,
        _TOTAL,
        more or st.just({}),
    )


_EMPTY = {"on_empty_page": st.sampled_from(["stop", "continue", "fail"])}
_PAGINATORS = st.one_of(
    _fields(
        {"cursor_path": _PATH, "name": _NAME},
        {
            "send_as": _SEND_AS,
            "end_values": st.lists(st.none() | st.booleans() | st.text(max_size=3) | _NUMBER, max_size=3).map(
                tuple
            ),
            "initial": st.text(max_size=3) | _NUMBER,
            "always_present": st.booleans(),
            **_EMPTY,
        },
    ).map(lambda members: CursorPaginator(**members)),
    _fields(
        {"limit": st.integers(1, 999)},
        {
            "offset": st.integers(0, 99),
            "limit_name": st.none() | st.just("n"),
            "offset_name": st.just("skip"),
            "send_as": _SEND_AS,
        },
    ).map(lambda members: OffsetPaginator(**members)),
    _fields(
        {},
        {
            "first_page": st.integers(0, 9),
            "size": st.integers(1, 9),
            "send_as": _SEND_AS,
            "total_pages_header": _NAME,
        },
    ).map(lambda members: PageNumberPaginator(**members)),
    _fields({}, {"rel": _NAME, "header": _NAME, **_EMPTY}).map(
        lambda members: LinkHeaderPaginator(**members)
    ),
    _fields({"next_path": _PATH}, {"always_present": st.booleans(), **_EMPTY}).map(
        lambda members: JsonLinkPaginator(**members)
    ),
    _fields({"header": _NAME, "name": _NAME}, {"send_as": _SEND_AS, **_EMPTY}).map(
        lambda members: HeaderCursorPaginator(**members)
    ),
    _fields({"name": st.just("after")}, {"field_path": _PATH, "size": st.integers(1, 9)}).map(
        lambda members: LastRecordPaginator(**members)
    ),
    _fields({}, _EMPTY).map(lambda members: SinglePagePaginator(**members)),
)


@given(_PAGINATORS)
def test_any_paginator_comes_back_from_json(paginator):
    members = paginator_to_json(paginator)
    assert paginator_from_json(members) == paginator
    text = exact_json.encode(members)
    again = paginator_from_json(exact_json.decode(text))
    assert again == paginator
    assert exact_json.encode(paginator_to_json(again)) == text


@pytest.mark.parametrize(
    ("members", "paginator"),
    [
        (
            {"type": "cursor", "cursor_path": "next", "name": "after"},
            CursorPaginator(cursor_path="next", name="after"),
        ),
        ({"type": "offset", "limit": 5}, OffsetPaginator(limit=5)),
        ({"type": "offset", "limit": 5, "limit_name": None}, OffsetPaginator(limit=5, limit_name=None)),
        ({"type": "page_number"}, PageNumberPaginator()),
        ({"type": "link_header"}, LinkHeaderPaginator()),
        ({"type": "json_link", "next_path": ["a.b"]}, JsonLinkPaginator(next_path=("a.b",))),
        ({"type": "header_cursor", "header": "X", "name": "p"}, HeaderCursorPaginator(header="X", name="p")),
        ({"type": "last_record", "name": "starting_after"}, LastRecordPaginator(name="starting_after")),
        ({"type": "single_page"}, SinglePagePaginator()),
    ],
)
def test_the_form_that_a_user_writes(members, paginator):
    assert paginator_from_json(members) == paginator


def test_defaults_are_written_out():
    """A saved run keeps its meaning when a later version has other defaults."""
    assert paginator_to_json(OffsetPaginator(limit=5, limit_name=None)) == {
        "type": "offset",
        "limit": 5,
        "offset": 0,
        "limit_name": None,
        "offset_name": "offset",
        "send_as": "query",
        "stop_on_short_page": False,
        "end_statuses": [],
    }


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({}, "type None is unknown; known are 'cursor', 'offset', 'page_number', 'link_header', 'json_link'"),
        ({"type": "cursors"}, "'cursors' is unknown"),
        ({"type": ["cursor"]}, "is unknown"),
        ({"type": "offset", "limit": 1, "step": 2}, "'offset' has no field 'step'; it has .*'limit'"),
        ({"type": "offset", "limit": 1, "kind": "x", "_on_empty_page": 1}, "'_on_empty_page', 'kind'"),
        ({"type": "cursor", "name": "a"}, "'cursor' lacks the field 'cursor_path'"),
        ({"type": "offset"}, "lacks the field 'limit'"),
        ({"type": "offset", "limit": "5"}, "limit: Expected `int`, got `str`"),
        ({"type": "offset", "limit": 0}, "limit"),
        ("cursor", "must be a JSON object"),
        (None, "must be a JSON object"),
    ],
)
def test_json_that_is_no_paginator_is_refused_by_name(members, named):
    with pytest.raises(ConfigError, match=named):
        paginator_from_json(members)


def test_a_paginator_of_another_kind_cannot_be_saved():
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Mine(SinglePagePaginator):
        mine: int = 0

    for thing in (object(), Mine(), SinglePagePaginator, None):
        with pytest.raises(ConfigError, match="cannot be saved as JSON, only CursorPaginator"):
            paginator_to_json(thing)


def test_every_paginator_has_a_type_of_its_own_and_no_field_of_that_name():
    assert len({paginator.kind for paginator in PAGINATORS}) == len(PAGINATORS)
    assert all(field.name != "type" for paginator in PAGINATORS for field in fields(paginator))


@given(st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text())
def test_exact_json_keeps_every_value(value):
    again = exact_json.decode(exact_json.encode({"value": value}))["value"]
    assert again == value
    assert str(again) == str(value) or (isinstance(value, Decimal) and type(again) is int)


@pytest.mark.parametrize("text", ["1.10", "-0.0", "1E+400", "0.1234567890123456789012345", str(2**200)])
def test_exact_json_keeps_every_digit(text):
    assert exact_json.encode(exact_json.decode(text.encode())) == text.encode()


@pytest.mark.parametrize("text", [b'{"a": NaN, "b": 1.10}', rb'{"a": "\ud800", "b": 1.10}'])
def test_exact_json_reads_what_the_standard_library_reads(text):
    assert exact_json.decode(text).keys() == json.loads(text).keys()
    assert str(exact_json.decode(text)["b"]) == "1.10"


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": 1} x', b'"\xff"'])
def test_exact_json_refuses_what_is_no_json(text):
    with pytest.raises(ValueError, match=r"."):
        exact_json.decode(text)
