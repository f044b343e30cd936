"""mapping.json is read strictly, found as the reference finds it, and fits the source or is refused."""

import json
from pathlib import PurePosixPath

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError, MappingError
from chunkwise.core.protect.mapping import (
    ColumnRule,
    DispatchSizes,
    Mapping,
    Side,
    candidates,
    check_columns,
    parse_mapping,
)

FULL = {
    "columns": {
        "email": {"operation": "protect", "data_element": "deEmail"},
        "Vor und Nachname": {
            "operation": "unprotect",
            "data_element": "deName",
            "null": "protect",
            "empty": "protect",
        },
    },
    "ignored-columns": ["id", "ü"],
    "input": {"format": "csv", "spec": {"sep": "|", "header": None}},
    "output": {"format": "parquet", "spec": {"compression": "zstd"}},
    "dispatch": {"large_file_dispatch_threshold_bytes": 0, "large_file_chunk_size_bytes": 1048576},
}


def parsed(document: object) -> Mapping:
    return parse_mapping(json.dumps(document).encode(), "s3://bucket/in/mapping.json")


def test_every_field_is_read():
    assert parsed(FULL) == Mapping(
        columns={
            "email": ColumnRule(operation="protect", data_element="deEmail"),
            "Vor und Nachname": ColumnRule(
                operation="unprotect", data_element="deName", null="protect", empty="protect"
            ),
        },
        ignored_columns=("id", "ü"),
        input=Side(format="csv", spec={"sep": "|", "header": None}),
        output=Side(format="parquet", spec={"compression": "zstd"}),
        dispatch=DispatchSizes(large_file_dispatch_threshold_bytes=0, large_file_chunk_size_bytes=1048576),
    )


def test_what_a_mapping_does_not_say_is_left_open():
    mapping = parsed({"columns": {"a": {"operation": "protect", "data_element": "d"}}})
    assert mapping.columns["a"] == ColumnRule(
        operation="protect", data_element="d", null="keep", empty="keep"
    )
    assert mapping.ignored_columns == ()
    assert (mapping.input.format, mapping.output.format, mapping.input.spec) == (None, None, {})
    assert mapping.dispatch.large_file_dispatch_threshold_bytes is None
    assert mapping.dispatch.large_file_chunk_size_bytes is None


def test_a_byte_order_mark_is_skipped():
    assert parse_mapping(b"\xef\xbb\xbf" + json.dumps(FULL).encode(), "m") == parsed(FULL)


@given(
    st.dictionaries(
        st.text(), st.tuples(st.sampled_from(["protect", "unprotect"]), st.text(min_size=1)), max_size=5
    ),
    st.lists(st.text(), unique=True, max_size=5),
    st.booleans(),
)
def test_a_snapshot_is_the_mapping(columns, ignored, hold):
    """What goes into a plan as JSON comes out equal, and is itself a mapping.json."""
    mapping = Mapping(
        columns={
            name: ColumnRule(operation=operation, data_element=element, null="protect" if hold else "keep")
            for name, (operation, element) in columns.items()
        },
        ignored_columns=tuple(name for name in ignored if name not in columns),
    )
    data = msgspec.json.encode(mapping)
    assert msgspec.json.decode(data, type=Mapping) == mapping
    assert parse_mapping(data, "m") == mapping


def column(**fields: object) -> dict:
    return {"columns": {"a": {"operation": "protect", "data_element": "d", **fields}}}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "it is a list, not an object"),
        (None, "it is a null, not an object"),
        ({"colums": {}}, "unknown field `colums`"),
        ({"columns": []}, "columns: it is a list"),
        ({"columns": {"a": "protect"}}, r"columns\.a: "),
        ({"columns": {"two words": {}}}, r"columns\['two words'\]: .*`operation`"),
        ({"columns": {"a": {"operation": "protect"}}}, r"columns\.a: .*`data_element`"),
        (column(operation="reprotect"), r"columns\.a\.operation is 'reprotect': choose"),
        (column(data_element=""), r"columns\.a\.data_element: "),
        (column(data_element=None), r"columns\.a\.data_element: "),
        (column(null="drop"), r"columns\.a\.null is .*'keep', 'protect'"),
        (column(empty=True), r"columns\.a\.empty is .*'keep', 'protect'"),
        (column(element="d"), r"columns\.a: .*`element`"),
        ({"ignored-columns": "a"}, "ignored-columns: "),
        ({"ignored-columns": ["a", 1]}, r"ignored-columns\[1\]: "),
        ({"ignored_columns": []}, "`ignored_columns`"),
        ({"input": {"format": 1}}, r"input\.format: "),
        ({"output": {"spec": []}}, r"output\.spec: "),
        ({"dispatch": {"large_file_chunk_size_bytes": 0}}, r"dispatch\.large_file_chunk_size_bytes: "),
        (
            {"dispatch": {"large_file_dispatch_threshold_bytes": "1"}},
            r"dispatch\.large_file_dispatch_threshold_bytes: ",
        ),
        ({"ignored-columns": ["a", "b", "a"]}, "'a' more than once in ignored-columns"),
        ({**column(), "ignored-columns": ["b", "a"]}, "'a' in columns and in ignored-columns"),
    ],
)
def test_a_wrong_mapping_is_refused_at_its_place(document, place):
    with pytest.raises(MappingError, match=r"^s3://bucket/in/mapping\.json: .*" + place):
        parsed(document)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", "line 1, column 1"),
        (b'{"columns": {},\n "ignored-columns": ["a",]}', "line 2, column"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"columns": {}, "columns": {}}', "columns: the key stands there twice"),
        (
            b'{"columns": {"a": {"operation": "protect", "data_element": "d"}, "a": {}}}',
            r"columns\.a: the key stands there twice",
        ),
        (
            b'{"input": {"spec": {"x": [{"sep": ",", "sep": ";"}]}}}',
            r"input\.spec\.x\[0\]\.sep: the key stands there twice",
        ),
    ],
)
def test_what_is_no_json_of_single_keys_is_refused(data, place):
    with pytest.raises(MappingError, match=r"^m\.json: .*" + place):
        parse_mapping(data, "m.json")


