"""Tokens are HMAC-SHA-256 under a key of their data element."""

import base64

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.hmac_tokens import HmacOptions, HmacProtector, _base64url, _hex, keyed_states
from tests.core.protect.support import task

KEY = "0123456789abcdef0123456789abcdef"


def by_cryptography(key: bytes, element: bytes, value: bytes) -> bytes:
    """The same by another library (RFC 5869, RFC 2104)."""
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=b"chunkwise/protect/hmac/1", info=element)
    mac = HMAC(derived.derive(key), hashes.SHA256())
    mac.update(value)
    return mac.finalize()


@given(
    st.binary(min_size=32, max_size=100).map(bytes.hex),
    st.text(min_size=1),
    st.lists(st.text(), max_size=5),
)
def test_tokens_are_those_of_the_standards(key, element, values):
    expected = [by_cryptography(key.encode(), element.encode(), value.encode()) for value in values]
    item = task(data_element=element)
    assert HmacProtector(HmacOptions(), key).protect(item, values) == [mac.hex() for mac in expected]
    assert HmacProtector(HmacOptions(encoding="base64url"), key).protect(item, values) == [
        base64.urlsafe_b64encode(mac).decode().rstrip("=") for mac in expected
    ]


@pytest.mark.parametrize(
    ("key", "data", "mac"),
    [
        (
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            b"\xaa" * 20,
            b"\xdd" * 50,
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            bytes(range(1, 26)),
            b"\xcd" * 50,
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
    ],
)
def test_the_cases_of_rfc_4231(key, data, mac):
    assert _hex([data], *keyed_states(key)) == [mac]
    assert (
        _base64url([data, data], *keyed_states(key))
        == [base64.urlsafe_b64encode(bytes.fromhex(mac)).decode().rstrip("=")] * 2
    )


def test_tokens_stay_what_they_are():
    """A token of today is joined with one of next year. Computed once with `openssl dgst -mac HMAC`."""
    found = HmacProtector(HmacOptions(), KEY).protect(task(data_element="deEmail"), ["a@example.com"])
    assert found == ["940429e553fb619694f8a1ab8f3bc1963ca1a6c94a1eef3030afd565b2c179ca"]


def test_equal_values_of_other_elements_or_keys_have_other_tokens():
    one, other = HmacProtector(HmacOptions(), KEY), HmacProtector(HmacOptions(), KEY[::-1])
    items = [task("a", data_element="x"), task("a", data_element="y")]
    found = [protector.protect(item, ["v"])[0] for protector in (one, other) for item in items]
    assert len(set(found)) == 4


def test_columns_with_the_same_element_can_be_joined():
    protector = HmacProtector(HmacOptions(), KEY)
    assert protector.protect(task("a"), ["v"]) == protector.protect(task("b"), ["v"])


def test_every_text_has_a_token_of_its_own_even_one_that_is_no_unicode():
    values = ["", "a", "A", "a ", "ü", "u\u0308", "\ud800", "\udc80", "\udcff", "\0", "\U0001f600"]
    tokens = HmacProtector(HmacOptions(), KEY).protect(task(), values)
    assert len(set(tokens)) == len(values)
    assert tokens[1] == HmacProtector(HmacOptions(), KEY).protect(task(), ["a"])[0]


@pytest.mark.parametrize("length", [16, 43, None])
@pytest.mark.parametrize("encoding", ["hex", "base64url"])
def test_length_and_prefix(encoding, length):
    whole = HmacProtector(HmacOptions(encoding=encoding), KEY).protect(task(), ["v", "w"])
    options = HmacOptions(encoding=encoding, length=length, prefix="tok_")
    assert HmacProtector(options, KEY).protect(task(), ["v", "w"]) == [
        "tok_" + token[:length] for token in whole
    ]


def test_no_values_give_no_tokens():
    assert HmacProtector(HmacOptions(), KEY).protect(task(), []) == []


def test_a_token_cannot_be_turned_back():
    with pytest.raises(ConfigError, match=r"column 'card'.*'hmac' cannot be turned back"):
        HmacProtector(HmacOptions(), KEY).protect(task(operation="unprotect"), ["v"])


def test_a_key_is_measured_in_bytes():
    assert HmacProtector(HmacOptions(), "ü" * 16).protect(task(), ["v"])


@pytest.mark.parametrize("key", ["", "x" * 31, "ü" * 15])
def test_a_short_key_is_refused_and_not_shown(key):
    with pytest.raises(ConfigError, match=f"{len(key.encode())} bytes: give at least 32") as caught:
        HmacProtector(HmacOptions(), key)
    assert not key or key not in str(caught.value)
