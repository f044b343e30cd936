"""Which texts are JSON, against Python's json and the cases of RFC 8259."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.formats.json_check import fault
from chunkwise.core.formats.json_members import members
from tests.support.json_chunks import objects, spelled, values

_SIGNS = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    '"',
    "a",
    "1",
    "-",
    "0",
    ".",
    "e",
    "\\",
    "u00e9",
    "true",
    "null",
    " ",
    "\n",
    "\x01",
]


def refuse(name: str) -> None:
    raise ValueError(name)


def is_json(text: str) -> bool:
    try:
        # Python's json strips what str.strip() does; and takes NaN
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


@given(text=st.lists(st.sampled_from(_SIGNS), max_size=12).map("".join))
def test_junk_is_json_where_python_says_so(text):
    assert (fault(text.encode()) is None) == is_json(text)


@given(data=st.data(), value=values)
def test_json_has_no_fault_and_a_cut_one_has(data, value):
    text = data.draw(spelled(value, lines=False)).encode()
    assert fault(text) is None
    cut = text[: data.draw(st.integers(0, len(text)))]
    assert (fault(cut) is None) == is_json(cut.decode(errors="replace"))


@pytest.mark.parametrize(
    "text",
    [
        b"[NaN]",
        b"[Infinity]",
        b"[01]",
        b"[1.]",
        b"[.5]",
        b"[+1]",
        b"[1e]",
        b"['a']",
        b'["\\x"]',
        b'["\\u12"]',
        b'["a\tb"]',
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[1",
        b"1]",
        b"[1}",
        b'{"a":}',
        b'{"a"}',
        b"{1:2}",
        b'{"a":1,}',
        b"",
        b" ",
        b"[]]",
        b"tru",
        b"[\x0c]",
        b"[\xc2\xa0]",
        b"\xef\xbb\xbf[]",
        b'{"a" "b"}',
        b'{,"a":1}',
        b"[:]",
        b"nul",
        b"-",
        b'"',
    ],
)
def test_what_rfc_8259_refuses(text):
    assert fault(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b" [ ] ",
        b"{}",
        b'[""]',
        b"[-0]",
        b"[1E+2]",
        b'["\\ud800"]',
        b'["\\/\\b"]',
        b"[" * 9999 + b"]" * 9999,
        b'{"a":1,"a":2}',
        b"\r\n1\t",
        b'"\x7f"',
        b'"\xe2\x80\xa8"',
        b"[1e-2,0.50]",
        b"7" * 9999,
    ],
)
def test_what_rfc_8259_allows(text):
    assert fault(text) is None


def test_the_fault_is_where_no_valid_text_can_go_on():
    assert fault(b'{"a": 1, b}') == 9
    assert fault(b"[1, 2") == 5
    assert fault(b"[1] x") == 4


@given(data=st.data(), record=objects)
def test_members_are_those_of_the_object(data, record):
    text = data.draw(spelled(record, lines=False)).encode()
    found = list(members(text))
    assert [member.key for member in found] == list(record)
    assert [json.loads(text[member.start : member.end]) for member in found] == list(record.values())
    assert [member.nested for member in found] == [
        isinstance(value, dict | list) for value in record.values()
    ]


def test_members_come_as_often_as_they_stand_there():
    text = b'{"a":[{"a":"]"}],"\\u0061":{} ,"a" : 1.0}'
    assert [(member.key, text[member.start : member.end]) for member in members(text)] == [
        ("a", b'[{"a":"]"}]'),
        ("a", b"{}"),
        ("a", b"1.0"),
    ]
