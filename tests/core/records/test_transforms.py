"""Declarative transforms: what they change, and that they change nothing else."""

import hashlib
import hmac
import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, TransformFailed
from chunkwise.core.paging import exact_json
from chunkwise.core.records.transforms import (
    TRANSFORMS,
    AlignTimestamps,
    Cast,
    Drop,
    Flatten,
    Hash,
    Keep,
    Rename,
    SetConstant,
    compile_transforms,
    transform_from_json,
    transform_to_json,
)
from tests.support.json_texts import objects, raw_values

NAMES = ["a", "b", "c", "d", "é", "a.b", 'q"', ""]
names = st.sampled_from(NAMES)
few = st.lists(names, min_size=1, max_size=4, unique=True)
records = objects(names=names)


def path(key):
    """A key as a path, which has dots and signs of its own in quotes."""
    return json.dumps(key)


def apply(record, *transforms, **secrets):
    made = compile_transforms(transforms, secrets=secrets)(
        record if isinstance(record, bytes) else record.encode()
    )
    return None if made is None else made.decode()


def members(text):
    """The members in their order, with the text of each value."""
    found = json.loads(text, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
    values = raw_values(text)
    assert len(found) == len(values)
    return [(key, values[key]) for key in found]


def fails(record, *transforms, match):
    with pytest.raises(TransformFailed, match=match):
        apply(record, *transforms)


# --- lossless -----------------------------------------------------------------------------------------------


@given(records)
def test_no_transform_gives_the_same_text(made):
    assert apply(made[0]) == made[0]


@given(records, few)
def test_what_is_not_dropped_stays_as_it_is(made, fields):
    text, before = made
    out = apply(text, Drop(fields=[path(f) for f in fields], missing="skip"))
    assert members(out) == [(k, v) for k, v in before if k not in fields]
    if not {key for key, _ in before} & set(fields):
        assert out == text


@given(records, few)
def test_what_is_kept_stays_as_it_is(made, fields):
    text, before = made
    out = apply(text, Keep(fields=[path(f) for f in fields], missing="skip"))
    assert members(out) == [(k, v) for k, v in before if k in fields]


@given(
    records,
    st.dictionaries(names, st.sampled_from([*NAMES, "new", "é2"]), min_size=1, max_size=4),
    st.booleans(),
)
def test_renamed_members_keep_place_and_value(made, mapping, overwrite):
    text, before = made
    present = [key for key, _ in before]
    renamed = [mapping.get(key, key) for key in present]
    transform = Rename(mapping={path(k): v for k, v in mapping.items()}, missing="skip", overwrite=overwrite)
    moved = [mapping[key] for key in present if key in mapping]
    if len(set(moved)) < len(moved) or (len(set(renamed)) < len(renamed) and not overwrite):
        fails(text, transform, match="Rename, field ")
        return
    out = apply(text, transform)
    wanted = [
        (new, value)
        for (old, value), new in zip(before, renamed, strict=True)
        if old in mapping or old not in moved
    ]
    assert members(out) == wanted


@given(
    records,
    st.dictionaries(names, st.integers() | st.text(max_size=3), min_size=1, max_size=3),
    st.booleans(),
)
def test_constants_are_set_in_place_or_at_the_end(made, values, overwrite):
    text, before = made
    transform = SetConstant(values={path(k): v for k, v in values.items()}, overwrite=overwrite)
    if not overwrite and {key for key, _ in before} & values.keys():
        fails(text, transform, match="SetConstant, field .*already")
        return
    out = members(apply(text, transform))
    old = dict(before)
    assert [key for key, _ in out] == [*old, *(key for key in values if key not in old)]
    for key, value in out:
        if key in values:
            assert json.loads(value) == values[key]
        else:
            assert value == old[key]


@given(records, names, st.sampled_from(["_", ".", ""]))
def test_a_flattened_object_leaves_its_members_in_its_place(made, field, separator):
    text, before = made
    transform = Flatten(field=path(field), separator=separator, missing="skip")
    value = dict(before).get(field)
    if value is None or value == "null":
        assert apply(text, transform) == text
        return
    if not value.startswith("{"):
        fails(text, transform, match="Flatten, field .*not an object")
        return
    inner = [(f"{field}{separator}{key}", item) for key, item in members(value)]
    if {key for key, _ in inner} & {key for key, _ in before if key != field}:
        fails(text, transform, match="Flatten, field .*already")
        return
    wanted = [pair for key, item in before for pair in (inner if key == field else [(key, item)])]
    assert members(apply(text, transform)) == wanted


def test_nested_members_change_where_they_are():
    record = '{"m": {"a": 1.10 ,"k":{"x":[ 1 ]},"b":"2"}, "n":1E400}'
    assert apply(record, Drop(fields=["m.k"])) == '{"m":{"a":1.10,"b":"2"},"n":1E400}'
    assert apply(record, Keep(fields=["m.k.x"])) == '{"m":{"k":{"x":[ 1 ]}}}'
    assert apply(record, Rename(mapping={"m.a": "z", "m": "mm"})) == (
        '{"mm":{"z":1.10,"k":{"x":[ 1 ]},"b":"2"},"n":1E400}'
    )
    assert apply(record, Cast(fields=["m.b"], to="integer")) == (
        '{"m":{"a":1.10,"k":{"x":[ 1 ]},"b":2},"n":1E400}'
    )
    assert apply(record, Flatten(field="m.k")) == '{"m":{"a":1.10,"k_x":[ 1 ],"b":"2"},"n":1E400}'
    assert apply('{"a":1}', SetConstant(values={"m.x.y": Decimal("1.10")})) == '{"a":1,"m":{"x":{"y":1.10}}}'


def test_transforms_run_in_their_order():
    chain = [
        Flatten(field="m"),
        Rename(mapping={"m_a": "a"}),
        Cast(fields=["a"], to="string"),
        Keep(fields=["a"]),
        SetConstant(values={"b": None}),
    ]
    assert apply('{"m":{"a":1.10,"c":2}}', *chain) == '{"a":"1.10","b":null}'


def test_keys_can_be_swapped():
    assert apply('{"a":1,"b":2}', Rename(mapping={"a": "b", "b": "a"})) == '{"b":1,"a":2}'


def test_overwrite_lets_the_other_member_go():
    assert apply('{"a":1,"b":2}', Rename(mapping={"a": "b"}, overwrite=True)) == '{"b":1}'
    assert apply('{"m":{"x":1},"m_x":2}', Flatten(field="m", overwrite=True)) == '{"m_x":1}'


# --- missing, null, other kinds -----------------------------------------------------------------------------

EVERY_FIELD = [
    Drop(fields=["m.x"]),
    Keep(fields=["m.x"]),
    Rename(mapping={"m.x": "y"}),
    Cast(fields=["m.x"], to="string"),
    Hash(fields=["m.x"]),
    AlignTimestamps(fields=["m.x"]),
    Flatten(field="m.x"),
]


@pytest.mark.parametrize("transform", EVERY_FIELD, ids=lambda t: t.kind)
@pytest.mark.parametrize("record", ["{}", '{"m":{}}', '{"m":null}', '{"M":{"x":1}}'])
def test_a_missing_field_fails_unless_it_may_be_missing(transform, record):
    fails(record, transform, match=r"field 'm(\.x)?': .*missing='skip'")
    fields = transform_to_json(transform) | {"missing": "skip"}
    lenient = transform_from_json(fields)
    wanted = "{}" if transform.kind == "keep" and "M" in record else record
    assert apply(record, lenient) == wanted


@pytest.mark.parametrize("transform", EVERY_FIELD, ids=lambda t: t.kind)
def test_a_path_through_something_else_fails(transform):
    fails('{"m":"secret"}', transform, match=r"field 'm.*': 'm' is a string of 6 characters, not an object")
    fails('{"m":[1]}', transform, match="an array, not an object")


@pytest.mark.parametrize("transform", [Cast(fields=["x"], to=to) for to in ("string", "integer", "boolean")])
def test_null_stays_null(transform):
    assert (
        apply('{"x": null }', transform, Hash(fields=["x"]), AlignTimestamps(fields=["x"])) == '{"x": null }'
    )


def test_a_constant_needs_objects_on_its_way():
    fails('{"m":null}', SetConstant(values={"m.x": 1}), match="null, not an object")
    fails('{"m":1}', SetConstant(values={"m.x": 1}), match="not an object")


SECRETS = ['"the-secret"', "8315550199", '{"v":"the-secret"}', '["the-secret"]', "true"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "transform",
    [
        *(Cast(fields=["x"], to=to) for to in ("integer", "boolean")),
        AlignTimestamps(fields=["x"]),
        AlignTimestamps(fields=["x"], inputs=["epoch_ns", "%Y-%m-%d"]),
        Flatten(field="x"),
        Hash(fields=["x"]),
        Drop(fields=["x.y"]),
        Rename(mapping={"x.y": "z"}),
    ],
    ids=repr,
)
def test_an_error_never_quotes_a_value(secret, transform):
    with pytest.raises(TransformFailed) as caught:
        apply(f'{{"x":{secret}}}', transform, Cast(fields=["never"], to="string"))
    error = caught.value
    assert "the-secret" not in str(error)
    assert "8315550199" not in str(error)
    assert error.__suppress_context__ or error.__context__ is None


def test_a_key_twice_in_a_record_fails():
    fails('{"a":1,"a":2}', Drop(fields=["b"], missing="skip"), match="'a' stands twice")
    fails('{"m":{"a":1,"a":2}}', Drop(fields=["m.b"], missing="skip"), match="'a' stands twice")


# --- cast ---------------------------------------------------------------------------------------------------

CASTS = [
    ("string", "1.10", '"1.10"'),
    ("string", "123456789012345678901234567890", '"123456789012345678901234567890"'),
    ("string", "true", '"true"'),
    ("string", '"\\u0041"', '"\\u0041"'),
    ("integer", '"007"', "7"),
    ("integer", '"+5"', "5"),
    ("integer", '"-0"', "0"),
    ("integer", '"123456789012345678901234567890"', "123456789012345678901234567890"),
    ("integer", "1.0", "1"),
    ("integer", "1.50e1", "15"),
    ("integer", "-1200e-2", "-12"),
    ("integer", "0e999999999", "0"),
    ("integer", "1e3", "1000"),
    ("integer", "1.5", None),
    ("integer", "1e-1", None),
    ("integer", "1e999999999", None),
    ("integer", "1e-999999999", None),
    ("integer", '"1e1001"', None),
    ("integer", "true", None),
    ("integer", '""', None),
    ("integer", '" 1"', None),
    ("integer", '"1_000"', None),
    ("integer", '"\u0661"', None),
    ("integer", "[1]", None),
    ("decimal", '"1.10"', "1.10"),
    ("decimal", '"+001.10"', "1.10"),
    ("decimal", '".5"', "0.5"),
    ("decimal", '"5."', "5"),
    ("decimal", '"-1.20E+4"', "-1.20E+4"),
    ("decimal", "1.10", "1.10"),
    ("decimal", '"1,5"', None),
    ("decimal", '"."', None),
    ("decimal", '"-"', None),
    ("decimal", '""', None),
    ("decimal", '"NaN"', None),
    ("decimal", "false", None),
    ("decimal", "{}", None),
    ("float", "1.10", "1.1"),
    ("float", "1", "1.0"),
    ("float", '"2.5e3"', "2500.0"),
    ("float", "1E400", None),
    ("float", '"-1E400"', None),
    ("float", '"inf"', None),
    ("float", '"nan"', None),
    ("float", "true", None),
    ("boolean", '"TRUE"', "true"),
    ("boolean", "0", "false"),
    ("boolean", '"1"', "true"),
    ("boolean", "false", "false"),
    ("boolean", '"yes"', None),
    ("boolean", "2", None),
    ("boolean", "1.0", None),
    ("boolean", '""', None),
]


@pytest.mark.parametrize(("to", "value", "wanted"), CASTS)
def test_casts_neither_guess_nor_lose(to, value, wanted):
    transform = Cast(fields=["x"], to=to)
    if wanted is None:
        fails(f'{{"x":{value}}}', transform, match=f"Cast, field 'x': .* cannot become an? {to}")
    else:
        assert apply(f'{{"x":{value}}}', transform) == f'{{"x":{wanted}}}'


@given(st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from(["integer", "decimal", "float"]))
def test_cast_numbers_are_the_numbers(number, to):
    if abs(number.adjusted()) > 900:
        return
    text = str(number)
    try:
        out = json.loads(apply(f'{{"x":"{text}"}}', Cast(fields=["x"], to=to)), parse_float=Decimal)["x"]
    except TransformFailed:
        assert (to == "integer" and Fraction(number).denominator > 1) or (
            to == "float" and abs(number) > Decimal("1.7e308")
        )
        return
    if to == "float":
        assert float(out) == float(text)
    else:
        assert out == number
    if to == "integer":
        assert isinstance(out, int)


# --- hash ---------------------------------------------------------------------------------------------------


@given(st.text(), st.sampled_from(["sha256", "sha512", "sha3_256", "blake2b"]))
def test_a_hash_is_of_the_text(text, algorithm):
    record = json.dumps({"x": text})
    plain = json.loads(apply(record, Hash(fields=["x"], algorithm=algorithm)))["x"]
    assert plain == hashlib.new(algorithm, text.encode("utf-8", "surrogatepass")).hexdigest()
    keyed = json.loads(apply(record, Hash(fields=["x"], algorithm=algorithm, secret="pepper"), pepper="kéy"))[
        "x"
    ]
    assert keyed == hmac.new("kéy".encode(), text.encode("utf-8", "surrogatepass"), algorithm).hexdigest()


def test_numbers_are_hashed_as_they_are_spelled_and_objects_not_at_all():
    out = json.loads(apply('{"x":1.10,"y":true}', Hash(fields=["x", "y"])))
    assert out == {"x": hashlib.sha256(b"1.10").hexdigest(), "y": hashlib.sha256(b"true").hexdigest()}
    fails('{"x":{}}', Hash(fields=["x"]), match="an object has no one text")


def test_a_secret_must_be_given_and_is_in_no_text():
    transform = Hash(fields=["x"], secret="pepper")
    for secrets in (None, {}, {"other": "k"}, {"pepper": ""}):
        with pytest.raises(ConfigError, match="'pepper'"):
            compile_transforms([transform], secrets=secrets)
    made = compile_transforms([transform], secrets={"pepper": "hunter2"})
    assert "hunter2" not in json.dumps(transform_to_json(transform)) + repr(transform) + repr(made)


# --- configuration ------------------------------------------------------------------------------------------

EXAMPLES = [
    *EVERY_FIELD,
    AlignTimestamps(
        fields=["a", "b.c"], inputs=["iso", "%d.%m.%Y"], to="date", assume_tz=None, missing="skip"
    ),
    Rename(mapping={"a": "b", "b": "a"}, overwrite=True),
    Cast(fields=["a"], to="decimal"),
    SetConstant(values={"a": 1, "b.c": [0.1, {"x": None}, 2**70, Decimal("1.10"), "\u2028"]}),
    Flatten(field="a", separator="."),
    Hash(fields=["a"], algorithm="blake2b", secret="pepper"),
]


def test_the_examples_have_every_transform():
    assert {type(example) for example in EXAMPLES} == set(TRANSFORMS)


@pytest.mark.parametrize("transform", EXAMPLES, ids=repr)
def test_a_transform_comes_back_from_json(transform):
    saved = exact_json.encode(transform_to_json(transform))
    for decode in (exact_json.decode, json.loads):
        back = transform_from_json(decode(saved))
        assert back == transform
        assert exact_json.encode(transform_to_json(back)) in (saved, saved.replace(b"1.10", b"1.1"))


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ([], "JSON object"),
        ({}, "type None is unknown; known are 'align_timestamps', 'rename'"),
        ({"type": "Drop", "fields": ["a"]}, "type 'Drop' is unknown"),
        ({"type": ["drop"]}, "is unknown"),
        ({"type": "drop"}, "'drop' lacks the field 'fields'"),
        ({"type": "drop", "fields": ["a"], "field": "a"}, "no field 'field'; it has 'fields', 'missing'"),
        ({"type": "drop", "fields": "a"}, "Drop: fields: Expected `array`, got `str`"),
        ({"type": "drop", "fields": []}, "Drop: fields: Expected `array` of length >= 1"),
        ({"type": "drop", "fields": [1]}, "Drop: fields: "),
        (
            {"type": "drop", "fields": ["a"], "missing": "ignore"},
            "Drop: missing: Invalid enum value 'ignore'",
        ),
        ({"type": "drop", "fields": ["a[0]"]}, "Drop: 'a\\[0\\]' names no field"),
        ({"type": "drop", "fields": ["$"]}, "names no field"),
        ({"type": "keep", "fields": ["a", "a.b"]}, "Keep: fields has 'a' and 'a.b', which is a part of it"),
        ({"type": "rename", "mapping": {}}, "Rename: mapping: Expected `object` of length >= 1"),
        ({"type": "rename", "mapping": {"a": 1}}, "Rename: mapping: Expected `str`"),
        ({"type": "cast", "fields": ["a"], "to": "int"}, "Cast: to: Invalid enum value 'int'"),
        ({"type": "hash", "fields": ["a"], "algorithm": "md5"}, "Hash: algorithm: "),
        ({"type": "hash", "fields": ["a"], "key": "hunter2"}, "has no field 'key'"),
        ({"type": "align_timestamps", "fields": ["a"], "inputs": []}, "inputs: "),
        ({"type": "align_timestamps", "fields": ["a"], "inputs": ["isoo"]}, "form 'isoo' is unknown"),
        ({"type": "align_timestamps", "fields": ["a"], "assume_tz": "Mars/Base"}, "time zone 'Mars/Base'"),
        (
            {"type": "align_timestamps", "fields": ["a"], "inputs": ["epoch_s", "epoch_ms"]},
            "told from the other",
        ),
    ],
)
def test_a_wrong_configuration_names_what_is_wrong(members, match):
    with pytest.raises(ConfigError, match=match):
        transform_from_json(members)


