"""A body is rows, all of it or none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import RecordError
from chunkwise.core.queue.bodies import records

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), min_size=1, max_size=5)


@given(rows=ROWS, ascii_only=st.booleans(), blank=st.booleans())
def test_json_lines_come_out_line_by_line(rows: list[dict[str, Any]], ascii_only: bool, blank: bool) -> None:
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "replace") for row in rows]
    gap = b"\r\n\n" if blank else b"\n"
    assert records(gap.join(lines)) == lines


@given(row=st.dictionaries(st.text(), VALUES, max_size=4), indent=st.integers(0, 4))
def test_one_object_in_any_layout_is_one_line(row: dict[str, Any], indent: int) -> None:
    (line,) = records(json.dumps(row, indent=indent).encode())
    assert b"\n" not in line
    assert json.loads(line) == row


@given(
    rows=ROWS, bad=st.sampled_from(["[1]", "1", '"x"', "null", "{", "{}{}", '{"a":}', "x"]), data=st.data()
)
def test_one_bad_line_refuses_the_whole_body_and_is_named(
    rows: list[dict[str, Any]], bad: str, data: st.DataObject
) -> None:
    lines = [json.dumps(row) for row in rows]
    at = data.draw(st.integers(0, len(lines)))
    lines.insert(at, bad)
    with pytest.raises(RecordError, match=rf"^line {at + 1} of the body is "):
        records("\n".join(lines).encode())


@pytest.mark.parametrize(
    "row",
    [
        b'{"n":123456789012345678901234567890}',
        b'{"n":1.10}',
        rb'{"s":"\ud800"}',
        b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
    ids=["wide integer", "kept zero", "lone surrogate", "deep"],
)
def test_rows_keep_their_bytes(row: bytes) -> None:
    assert records(row) == [row]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b"[]", "the body is an array, not an object"),
        (b"{'secret': 1}", "the body is not JSON from byte 1 on"),
        (b'{"a":"\xff"}', "the body is not UTF-8 at byte 6"),
    ],
    ids=["empty", "blank", "array", "quotes", "latin-1"],
)
def test_a_refusal_says_why_and_holds_no_data(body: bytes, why: str) -> None:
    with pytest.raises(RecordError) as refused:
        records(body)
    assert str(refused.value) == why
