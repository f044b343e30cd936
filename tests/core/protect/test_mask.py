"""What is masked cannot be seen, and what is to be kept can."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.mask import MaskOptions, MaskProtector
from tests.core.protect.support import task


def mask(*values, **options):
    return MaskProtector(MaskOptions(**options)).protect(task(), values)


@pytest.mark.parametrize(
    ("options", "value", "masked"),
    [
        ({}, "secret", "******"),
        ({}, "", ""),
        ({"keep_last": 4}, "4111111111111234", "************1234"),
        ({"keep_first": 1, "keep_last": 1, "character": "x"}, "Müller", "Mxxxxr"),
        ({"keep_last": 4}, "1234", "****"),
        ({"keep_last": 4}, "12", "**"),
        ({"keep_first": 2, "keep_last": 2}, "abcd", "****"),
        ({"keep_first": 2, "keep_last": 2}, "abcde", "ab*de"),
        ({"length": 5}, "a", "*****"),
        ({"length": 5}, "", "*****"),
        ({"keep_first": 1, "keep_last": 2, "length": 3}, "abcdefgh", "a***gh"),
        ({"keep_first": 1, "keep_last": 2, "length": 3}, "abc", "***"),
        ({"keep_first": 3}, "\U0001f600bcd", "\U0001f600bc*"),
    ],
)
def test_masks(options, value, masked):
    assert mask(value, **options) == [masked]


@given(
    st.lists(st.text("abcü\U0001f600", max_size=12)),
    st.integers(0, 5),
    st.integers(0, 5),
    st.none() | st.integers(1, 5),
)
def test_nothing_but_the_kept_ends_is_shown(values, first, last, length):
    options = {"keep_first": first, "keep_last": last, "length": "same" if length is None else length}
    for value, masked in zip(values, mask(*values, **options), strict=True):
        shown = len(value) > first + last
        hidden = len(value) - (first + last if shown else 0)
        middle = "*" * (hidden if length is None else length)
        start, end = (value[:first], value[len(value) - last :]) if shown else ("", "")
        assert masked == start + middle + end


def test_a_mask_cannot_be_taken_off():
    with pytest.raises(ConfigError, match=r"column 'card'.*'mask'"):
        MaskProtector(MaskOptions()).protect(task(operation="unprotect"), ["***"])