@pytest.mark.parametrize("value", [float("nan"), Decimal("Infinity"), object(), {1: 2}, b"x", {"a": [{1}]}])
def test_a_constant_must_be_json(value):
    with pytest.raises(ConfigError, match="SetConstant: the value of 'a' is not a JSON value"):
        SetConstant(values={"a": value})


@pytest.mark.parametrize("thing", [lambda record: record, Drop, "drop", None, {"type": "drop"}])
def test_only_declarative_transforms_can_be_saved(thing):
    with pytest.raises(ConfigError, match="cannot be saved as JSON"):
        transform_to_json(thing)


@pytest.mark.parametrize("thing", [Drop, "drop", None, {"type": "drop"}, 1])
def test_only_transforms_and_functions_can_be_compiled(thing):
    with pytest.raises(ConfigError, match="is no transform"):
        compile_transforms([thing])


def test_keys_that_were_not_renamed_keep_their_spelling():
    record = '{"\\u0061":1, "b":{"x":2}, "\\u00e9":3}'
    assert apply(record, Rename(mapping={"b": "c"})) == '{"\\u0061":1,"c":{"x":2},"\\u00e9":3}'
    assert apply(record, Flatten(field="b")) == '{"\\u0061":1,"b_x":2,"\\u00e9":3}'
    assert apply(record, lambda r: {**r, "b": 4}) == '{"\\u0061":1,"b":4,"\\u00e9":3}'
    assert apply(record, Rename(mapping={"a": "b", "b": "a"})) == '{"b":1,"a":{"x":2},"\\u00e9":3}'
