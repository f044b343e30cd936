"""Members change one by one, and all others keep their bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import TransformFailed
from chunkwise.core.records.raw_object import RawObject, describe
from tests.support.json_texts import KEYS, objects, pairs, raw_members, raw_values


@given(objects())
def test_an_object_that_was_only_read_is_the_same_text(made):
    text, members = made
    found = RawObject(text.encode())
    assert list(found) == [key for key, _ in members]
    for key, value in members:
        assert found.value(key) == value.encode()
        assert key in found
        found.open(key)
    assert found.encode() == text.encode()
    assert not found.changed


@given(objects(), st.data())
def test_setting_one_member_leaves_all_others(made, data):
    text, members = made
    key = data.draw(st.sampled_from([key for key, _ in members] + ["new"]))
    found = RawObject(text.encode())
    found.set(key, b'"set"')
    out = found.encode()
    assert raw_values(out) == {**dict(members), key: '"set"'}
    wanted = dict(pairs(text)[1]) | {key: "set"}
    assert pairs(out) == ("object", list(wanted.items()))


@given(objects(depth=3), st.data())
def test_a_change_deep_inside_leaves_everything_else(made, data):
    text, members = made
    inside = [key for key, value in members if value.startswith("{")]
    if not inside:
        return
    key = data.draw(st.sampled_from(inside))
    found = RawObject(text.encode())
    inner = found.open(key)
    assert inner is not None
    inner.set("deep", b"1.10")
    values = raw_values(found.encode())
    assert {k: v for k, v in values.items() if k != key} == {k: v for k, v in members if k != key}
    assert raw_values(values[key]) == {**raw_values(dict(members)[key]), "deep": "1.10"}


@given(objects(), st.data())
def test_the_spelling_of_a_key_stays(made, data):
    text, members = made
    if not members:
        return
    gone = data.draw(st.sampled_from([key for key, _ in members]))
    found = RawObject(text.encode())
    found.remove(gone)
    assert raw_members(found.encode()) == [pair for pair in raw_members(text) if json.loads(pair[0]) != gone]


DUPLICATES = [
    '{"a":1,"a":2}',
    '{"a":1,"b":2,"a":3}',
    '{"a":1,"b":2,"b":2}',
    '{"a":1,"a":[111111],"b":2}',
    '{"a":1,"a":{"zzzz":1},"b":2}',
    '{"a":1,"b":2,"a":{"b":2}}',
    '{"a":"xx","b":1,"a":"x"}',
    '{"a": 1, "a": 1}',
    '{"a":1,"\\u0061":2}',
    '{"\\u0061":1,"a":1}',
    '{"a":"\\ud800","b":1,"b":2}',
    '{"":1,"":1}',
    '{"a":12,"a":1,"b":2}',
    '{"a":1,"a":1 ,"b":2}',
]


@pytest.mark.parametrize("text", DUPLICATES)
def test_a_key_that_stands_twice_is_an_error(text):
    with pytest.raises(TransformFailed, match="stands twice"):
        RawObject(text.encode())


@given(objects(), objects(), st.sampled_from(KEYS))
def test_a_key_that_stands_twice_is_found_whatever_stands_between(one, other, key):
    members = one[0][1:-1].strip() or '"x0":0'
    more = other[0][1:-1].strip() or '"y0":0'
    name = json.dumps(key)
    for body in (f"{name}:1,{name}:{other[0]}", f"{name}:[1],{members},{name}:{other[0]}"):
        with pytest.raises(TransformFailed, match="stands twice"):
            RawObject(("{" + body + "}").encode())
    text = "{" + members + "," + more + "}"
    names = [found for found, _ in pairs(text)[1]]
    if len(set(names)) == len(names):
        assert list(RawObject(text.encode())) == names
    else:
        with pytest.raises(TransformFailed, match="stands twice"):
            RawObject(text.encode())


BROKEN = [
    *("", "{", "}", "{}}", '{"a"}', '{"a":}', '{"a":1,}', "{,}", '{"a":1 "b":2}', '{"a":1}x', "{1:2}"),
    *(
        '{"a":NaN}',
        '{"a":-Infinity}',
        '{"a":"\\ud800","b":NaN}',
        '{"a":"\\ud800",}',
        '{"a":"\\ud800"}x',
        '{"a":"\x01"}',
    ),
]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_not_json_is_an_error_that_does_not_quote_it(text):
    with pytest.raises(TransformFailed, match=r"not valid JSON|not an object") as caught:
        RawObject(text.encode())
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("text", ["[1]", '"secret"', "12345", "null", "true", " [1]"])
def test_only_an_object_is_a_record(text):
    with pytest.raises(TransformFailed, match="not an object") as caught:
        RawObject(text.encode())
    assert "secret" not in str(caught.value)
    assert "12345" not in str(caught.value)


def test_great_depth_is_an_error_or_kept():
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(TransformFailed, match="too deeply"):
        RawObject(b'{"a":' + deep + b"}")
    fine = b'{"a":' + deep[99_800:100_200] + b',"b":1}'
    found = RawObject(fine)
    found.set("b", b"2")
    assert found.encode() == fine.replace(b"1", b"2")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'"abc"', "a string of 3 characters"),
        (b'"\\u00e9"', "a string of 1 character"),
        (b"1.10", "a number of 4 characters"),
        (b"7", "a number of 1 character"),
        (b"-1", "a number of 2 characters"),
        (b"{}", "an object"),
        (b"[]", "an array"),
        (b"true", "a boolean"),
        (b"false", "a boolean"),
        (b"null", "null"),
    ],
)
def test_values_are_described_in_kind(value, text):
    assert describe(value) == text
