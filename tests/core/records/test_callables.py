"""Python functions as transforms: what they touch is encoded exactly, and what they don't keeps its bytes."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import Killed, TransformFailed
from chunkwise.core.records.transforms import Rename, compile_transforms
from tests.support.json_texts import objects, raw_values

NAMES = st.sampled_from(["a", "b", "c", "é", 'q"', "\ud800"])
records = objects(names=NAMES)


def apply(record, *functions):
    made = compile_transforms(functions)(record.encode() if isinstance(record, str) else record)
    return None if made is None else made.decode()


def copied(value):
    """Equal, and not one object the same."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    return float(repr(value)) if isinstance(value, float) else value


@pytest.mark.parametrize("function", [lambda r: r, lambda r: {**r}, copied], ids=["same", "shallow", "deep"])
@given(made=records)
def test_a_record_that_was_not_touched_is_the_same_text(function, made):
    assert apply(made[0], function) == made[0]


@given(records, NAMES, st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2))
def test_what_was_not_touched_keeps_its_bytes(made, key, value):
    text, members = made
    out = apply(text, lambda record: {**record, key: value})
    found = raw_values(out)
    for other, item in members:
        if other != key:
            assert found[other] == item
    assert json.loads(found[key]) == value
    assert list(json.loads(out)) == list(dict(members) | {key: None})


@given(records, NAMES)
def test_a_change_deep_inside_a_value_is_seen(made, key):
    text, members = made

    def touch(record):
        value = record.get(key)
        if isinstance(value, list) and "inf" not in repr(value):
            value.append(1)
        elif isinstance(value, dict):
            value["new"] = {"x": [1]}
        return record

    found = raw_values(apply(text, touch))
    old = dict(members).get(key, "null")
    assert {k: v for k, v in found.items() if k != key} == {k: v for k, v in members if k != key}
    if old.startswith("{"):
        assert raw_values(found[key]) == {**raw_values(old), "new": '{"x":[1]}'}
    elif old.startswith("[") and "E400" not in old:
        assert json.loads(found[key]) == [*json.loads(old), 1]
    elif key in found:
        assert found[key] == old


@pytest.mark.parametrize(
    ("before", "after"),
    [("1", 1.0), ("1", True), ("1.0", 1), ("true", 1), ("0.0", -0.0), ("0", False), ("null", 0), ('"1"', 1)],
)
def test_another_type_is_a_change_even_where_python_calls_it_equal(before, after):
    wanted = json.dumps(after)
    assert apply(f'{{"x":{before}}}', lambda _: {"x": after}) == f'{{"x":{wanted}}}'
    assert apply(f'{{"x":[{before}]}}', lambda _: {"x": [after]}) == f'{{"x":[{wanted}]}}'
    assert apply(f'{{"x":{{"y":{before}}}}}', lambda _: {"x": {"y": after}}) == f'{{"x":{{"y":{wanted}}}}}'


def test_another_order_is_a_change():
    assert apply('{"x":{"a":1,"b":1.10}}', lambda _: {"x": {"b": 1.1, "a": 1}}) == '{"x":{"b":1.10,"a":1}}'
    assert apply('{"a":1.10,"b":2}', lambda r: {"b": r["b"], "a": r["a"]}) == '{"b":2,"a":1.10}'


def test_a_value_that_was_moved_keeps_its_bytes():
    record = '{"a":1.10,"b":{"x":1E2,"y":[ 1.50 ]},"c":"\\u0041bc"}'
    moved = apply(record, lambda r: {"A": r["a"], "B": r["b"], "C": r["c"], "again": r["a"]})
    assert moved == '{"A":1.10,"B":{"x":1E2,"y":[ 1.50 ]},"C":"\\u0041bc","again":1.10}'

    def move_and_change(record):
        record["b"]["x"] = 3
        return {"B": record["b"]}

    assert apply(record, move_and_change) == '{"B":{"x":3,"y":[1.5]}}'


def test_an_object_that_changed_keeps_the_bytes_of_the_rest():
    record = '{"m":{"\\u0061": 1.10,"deep":{"x":1E400,"y":2, "z":[ 1.10 ]},"l":[1.10,{"q":1.10}]}}'

    def deep(record):
        record["m"]["deep"]["y"] = 3
        return record

    assert apply(record, deep) == (
        '{"m":{"\\u0061":1.10,"deep":{"x":1E400,"y":3,"z":[ 1.10 ]},"l":[1.10,{"q":1.10}]}}'
    )

    def keep_both(record):
        return {"m": {**record["m"], "deep": None}, "old": record["m"]}

    assert apply('{"m":{"a":1.10,"deep":1E2}}', keep_both) == (
        '{"m":{"a":1.10,"deep":null},"old":{"a":1.10,"deep":1E2}}'
    )


def test_a_list_that_changed_is_encoded_as_a_whole():
    assert apply('{"l":[1.10,2]}', lambda r: {"l": [*r["l"], 3]}) == '{"l":[1.1,2,3]}'
    with pytest.raises(TransformFailed, match="field 'l': NaN and Infinity"):
        apply('{"l":[1E400]}', lambda r: {"l": [*r["l"], 3]})


