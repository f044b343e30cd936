"""Paths into a page body."""

from __future__ import annotations

import copy
import json
from decimal import Decimal

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, InvalidEnvelope
from chunkwise.core.paging import MISSING, Selector
from chunkwise.core.selector import merge_body, set_path


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("", ()),
        ("$", ()),
        ("@", ()),
        ("data", ("data",)),
        ("meta.page.total", ("meta", "page", "total")),
        ("$.meta.next", ("meta", "next")),
        ("hydra:view.hydra:next", ("hydra:view", "hydra:next")),
        ("a-b.c_d.$ref", ("a-b", "c_d", "$ref")),
        ("data.@count", ("data", "@count")),
        ("title.$", ("title", "$")),
        ("größe", ("größe",)),
        ('"@odata.nextLink"', ("@odata.nextLink",)),
        ('"@graph".next', ("@graph", "next")),
        ('meta."a.b"."c d"', ("meta", "a.b", "c d")),
        ('"$"', ("$",)),
        (r'"say \"hi\""', ('say "hi"',)),
        (["@odata.nextLink"], ("@odata.nextLink",)),
        (("a.b", "$", ""), ("a.b", "$", "")),
        ([], ()),
    ],
)
def test_a_plain_path_is_its_keys(path, keys):
    assert Selector.compile(path).keys == keys


@pytest.mark.parametrize("path", ["items[-1].id", "a || b", "!isLast", "length(x) > `0`", "a.*.b", "{a: b}"])
def test_anything_else_is_jmespath(path):
    assert Selector.compile(path).keys is None


@pytest.mark.parametrize(
    "path", ["a[", "a..b", ".a", "a.", "a b", "$.items[0]", "a?.b", "a,b", "no_such_function(", "\\", "'"]
)
def test_a_text_that_is_neither_is_refused_when_it_is_compiled(path):
    with pytest.raises(ConfigError, match="neither a dotted path nor a JMESPath expression"):
        Selector.compile(path)


@pytest.mark.parametrize(
    ("path", "way_out"),
    [("links.0.href", r"\[0\]"), ("@odata.nextLink", "@odata.nextLink"), ("a@b.c", "double quotes")],
)
def test_a_path_that_would_quietly_find_nothing_is_refused(path, way_out):
    with pytest.raises(ConfigError, match=way_out):
        Selector.compile(path)


def test_a_key_that_is_not_a_string_is_refused():
    with pytest.raises(ConfigError, match="must be strings"):
        Selector.compile(["a", 1])


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"a": {"b": 1}}, 1),
        ({"a": {"b": None}}, None),
        ({"a": {"b": []}}, []),
        ({"a": {"b": False}}, False),
        ({"a": {}}, MISSING),
        ({"a": None}, MISSING),
        ({"a": [{"b": 1}]}, MISSING),
        ({"a": "b"}, MISSING),
        ([], MISSING),
        (None, MISSING),
    ],
)
def test_missing_null_and_empty_are_told_apart(document, found):
    assert Selector.compile("a.b").get(document) is found or Selector.compile("a.b").get(document) == found
    assert (Selector.compile("a.b").get(document) is MISSING) == (found is MISSING)


def test_the_document_itself():
    assert Selector.compile("$").get([1]) == [1]


def test_jmespath_keeps_the_digits_of_a_number():
    assert str(Selector.compile("a[0]").get({"a": [Decimal("1.10")]})) == "1.10"


def test_jmespath_null_counts_as_missing():
    assert Selector.compile("a[0]").get({"a": []}) is MISSING
    assert Selector.compile("a | b").get({"a": {"b": None}}) is MISSING


@pytest.mark.parametrize(
    "document", [{"token": "s3cr3t"}, {"token": [Decimal("1.5"), "s3cr3t"]}, {"token": {"s3cr3t": 1}}]
)
def test_a_function_that_does_not_fit_is_typed_and_quotes_no_value(document):
    with pytest.raises(InvalidEnvelope) as caught:
        Selector.compile("sum(token)").get(document)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__suppress_context__


_KEYS = st.lists(st.text(max_size=5), min_size=1, max_size=4)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(keys=_KEYS, value=_JSON)
def test_any_keys_lead_to_what_was_set_there(keys, value):
    document = set_path(None, keys, value)
    assert Selector.compile(keys).get(document) == value
    text = str(Selector.compile(keys))
    assert Selector.compile(text).keys == tuple(keys)
    assert Selector.compile(".".join(json.dumps(key) for key in keys)).get(document) == value


@given(
    keys=st.lists(st.from_regex(r"[a-z_][a-z0-9_]{0,3}", fullmatch=True), min_size=1, max_size=3),
    document=_JSON,
)
def test_a_plain_path_finds_what_jmespath_finds(keys, document):
    found = Selector.compile(".".join(keys)).get(document)
    assert (None if found is MISSING else found) == jmespath.search(".".join(keys), document)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@given(text=st.text(alphabet='ab.$@"`[]*|&!(){}?\\ 0', max_size=8), document=_JSON)
def test_any_text_is_a_selector_or_a_config_error(text, document):
    try:
        selector = Selector.compile(text)
    except ConfigError:
        return
    try:
        selector.get(document)
    except InvalidEnvelope:
        assert selector.keys is None


def test_an_error_inside_jmespath_is_typed_too():
    with pytest.raises(InvalidEnvelope, match="ValueError"):
        Selector.compile("a[::0]").get({"a": [1]})


def test_set_path_copies_and_never_changes():
    body = {"page": {"size": 5, "sort": ["a"]}, "filter": {"x": 1}}
    before = copy.deepcopy(body)
    assert set_path(body, "page.after", "c") == {
        "page": {"size": 5, "sort": ["a"], "after": "c"},
        "filter": {"x": 1},
    }
    assert body == before


def test_merge_body_sets_every_dotted_key():
    merged = merge_body({"page": {"sort": "x"}}, {"page.after": 0, "page.size": 2, "all": True})
    assert merged == {"page": {"sort": "x", "after": 0, "size": 2}, "all": True}


@pytest.mark.parametrize("path", ["", "$", "items[0]"])
def test_a_body_name_must_be_a_plain_path(path):
    with pytest.raises(ConfigError, match="names no member"):
        set_path({}, path, 1)


@pytest.mark.parametrize("inner", [1, "x", [1], None])
def test_a_body_name_does_not_lead_through_something_else(inner):
    with pytest.raises(ConfigError, match="'page' is no object there"):
        set_path({"page": inner}, "page.after", 1)
