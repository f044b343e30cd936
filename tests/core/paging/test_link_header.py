"""The Link header of RFC 8288."""

from __future__ import annotations

import pytest
import requests.utils
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.paging.link_header import Link, parse_link_header


@pytest.mark.parametrize(
    ("value", "links"),
    [
        ("", []),
        ('<http://h/2>; rel="next"', [("http://h/2", ("next",))]),
        ('</2>;rel="next"', [("/2", ("next",))]),
        ("<2>; rel=next", [("2", ("next",))]),
        ('<2>; REL="NEXT"', [("2", ("next",))]),
        ("<2> ;  Rel = Next ", [("2", ("next",))]),
        ('<2>; rel="next last"', [("2", ("next", "last"))]),
        ('<2>; rel=" prev\tNEXT "', [("2", ("prev", "next"))]),
        ('<1>; rel="prev", <2>; rel="next"', [("1", ("prev",)), ("2", ("next",))]),
        ("<1>; rel=prev,<2>; rel=next", [("1", ("prev",)), ("2", ("next",))]),
        ('<2?a=1,2;b=3>; rel="next"', [("2?a=1,2;b=3", ("next",))]),
        ('<1>; title="a, <x>; rel=next"; rel="prev", <2>; rel="next"', [("1", ("prev",)), ("2", ("next",))]),
        (r'<1>; title="a \" , b"; rel="prev", <2>; rel="next"', [("1", ("prev",)), ("2", ("next",))]),
        ('<2>; rel="next"; rel="prev"', [("2", ("next",))]),
        ('<2>; rel="prev"; rel="next"', [("2", ("prev",))]),
        ('<2>; results="true"; rel="next"', [("2", ("next",))]),
        ("<2>; crossorigin; rel=next;", [("2", ("next",))]),
        ("<2>;; rel=next", [("2", ("next",))]),
        (r'<2>; rel="ne\xt"', [("2", ("next",))]),
        ("<2>", [("2", ())]),
        ("<>; rel=next", [("", ("next",))]),
        (", ,<2>; rel=next, ,", [("2", ("next",))]),
        ('<2>; rel="http://rels.example/next NEXT"', [("2", ("http://rels.example/next", "next"))]),
        ("<2>; title*=UTF-8''n%c3%a4chste; rel=next", [("2", ("next",))]),
    ],
)
def test_links_of_a_header(value, links):
    found, clean = parse_link_header(value)
    assert [(link.target, link.relations) for link in found] == links
    assert clean


def test_the_anchor_is_told():
    assert parse_link_header('<2>; rel=next; anchor="/other"; anchor="/more"')[0] == [
        Link("2", ("next",), "/other")
    ]


@pytest.mark.parametrize(
    ("value", "targets"),
    [
        ("http://h/2; rel=next", []),
        ("<2; rel=next", []),
        ("<1; rel=prev, <2>; rel=next", ["2"]),
        ("<1> rel=prev, <2>; rel=next", ["2"]),
        ('<1>; rel="prev, <2>; rel=next', ["2"]),
        ('junk "a, <x>", <2>; rel=next', ["2"]),
        ('<1>; rel="prev"x, <2>; rel=next', ["2"]),
        ("<1>; =x, <2>; rel=next", ["2"]),
    ],
)
def test_a_malformed_link_is_left_out_and_told(value, targets):
    found, clean = parse_link_header(value)
    assert [link.target for link in found] == targets
    assert not clean


@given(st.text(alphabet='<>;,="\\ \trelnxt/é', max_size=40))
def test_no_header_crashes_the_parser(value):
    found, clean = parse_link_header(value)
    assert all("<" not in link.target and ">" not in link.target for link in found)
    assert clean or value


_TARGET = st.text(alphabet="abc/?&=,;%.:\"' ", max_size=12).map(str.strip)
_TOKEN = st.sampled_from(["next", "NEXT", "prev", "last", "first", "http://r/x"])
_TEXT = st.text(alphabet='ab,;<>=" \\', max_size=8)


@st.composite
def _links(draw):
    links = []
    for _ in range(draw(st.integers(0, 4))):
        relations = draw(st.lists(_TOKEN, max_size=3))
        links.append((draw(_TARGET), relations, draw(st.none() | _TEXT), draw(st.booleans())))
    return links


def _quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(_links())
def test_a_written_header_reads_back(links):
    """Whatever stands in targets and titles, a header by the grammar gives its links."""
    parts = []
    for target, relations, title, title_first in links:
        parameters = [f"rel={_quoted(' '.join(relations))}"] if relations else []
        if title is not None:
            parameters.insert(0 if title_first else len(parameters), f"title={_quoted(title)}")
        parts.append("; ".join([f"<{target}>", *parameters]))
    found, clean = parse_link_header(", ".join(parts))
    assert clean
    assert [(link.target, link.relations) for link in found] == [
        (target, tuple(name.lower() for name in relations)) for target, relations, _, _ in links
    ]


@given(st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), min_size=1, max_size=4, unique=True))
def test_a_simple_header_reads_as_requests_reads_it(names):
    value = ", ".join(f'<https://h/{name}?p=1>; rel="{name}"' for name in names)
    assert [(link.target, *link.relations) for link in parse_link_header(value)[0]] == [
        (link["url"], link["rel"]) for link in requests.utils.parse_header_links(value)
    ]