def test_an_error_inside_an_object_names_its_place():
    with pytest.raises(TransformFailed, match=r"field 'm\.x'"):
        apply('{"m":{"a":1}}', lambda r: {"m": {**r["m"], "x": b""}})


def test_numbers_are_plain_and_integers_exact():
    seen = {}

    def look(record):
        seen.update(record)
        return record

    text = '{"a":123456789012345678901234567890,"b":1.5,"c":1E400,"d":-0,"e":1e2}'
    assert apply(text, look) == text
    assert seen == {"a": 123456789012345678901234567890, "b": 1.5, "c": float("inf"), "d": 0, "e": 100.0}
    assert [type(value) for value in seen.values()] == [int, float, float, int, float]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**70, "1180591620717411303424"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+400"), "1E+400"),
        (datetime(2023, 12, 21, 10, 11, 12, 123456, tzinfo=UTC), '"2023-12-21T10:11:12.123456Z"'),
        (date(2023, 12, 21), '"2023-12-21"'),
        ((1, "é", None), '[1,"é",null]'),
        ({"x": [Decimal("0.10")]}, '{"x":[0.10]}'),
        ("\u2028\n", '"\u2028\\n"'),
        ("\ud800", '"\\ud800"'),
        ({"\ud800": ["\udfff", Decimal("1.0")]}, '{"\\ud800":["\\udfff",1.0]}'),
    ],
)
def test_new_values_are_encoded_exactly(value, text):
    assert apply('{"a":1}', lambda r: {**r, "x": value}) == f'{{"a":1,"x":{text}}}'


class Colour(Enum):
    RED = 1


ENDLESS: list = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (float("nan"), "NaN and Infinity"),
        ([{"y": float("-inf")}], "NaN and Infinity"),
        (Decimal("NaN"), "NaN and Infinity"),
        (b"secret", "a bytes is no JSON value"),
        ({1: 2}, "a key is a int"),
        ({"y": {None: 1}}, "a key is a NoneType"),
        ({1, 2}, "a set is no JSON value"),
        (Colour.RED, "a Colour is no JSON value"),
        (object(), "a object is no JSON value"),
        pytest.param(10**5_000, "no JSON text", id="a great integer"),
        (ENDLESS, "nested too deeply"),
    ],
)
def test_a_value_that_is_no_json_fails_without_being_quoted(value, match):
    with pytest.raises(TransformFailed, match=match) as caught:
        apply('{"a":null}', lambda _: {"x": value})
    assert "field 'x'" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nan_in_the_place_of_null_is_seen():
    with pytest.raises(TransformFailed, match="NaN"):
        apply('{"x":{"y":null}}', lambda _: {"x": {"y": float("nan")}})


def test_none_leaves_the_record_out_and_ends_the_chain():
    def never(record):
        raise AssertionError

    assert apply('{"a":1}', lambda _: None, never) is None


@pytest.mark.parametrize("result", [[], "x", 1, True, [("a", 1)]])
def test_anything_but_a_dict_or_none_fails(result):
    with pytest.raises(TransformFailed, match=f"returned a {type(result).__name__}, not a dict or None"):
        apply('{"a":1}', lambda _: result)


def test_a_key_must_be_a_string():
    with pytest.raises(TransformFailed, match="returned a key that is a int"):
        apply('{"a":1}', lambda _: {1: 1})


def explode(record):
    return int(record["name"])


class Callable:
    def __call__(self, record):
        raise KeyError(record["name"])


@pytest.mark.parametrize(
    ("function", "name", "cause"),
    [(explode, "explode raised ValueError", ValueError), (Callable(), "Callable raised KeyError", KeyError)],
)
def test_an_exception_is_named_with_its_function_and_chained_not_quoted(function, name, cause):
    with pytest.raises(TransformFailed, match=name) as caught:
        apply('{"name":"John Doe"}', function)
    assert "John" not in str(caught.value)
    assert isinstance(caught.value.__cause__, cause)


def test_a_function_can_refuse_a_record_in_its_own_words():
    def refuse(record):
        raise TransformFailed("too old")

    with pytest.raises(TransformFailed, match=r"refuse refused the record: too old"):
        apply("{}", refuse)


@pytest.mark.parametrize("error", [Killed("stop"), KeyboardInterrupt(), SystemExit(1)])
def test_what_ends_a_run_is_not_taken_for_a_bad_record(error):
    def end(record):
        raise error

    with pytest.raises(type(error)):
        apply("{}", end)


def test_a_value_that_python_cannot_have_fails():
    with pytest.raises(TransformFailed, match="too long or too deep for Python"):
        apply('{"a":' + "1" * 5_000 + "}", lambda r: r)


def test_functions_and_declarative_transforms_share_a_list():
    text = '{"m":{"a":1.10},"n":2}'
    chain = [Rename(mapping={"m.a": "b"}), lambda r: {**r, "n": r["n"] + 1}, Rename(mapping={"m": "M"})]
    assert apply(text, *chain) == '{"M":{"b":1.10},"n":3}'
