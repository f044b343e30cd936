"""The elements of an array are what a parser finds in it, however windows and pieces are cut."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import RecordError
from chunkwise.core.queue import elements
from chunkwise.core.queue.elements import array_elements

TEXTS = st.text(st.sampled_from('a{}[],:"\\ \u00e9'), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)
ROOM = 10_000


def found(text: bytes, window: int, piece: int, longest: int = ROOM) -> list[bytes]:
    pieces = [text[start : start + piece] for start in range(0, len(text), piece)]
    with patch.object(elements, "_WINDOW", window):
        return list(array_elements(pieces, longest=longest))


@given(
    values=st.lists(OBJECTS) | st.lists(VALUES),
    indent=st.none() | st.integers(0, 2),
    window=st.integers(1, 60),
    piece=st.integers(1, 60),
)
def test_every_element_comes_out_as_it_stands_there(
    values: list[Any], indent: int | None, window: int, piece: int
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    some = found(b" \n" + text + b"\n", window, piece)
    assert [json.loads(one) for one in some] == values
    assert all(one.strip() in text for one in some)


@given(
    values=st.lists(OBJECTS, min_size=1),
    at=st.integers(0),
    bad=st.sampled_from(["", "{", "}", "{,}", '{"a"}', "[}", "nul", "]", '"', "{} {}"]),
    window=st.integers(1, 60),
)
def test_a_text_that_is_no_array_is_refused(values: list[Any], at: int, bad: str, window: int) -> None:
    texts = [json.dumps(value) for value in values]
    texts.insert(at % (len(texts) + 1), bad)
    with pytest.raises(RecordError, match="it is no JSON"):
        found(f"[{','.join(texts)}]".encode(), window, 7)


@pytest.mark.parametrize(
    "text", [b"", b"  ", b"{}", b"[", b"[{}", b"[{},", b"[{}]]", b"[{}] 1", b"[,{}]", b"[{},]"]
)
@pytest.mark.parametrize("window", [1, 4, 100])
def test_a_text_that_is_cut_off_or_goes_on_is_refused(text: bytes, window: int) -> None:
    with pytest.raises(RecordError, match="it is no JSON"):
        found(text, window, 3)


@given(values=st.lists(OBJECTS, min_size=1), window=st.integers(1, 60))
def test_objects_that_only_json_can_hold_come_out_too(values: list[Any], window: int) -> None:
    texts = [json.dumps(value) for value in values]
    texts.insert(len(texts) // 2, r'{"half":"\ud800"}')
    assert found(f"[{', '.join(texts)}]".encode(), window, 11) == [text.encode() for text in texts]


@pytest.mark.parametrize("window", [1, 1_000])
def test_a_long_element_is_refused(window: int) -> None:
    text = b'[{},{"a":"' + b"x" * 100 + b'"},{}]'
    assert len(found(text, window, 5, 108)) == 3
    with pytest.raises(RecordError, match="more than 107 bytes"):
        found(text, window, 5, 107)
