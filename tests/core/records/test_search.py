"""The fast searches find what a plain search finds."""

from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.records import search

alphabet = st.binary(max_size=60) | st.text(alphabet='ab"\\u0\0', max_size=60).map(str.encode)


@given(alphabet, st.text(alphabet='ab"\\u\0', min_size=1, max_size=5).map(str.encode))
def test_contains_is_in(text, needle):
    assert search.contains(text, needle) == (needle in text)
    assert search._plain(text, needle) == (needle in text)
