"""Effects of blocks of JSON text, against an automaton that goes byte by byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.formats.json_brackets import Effect, effects, safe_end, signs

#: a backslash and what it escapes come together
_TOKENS = [b'"', b"{", b"}", b"[", b"]", b",", b"\\\\", b'\\"', b"\\n", b"a", "é".encode()]
blocks = st.lists(st.sampled_from(_TOKENS), max_size=60).map(b"".join)


def naive(block: bytes, inside: bool) -> Effect:
    """One byte after the other. A backslash escapes, wherever it stands: outside of strings there is none."""
    depth = lowest = 0
    escaped = False
    for byte in block.decode():
        if escaped:
            escaped = False
        elif byte == "\\":
            escaped = True
        elif byte == '"':
            inside = not inside
        elif not inside and byte in "{[":
            depth += 1
        elif not inside and byte in "}]":
            depth -= 1
            lowest = min(lowest, depth)
    return Effect(inside, -lowest, depth)


@given(block=blocks)
def test_a_block_has_the_effect_of_its_bytes(block):
    assert effects(block) == (naive(block, False), naive(block, True))


@given(pieces=st.lists(blocks, max_size=6), inside=st.booleans())
def test_effects_compose(pieces, inside):
    state = Effect(inside, 0, 0)
    for piece in pieces:
        state = state.then(effects(piece)[state.inside])
    assert state == naive(b"".join(pieces), inside)


@given(depth=st.integers(0, 200), extra=st.integers(0, 3))
def test_deep_nesting_is_counted(depth, extra):
    block = b"]" * extra + b"[" * depth + b"]" * depth + b"{" * extra
    assert effects(block)[0] == Effect(False, extra, 0)
    assert effects(b"[]" * 50 + block)[0] == Effect(False, extra, 0)


def test_signs_are_those_outside_of_strings():
    text = b'ab,"]},{"[1,{"a\\",":2}'
    assert [text[sign.after - 1 :][:1] for sign in signs(text, 0, len(text), inside=False, depth=0)] == [
        b",",
        b"[",
        b",",
        b"{",
        b"}",
    ]
    assert [sign.depth for sign in signs(text, 0, len(text), inside=False, depth=0)] == [0, 1, 1, 2, 1]
    assert [sign.after for sign in signs(b'x,"],', 0, 5, inside=True, depth=3)] == [4, 5]
    assert list(signs(b'[],"abc', 3, 7, inside=False, depth=0)) == []


def test_a_block_never_ends_after_a_backslash():
    assert safe_end(b"ab\\\\", 0, 4) == 2
    assert safe_end(b"ab\\\\c", 0, 5) == 5
    assert safe_end(b"\\\\\\", 0, 3) == 0
