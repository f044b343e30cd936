"""Delta's types and names in the words of the Glue catalog."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.delta.glue_types import catalog_columns, glue_type
from chunkwise.core.errors import UnsupportedColumn

PLACE = "s3://b/orders"


def field(name: str, kind: Any, **metadata: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


def array(kind: Any) -> dict[str, Any]:
    return {"type": "array", "elementType": kind, "containsNull": True}


def mapping(key: Any, value: Any) -> dict[str, Any]:
    return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}


def struct(**fields: Any) -> dict[str, Any]:
    return {"type": "struct", "fields": [field(name, kind) for name, kind in fields.items()]}


@pytest.mark.parametrize(
    ("delta", "hive"),
    [
        ("string", "string"),
        ("long", "bigint"),
        ("integer", "int"),
        ("short", "smallint"),
        ("byte", "tinyint"),
        ("float", "float"),
        ("double", "double"),
        ("boolean", "boolean"),
        ("binary", "binary"),
        ("date", "date"),
        ("timestamp", "timestamp"),
        ("timestamp_ntz", "timestamp"),
        ("decimal(38,18)", "decimal(38,18)"),
        ("decimal(7, 0)", "decimal(7,0)"),
        ("decimal", "decimal(10,0)"),
        (array("byte"), "array<tinyint>"),
        (mapping("string", array("float")), "map<string,array<float>>"),
        (struct(a="integer", B=struct(c="date")), "struct<a:int,b:struct<c:date>>"),
        (array(struct(x=mapping("long", "decimal(5,2)"))), "array<struct<x:map<bigint,decimal(5,2)>>>"),
    ],
    ids=json.dumps,
)
def test_every_type_has_its_name(delta: Any, hive: str) -> None:
    assert glue_type(delta, "c", PLACE) == hive


_LEAVES = st.sampled_from(
    ["string", "long", "integer", "short", "byte", "float", "double", "boolean", "binary", "date"]
)
_NAMES = st.text("abcXYZ_019$.", min_size=1, max_size=8)
_KINDS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        inner.map(array),
        st.tuples(_LEAVES, inner).map(lambda pair: mapping(*pair)),
        st.dictionaries(_NAMES, inner, min_size=1, max_size=3)
        .filter(lambda found: len({name.lower() for name in found}) == len(found))
        .map(lambda found: struct(**found)),
    ),
    max_leaves=12,
)

_HIVE = {
    "string": pa.string(),
    "bigint": pa.int64(),
    "int": pa.int32(),
    "smallint": pa.int16(),
    "tinyint": pa.int8(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "binary": pa.binary(),
    "date": pa.date32(),
}
_DELTA = dict(
    zip(["string", "long", "integer", "short", "byte", "float", "double", "boolean", "binary", "date"],
        _HIVE.values())
)  # fmt: skip


class Hive:
    """A parser of Hive's types, by its grammar alone."""

    def __init__(self, text: str) -> None:
        self.tokens = re.findall(r"[<>:,]|[^<>:,]+", text)

    def take(self, *wanted: str) -> str:
        token = self.tokens.pop(0)
        assert not wanted or token in wanted
        return token

    def kind(self) -> pa.DataType:
        word = self.take()
        if word in _HIVE:
            return _HIVE[word]
        self.take("<")
        if word == "array":
            found = pa.list_(self.kind())
        elif word == "map":
            key = self.kind()
            self.take(",")
            found = pa.map_(key, self.kind())
        else:
            assert word == "struct"
            fields = []
            while True:
                name = self.take()
                self.take(":")
                fields.append(pa.field(name, self.kind()))
                if self.tokens[0] != ",":
                    break
                self.take(",")
            found = pa.struct(fields)
        self.take(">")
        return found


def arrow(kind: Any) -> pa.DataType:
    """A Delta type as Arrow has it, names in lower case."""
    if isinstance(kind, str):
        return _DELTA[kind]
    if kind["type"] == "array":
        return pa.list_(arrow(kind["elementType"]))
    if kind["type"] == "map":
        return pa.map_(arrow(kind["keyType"]), arrow(kind["valueType"]))
    return pa.struct([pa.field(one["name"].lower(), arrow(one["type"])) for one in kind["fields"]])


@given(kind=_KINDS)
def test_whoever_parses_a_type_finds_the_table_s(kind: Any) -> None:
    parser = Hive(glue_type(kind, "c", PLACE))
    assert parser.kind() == arrow(kind)
    assert parser.tokens == []


def test_names_are_lower_case_and_keep_the_order_of_the_table() -> None:
    found = catalog_columns([field("Zeta", "long"), field("alpha-1", "date", comment="when")], PLACE)
    assert [(one.name, one.type, one.comment) for one in found] == [
        ("zeta", "bigint", ""),
        ("alpha-1", "date", "when"),
    ]


def test_a_comment_has_one_line_of_255_characters() -> None:
    (found,) = catalog_columns([field("a", "long", comment="x\ny" + "z" * 300)], PLACE)
    assert found.comment == ("x y" + "z" * 300)[:255]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ([field("Id", "long"), field("id", "long")], r"columns 'Id' and 'id' of s3://b/orders differ in no"),
        ([field("a", struct(B="long", b="long"))], r"field 'a.b' of s3://b/orders differs from another"),
        ([field("", "long")], r"column '' of s3://b/orders cannot be in the Glue catalog"),
        ([field("n" * 256, "long")], r"1 to 255 characters"),
        ([field("a\nb", "long")], r"no control characters"),
        ([field("a", array(struct(**{"b-c": "long"})))], r"field 'a.element.b-c' of"),
        ([field("a", struct(b=struct()))], r"column 'a.b' of s3://b/orders is a struct without fields"),
        ([field("a", struct(**{"b:c": "long"}))], r"field 'a.b:c' of"),
        ([field("a", "void")], r"column 'a' of s3://b/orders is of type 'void', which Athena does not read"),
        ([field("a", mapping("string", "variant"))], r"column 'a.value' of .* 'variant'"),
        ([field("a", "decimal(39,2)")], r"'decimal\(39,2\)'"),
        ([field("a", "decimal(5,6)")], r"'decimal\(5,6\)'"),
        ([field("a", {"type": "interval"})], r"column 'a' of s3://b/orders has a type"),
        ([field("a", struct(**{f"f{n:05}" * 20: "long" for n in range(1200)}))], r"the type of column 'a'"),
    ],
    ids=[
        "case", "inner-case", "empty", "long", "control", "dash", "no-fields", "colon", "void", "variant",
        "precision", "scale", "odd", "long-type",
    ],
)  # fmt: skip
def test_what_the_catalog_cannot_hold_is_named(fields: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(UnsupportedColumn, match=text):
        catalog_columns(fields, PLACE)
