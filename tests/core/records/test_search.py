"""The fast searches find what a plain search finds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.records import search

alphabet = st.binary(max_size=60) | st.text(alphabet='ab"\\u0', max_size=60).map(str.encode)


@given(alphabet, st.text(alphabet='ab"\\u', min_size=1, max_size=5).map(str.encode))
def test_contains_is_in(text, needle):
    assert search.contains(text, needle) == (needle in text)
    assert search._plain(text, needle) == (needle in text)


@given(st.text(alphabet='ab"\\u\x01é', max_size=40), st.integers(0, 30))
def test_a_unicode_escape_is_seen_and_an_escaped_backslash_is_none(value, quotes):
    text = json.dumps('"\\' * quotes + value)
    plain = json.dumps('"\\' * quotes + value, ensure_ascii=False).replace("\\u0001", "")
    assert search.has_unicode_escape(text.encode()) == ("\x01" in value or "é" in value)
    assert not search.has_unicode_escape(plain.encode())


@pytest.mark.parametrize("escapes", [10, 1000])
def test_many_escapes_hide_none(escapes):
    assert search.has_unicode_escape(rb"\n" * escapes + rb"\u0061")
    assert not search.has_unicode_escape(rb"\n" * escapes)