def test_all_problems_are_named_and_many_are_counted():
    with pytest.raises(MappingError) as caught:
        parsed({"columns": {f"c{n}": {"operation": "x"} for n in range(500)}, "output": 1})
    text = str(caught.value)
    assert "columns.c0" in text
    assert "columns.c9" in text
    assert "columns.c10" not in text
    assert "and 491 more" in text


def test_a_wrong_mapping_is_a_wrong_config():
    assert issubclass(MappingError, ConfigError)


# --- where it lies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("big.csv", ["mapping.json"]),
        ("in/2026/big.csv", ["in/2026/mapping.json", "in/mapping.json", "mapping.json"]),
        ("/in//big.csv", ["/in//mapping.json", "/in/mapping.json", "/mapping.json", "mapping.json"]),
    ],
)
def test_the_nearest_folder_comes_first(key, found):
    assert candidates(key) == found


@given(st.lists(st.text("ab.", min_size=1, max_size=3).filter(lambda part: set(part) != {"."}), min_size=1))
def test_every_folder_up_to_the_root_is_looked_into(parts):
    path = PurePosixPath(*parts)
    assert candidates(str(path)) == [str(folder / "mapping.json") for folder in path.parents]


# --- does it fit --------------------------------------------------------------------------------------------


def mapping_of(columns: list[str], ignored: list[str]) -> Mapping:
    rule = ColumnRule(operation="protect", data_element="d")
    return Mapping(columns=dict.fromkeys(columns, rule), ignored_columns=tuple(ignored))


@given(st.lists(st.text(), unique=True), st.randoms())
def test_a_mapping_that_names_each_column_once_fits(names, random):
    mapped = {name for name in names if random.random() < 0.5}
    listed = sorted(names)
    check_columns(
        mapping_of([n for n in listed if n in mapped], [n for n in listed if n not in mapped]), names, "s"
    )


@given(
    st.lists(st.sampled_from("abcdAB")),
    st.lists(st.sampled_from("abcdAB"), unique=True),
    st.lists(st.sampled_from("efgEF"), unique=True),
)
def test_a_mapping_fits_if_and_only_if_the_names_are_the_same(source, columns, ignored):
    mapping = mapping_of(columns, ignored)
    if sorted(source) == sorted(columns + ignored):
        check_columns(mapping, source, "s")
    else:
        with pytest.raises(MappingError):
            check_columns(mapping, source, "s")


def test_everything_that_does_not_fit_is_said_at_once():
    mapping = mapping_of(["email", "gone"], ["id", "old"])
    with pytest.raises(MappingError) as caught:
        check_columns(mapping, ["id", "Email", "phone", "note", "note"], "s3://bucket/in/big.csv")
    head, *others = str(caught.value).split("; ")
    assert head == (
        "the mapping does not fit s3://bucket/in/big.csv: the source has 'note' more than once: they cannot"
        " be told apart"
    )
    assert others == [
        (
            "neither columns nor ignored-columns has 'Email' ('email' is there: they differ in case),"
            " 'phone', 'note': every column of the source must be in one of them"
        ),
        "the source has no 'email' ('Email' is there: they differ in case), 'gone', which columns names",
        "the source has no 'old', which ignored-columns names",
    ]


def test_blanks_around_a_name_are_pointed_out():
    with pytest.raises(MappingError, match="' id' is there: they differ in blanks"):
        check_columns(mapping_of([], ["id"]), [" id"], "s")


def test_many_and_long_names_give_a_short_message():
    with pytest.raises(MappingError) as caught:
        check_columns(mapping_of([], []), [f"{n}" * 10_000 for n in range(100, 1100)], "s")
    assert "and 990 more" in str(caught.value)
    assert len(str(caught.value)) < 1500
