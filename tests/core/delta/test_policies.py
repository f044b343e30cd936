"""What is decided on a file: overwritten, deleted, of another schema."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pytest

from chunkwise.core.compact.table import compact_table
from chunkwise.core.errors import ConfigError, LogDamaged, UnsupportedTable
from tests.support.delta import Lake, kinds, parquet, reasons, write_log

# --- overwritten and deleted --------------------------------------------------------------------------------


def test_an_overwritten_object_replaces_its_entry(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [5]}))
    again = lake.put("a.parquet", {"id": [2, 3, 4]})
    assert kinds(lake.append(again)) == ["replaced"]
    assert lake.rows() == [{"id": 2}, {"id": 3}, {"id": 4}, {"id": 5}]
    assert kinds(lake.append(again, lake.arrival("b.parquet"))) == ["duplicate", "duplicate"]


def test_an_overwritten_object_is_refused_if_that_is_asked_for(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    receipt = lake.append(lake.put("a.parquet", {"id": [2, 3]}), on_overwrite="refuse")
    assert (kinds(receipt), reasons(receipt)) == (["rejected"], ["overwritten"])


def test_an_old_event_of_an_overwritten_object_adds_what_stands_there(lake: Lake) -> None:
    old = lake.put("a.parquet", {"id": [1]})
    new = lake.put("a.parquet", {"id": [2, 3]})
    assert kinds(lake.append(old)) == ["added"]
    assert kinds(lake.append(new, old)) == ["duplicate", "duplicate"]
    assert lake.rows() == [{"id": 2}, {"id": 3}]


def test_a_new_file_of_a_name_that_was_compacted_away_is_rejected(lake: Lake) -> None:
    """Its old rows live on in another file: adding the new ones would be right for nobody."""
    lake.append(lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [2]}))
    lake.open().optimize.compact()
    receipt = lake.append(lake.put("a.parquet", {"id": [10, 11]}))
    assert (kinds(receipt), reasons(receipt)) == (["rejected"], ["name_used"])
    assert lake.rows() == [{"id": 1}, {"id": 2}]


BAD_SUCCESSORS: dict[str, tuple[bytes, str, str]] = {
    "conflict": (parquet({"id": ["x"]}), "rejected", "schema"),
    "column": (parquet({"id": [2], "note": ["x"]}), "schema_too_new", "schema"),
    "text": (b"id\n1\n", "rejected", "not_parquet"),
    "nothing": (b"", "rejected", "empty"),
    "damage": (b"junk" + parquet({"id": [2]}), "rejected", "damaged"),
}


@pytest.mark.parametrize("name", list(BAD_SUCCESSORS))
def test_a_bad_file_in_the_place_of_one_that_the_table_has_is_said_to_break_it(lake: Lake, name: str) -> None:
    body, kind, reason = BAD_SUCCESSORS[name]
    good = lake.put("a.parquet", {"id": [1]})
    lake.append(good, lake.put("b.parquet", {"id": [5]}))
    bad = lake.put_bytes("a.parquet", body)
    receipt = lake.append(bad)
    assert (kinds(receipt), reasons(receipt), receipt.committed) == ([kind], [reason], False)
    assert "version 0, which is gone: readers will fail" in receipt.verdicts[0].detail
    # nothing else can be read from there any more, so removing it loses nothing
    receipt = lake.append(bad, on_delete="remove")
    assert (kinds(receipt), reasons(receipt), receipt.committed) == ([kind], [reason], True)
    assert "was removed from the table" in receipt.verdicts[0].detail
    assert lake.rows() == [{"id": 5}]
    for again in (bad, good):
        receipt = lake.append(again, on_delete="remove")
        assert (kinds(receipt), receipt.committed) == ([kind], False)
        assert "version" not in receipt.verdicts[0].detail
    assert kinds(lake.append(lake.put("a.parquet", {"id": [6]}))) == ["added"]
    assert lake.rows("id") == [{"id": 5}, {"id": 6}]


def test_where_overwritten_objects_are_refused_nothing_is_removed_but_said(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    for data in ({"id": [2, 3]}, {"id": ["x"]}):
        receipt = lake.append(lake.put("a.parquet", data), on_overwrite="refuse", on_delete="remove")
        assert (kinds(receipt), reasons(receipt), receipt.committed) == (["rejected"], ["overwritten"], False)
        assert "readers will fail" in receipt.verdicts[0].detail


def test_an_event_of_an_object_that_is_gone_says_that_readers_fail(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    lake.delete("a.parquet")
    receipt = lake.append(lake.arrival("a.parquet", etag="another"), on_delete="remove")
    assert (reasons(receipt), receipt.committed) == (["not_found"], False)
    assert "readers will fail" in receipt.verdicts[0].detail


def test_a_file_of_somebody_else_that_the_table_has_is_a_duplicate_even_if_its_footer_cannot_be_read(
    lake: Lake,
) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    encrypted = lake.put_bytes("b.parquet", parquet({"id": [2]})[:-1] + b"E")
    add = {"path": "b.parquet", "partitionValues": {}, "size": encrypted.size, "modificationTime": 1}
    write_log(lake, 1, [{"add": {**add, "dataChange": True}}])
    receipt = lake.append(encrypted, on_delete="remove")
    assert (kinds(receipt), receipt.committed) == (["duplicate"], False)


def test_a_deletion_is_ignored_or_removes_by_policy(lake: Lake) -> None:
    lake.append(*(lake.put(f"{name}.parquet", {"id": [1]}) for name in "ab"))
    gone = lake.delete("a.parquet")
    receipt = lake.append(gone)
    assert (kinds(receipt), reasons(receipt)) == (["ignored"], ["deleted"])
    receipt = lake.append(gone, on_delete="remove")
    assert (kinds(receipt), receipt.version) == (["removed"], 1)
    assert lake.rows() == [{"id": 1}]
    assert kinds(lake.append(gone, on_delete="remove")) == ["ignored"]


def test_a_deletion_of_an_object_that_stands_there_is_not_believed(lake: Lake) -> None:
    """Events come in any order: what is there counts."""
    file = lake.put("a.parquet", {"id": [1]})
    lake.append(file)
    assert kinds(lake.append(lake.arrival("a.parquet", deleted=True), on_delete="remove")) == ["duplicate"]
    assert kinds(lake.append(lake.arrival("b.parquet", deleted=True), on_delete="remove")) == ["ignored"]


def test_a_file_that_was_deleted_and_written_again_is_added(lake: Lake) -> None:
    """The very same bytes, too: its object was gone in between, so this is another one."""
    file = lake.put("a.parquet", {"id": [1]})
    lake.append(file, lake.put("b.parquet", {"id": [2]}))
    assert kinds(lake.append(lake.delete("a.parquet"), on_delete="remove")) == ["removed"]
    assert kinds(lake.append(file)) == ["rejected"]  # an old event; nothing stands there
    assert kinds(lake.append(lake.put("a.parquet", {"id": [1]}))) == ["added"]
    assert lake.rows() == [{"id": 1}, {"id": 2}]


def test_created_and_deleted_in_one_batch_is_what_is_left_in_the_end(lake: Lake) -> None:
    one, two = lake.put("a.parquet", {"id": [1]}), lake.put("b.parquet", {"id": [2]})
    lake.append(lake.put("c.parquet", {"id": [3]}))
    receipt = lake.append(one, lake.delete("a.parquet"), lake.arrival("b.parquet", deleted=True), two)
    assert kinds(receipt) == ["ignored", "ignored", "added", "duplicate"]
    assert lake.rows() == [{"id": 2}, {"id": 3}]


@pytest.mark.parametrize("name", ["\u00fc", "a*b", "a b", "a+b~"])
def test_files_of_spark_are_replaced_and_removed_however_it_spells_them(lake: Lake, name: str) -> None:
    """It leaves letters beyond ASCII as they are, and deltalake takes two spellings for two files."""
    files = [lake.put(f"{name}{at}.parquet", {"id": [at]}) for at in range(3)]
    lake.append(*files)
    actions = lake.log(0)
    for action in actions:
        if "add" in action:
            del action["add"]["tags"]
            action["add"]["path"] = unquote(action["add"]["path"]).replace(" ", "%20")
    write_log(lake, 0, actions)
    new = lake.put(f"{name}0.parquet", {"id": [10, 11]})
    assert kinds(lake.append(new, lake.delete(f"{name}1.parquet"), on_delete="remove")) == [
        "replaced",
        "removed",
    ]
    rows = lake.open().to_pyarrow_table(columns=["id"]).to_pylist()
    assert sorted(row["id"] for row in rows) == [2, 10, 11]
    assert kinds(lake.append(*files, new)) == ["duplicate", "rejected", "duplicate", "duplicate"]


# --- schema -------------------------------------------------------------------------------------------------


def test_a_file_with_new_columns_waits_for_the_policy(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1]}))
    wider = lake.put("b.parquet", {"id": [2], "note": ["x"]})
    receipt = lake.append(wider, lake.put("c.parquet", {"id": [3]}))
    assert kinds(receipt) == ["schema_too_new", "added"]
    assert "note string" in receipt.verdicts[0].detail
    assert kinds(lake.append(wider, schema="add_columns")) == ["added"]
    assert lake.rows("id") == [{"id": 1, "note": None}, {"id": 2, "note": "x"}, {"id": 3, "note": None}]


def test_nested_columns_grow_too(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"id": [1], "who": [{"name": "x"}], "lines": [[{"n": 1}]]}))
    file = lake.put(
        "b.parquet",
        {"id": [2], "who": [{"name": "y", "age": 3}], "lines": [[{"n": 2, "sku": "s"}]]},
    )
    receipt = lake.append(file, schema="add_columns")
    assert receipt.new_columns == ("who.age long", "lines.element.sku string")
    assert lake.rows("id") == [
        {"id": 1, "who": {"name": "x", "age": None}, "lines": [{"n": 1, "sku": None}]},
        {"id": 2, "who": {"name": "y", "age": 3}, "lines": [{"n": 2, "sku": "s"}]},
    ]


def test_small_integers_widen_and_narrow(lake: Lake) -> None:
    """They are of one physical type, which is what readers go by."""
    lake.append(lake.put("a.parquet", {"n": pa.array([1], pa.int8())}))
    wider = lake.put("b.parquet", {"n": pa.array([70_000], pa.int32())})
    assert kinds(lake.append(wider)) == ["schema_too_new"]
    receipt = lake.append(wider, schema="add_columns")
    assert receipt.new_columns == ("n integer",)
    assert kinds(lake.append(lake.put("c.parquet", {"n": pa.array([300], pa.int16())}))) == ["added"]
    assert lake.rows("n") == [{"n": 1}, {"n": 300}, {"n": 70_000}]


NOW = dt.datetime(2024, 5, 6, 7, 8, 9, 123456, dt.UTC)
READABLE: dict[str, tuple[pa.Array, str, Any]] = {
    "byte": (pa.array([-128], pa.int8()), "byte", -128),
    "short": (pa.array([-32768], pa.int16()), "short", -32768),
    "integer": (pa.array([7], pa.int32()), "integer", 7),
    "long": (pa.array([2**62], pa.int64()), "long", 2**62),
    "uint8": (pa.array([255], pa.uint8()), "short", 255),
    "uint16": (pa.array([65535], pa.uint16()), "integer", 65535),
    "uint32": (pa.array([2**32 - 1], pa.uint32()), "long", 2**32 - 1),
    "float": (pa.array([1.5], pa.float32()), "float", 1.5),
    "double": (pa.array([1.1], pa.float64()), "double", 1.1),
    "boolean": (pa.array([True]), "boolean", True),
    "string": (pa.array(["ü"]), "string", "ü"),
    "large string": (pa.array(["x"], pa.large_string()), "string", "x"),
    "dictionary": (pa.array(["x"]).dictionary_encode(), "string", "x"),
    "binary": (pa.array([b"\xff"]), "binary", b"\xff"),
    "date": (pa.array([dt.date(2024, 5, 6)]), "date", dt.date(2024, 5, 6)),
    "millis": (
        pa.array([NOW], pa.timestamp("ms", "UTC")),
        "timestamp",
        NOW.replace(microsecond=123000),
    ),
    "micros": (pa.array([NOW], pa.timestamp("us", "UTC")), "timestamp", NOW),
    "zone": (pa.array([NOW], pa.timestamp("us", "Europe/Berlin")), "timestamp", NOW),
    "naive": (pa.array([NOW.replace(tzinfo=None)], pa.timestamp("us")), "timestamp", NOW),
    "decimal": (pa.array([Decimal("1.23")], pa.decimal128(7, 2)), "decimal(7,2)", Decimal("1.23")),
    "wide decimal": (
        pa.array([Decimal("1.234")], pa.decimal128(38, 3)),
        "decimal(38,3)",
        Decimal("1.234"),
    ),
    "list": (
        pa.array([[1, None]], pa.list_(pa.int64())),
        {"type": "array", "elementType": "long", "containsNull": True},
        [1, None],
    ),
    "struct": (
        pa.array([{"a": 1}]),
        {
            "type": "struct",
            "fields": [{"name": "a", "type": "long", "nullable": True, "metadata": {}}],
        },
        {"a": 1},
    ),
}


def test_every_type_that_is_taken_is_read_alike_by_all(lake: Lake) -> None:
    data = {name: values for name, (values, _, _) in READABLE.items()}
    names = {name: name.replace(" ", "_") for name in data}
    lake.append(lake.put("a.parquet", {names[name]: values for name, values in data.items()}))
    fields = {field.name: json_type(field) for field in lake.open().schema().fields}
    assert fields == {names[name]: kind for name, (_, kind, _) in READABLE.items()}
    assert lake.rows("long") == [{names[name]: value for name, (_, _, value) in READABLE.items()}]


def json_type(field: Any) -> Any:
    return json.loads(field.to_json())["type"]


def test_a_map_is_a_map(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}))
    assert json_type(lake.open().schema().fields[0]) == {
        "type": "map",
        "keyType": "string",
        "valueType": "long",
        "valueContainsNull": True,
    }
    assert lake.open().to_pyarrow_table().to_pylist() == [{"m": [("a", 1)]}]


UNREADABLE = {
    "unsigned": pa.array([1], pa.uint64()),
    "time": pa.array([dt.time(1)], pa.time64("us")),
    "half": pa.array([1.5], pa.float16()),
    "fixed": pa.array([b"abcd"], pa.binary(4)),
    "null": pa.array([None], pa.null()),
    "nested": pa.array([[1]], pa.list_(pa.uint64())),
    "days": pa.array([dt.date(2024, 5, 6)], pa.date64()),
    "duration": pa.array([dt.timedelta(days=1)], pa.duration("us")),
    "deep": pa.array([{"d": [dt.timedelta(days=1)]}]),
    "vector": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
    "extension": pa.array(["{}"], pa.json_()),
    "nanos": pa.array([1], pa.timestamp("ns", "UTC")),
}


def test_types_that_some_engine_cannot_read_are_rejected_by_name(lake: Lake) -> None:
    files = [lake.put(f"{name}.parquet", {"id": [1], name: values}) for name, values in UNREADABLE.items()]
    receipt = lake.append(lake.put("a.parquet", {"id": [1]}), *files, schema="add_columns")
    assert kinds(receipt) == ["added", *["rejected"] * len(files)]
    for name, verdict in zip(UNREADABLE, receipt.verdicts[1:], strict=True):
        assert f"'{name}'" in verdict.detail
    assert lake.rows() == [{"id": 1}]


def test_nanoseconds_are_taken_if_that_is_asked_for(lake: Lake) -> None:
    values = pa.array([1_700_000_000_123_456_000], pa.timestamp("ns", "UTC"))
    lake.append(lake.put("a.parquet", {"t": values}), on_nanoseconds="accept")
    assert [row["t"] for row in lake.rows()] == [dt.datetime(2023, 11, 14, 22, 13, 20, 123456, dt.UTC)]


CONFLICTS = {
    "integer": (pa.array([1], pa.int32()), pa.array([1], pa.int64())),
    "long": (pa.array([1], pa.int64()), pa.array([1], pa.int32())),
    "double": (pa.array([1.0]), pa.array([1.0], pa.float32())),
    "text": (pa.array(["1"]), pa.array([1])),
    "bytes": (pa.array(["1"]), pa.array([b"1"])),
    "decimal": (pa.array([Decimal(1)], pa.decimal128(9, 2)), pa.array([Decimal(1)], pa.decimal128(7, 2))),
    "day": (pa.array([dt.date(2024, 1, 1)]), pa.array([NOW])),
    "list": (pa.array([[1]]), pa.array([["1"]])),
    "struct": (pa.array([{"a": 1}]), pa.array([{"a": "1"}])),
    "depth": (pa.array([{"a": 1}]), pa.array([[1]])),
}


def test_types_that_conflict_are_rejected_by_name(lake: Lake) -> None:
    lake.append(lake.put("a.parquet", {name: table for name, (table, _) in CONFLICTS.items()}))
    files = [lake.put(f"{name}.parquet", {name: file}) for name, (_, file) in CONFLICTS.items()]
    receipt = lake.append(*files, schema="add_columns")
    assert set(kinds(receipt)) == {"rejected"}
    for name, verdict in zip(CONFLICTS, receipt.verdicts, strict=True):
        assert f"column '{name}" in verdict.detail
        assert "in the table and" in verdict.detail
    assert lake.versions == [0]


@pytest.mark.parametrize(
    "data",
    [
        {"ID": [1]},
        {"Ds": [1], "id": [1]},
        {"id": [1], "a b": [1]},
        {"id": [1], "": [1]},
        {"id": [1], "s": [{"x": 1, "X": 2}]},
        pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
        {"id": [1], "s": pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])},
    ],
    ids=["case", "partition", "space", "empty", "nested", "twins", "nested twins"],
)
def test_names_that_engines_mix_up_are_rejected(lake: Lake, data: Any) -> None:
    """Also those of one letter, of which the interpreter has only one object."""
    lake.append(lake.put("ds=1/a.parquet", {"id": [1]}))
    receipt = lake.append(lake.put("ds=1/b.parquet", data), schema="add_columns")
    assert (kinds(receipt), reasons(receipt)) == (["rejected"], ["schema"])


def test_the_files_of_a_new_table_are_merged_and_the_one_that_conflicts_is_out(lake: Lake) -> None:
    files = [
        lake.put("ds=1/a.parquet", {"id": [1], "x": ["a"]}),
        lake.put("ds=1/b.parquet", {"id": [2], "y": [True]}),
        lake.put("ds=1/c.parquet", {"id": ["3"]}),
    ]
    assert kinds(lake.append(*files)) == ["added", "added", "rejected"]
    assert [field.name for field in lake.open().schema().fields] == ["id", "x", "y", "ds"]
    assert lake.rows("id") == [
        {"id": 1, "x": "a", "y": None, "ds": "1"},
        {"id": 2, "x": None, "y": True, "ds": "1"},
    ]


# --- tables that are not for us -----------------------------------------------------------------------------


def table(
    lake: Lake,
    *,
    protocol: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    nullable: bool = True,
    more: tuple[dict[str, Any], ...] = (),
    provider: str = "parquet",
    **config: str,
) -> None:
    """A table of somebody else, with nothing in it."""
    field = {"name": "id", "type": "long", "nullable": nullable, "metadata": metadata or {}}
    schema = json.dumps({"type": "struct", "fields": [field, *more]})
    actions = [
        {"protocol": protocol or {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": "x",
                "format": {"provider": provider, "options": {}},
                "schemaString": schema,
                "partitionColumns": [],
                "configuration": config,
            }
        },
    ]
    write_log(lake, 0, actions)


def column(name: str, kind: Any, **metadata: str) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": metadata}


STRUCT = {"type": "struct", "fields": [column("x", "long", **{"delta.invariants": "x"})]}
ARRAY = {
    "type": "array",
    "elementType": {"type": "struct", "fields": [column("x", "void")]},
    "containsNull": True,
}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}}, "protocol 1/4"),
        (
            {
                "protocol": {
                    "minReaderVersion": 3,
                    "minWriterVersion": 7,
                    "readerFeatures": ["deletionVectors"],
                    "writerFeatures": ["deletionVectors", "appendOnly"],
                }
            },
            "uses deletionVectors",
        ),
        ({"metadata": {"delta.invariants": "x"}}, "'id' of .* has delta.invariants"),
        ({"delta.columnMapping.mode": "name"}, "maps names of columns"),
        ({"delta.constraints.positive": "id > 0"}, r"has delta\.constraints\.positive"),
        ({"provider": "orc"}, "of the format 'orc'"),
        ({"more": (column("v", "variant"),)}, "'v' of .* is of the type 'variant'"),
        ({"more": (column("l", ARRAY),)}, r"'l\.element\.x' of .* is of the type 'void'"),
        ({"more": (column("s", STRUCT),)}, r"'s\.x' of .* has delta\.invariants"),
    ],
    ids=[
        "protocol",
        "feature",
        "invariant",
        "mapping",
        "constraint",
        "format",
        "type",
        "nested type",
        "nested invariant",
    ],
)
def test_a_table_that_needs_the_rows_to_be_read_is_refused(
    lake: Lake, changes: dict[str, Any], text: str
) -> None:
    table(lake, **changes)
    with pytest.raises(UnsupportedTable, match=text):
        lake.append(lake.put("a.parquet", {"id": [1]}))
    assert lake.versions == [0]


def test_a_log_that_says_no_protocol_is_damaged(lake: Lake) -> None:
    table(lake)
    write_log(lake, 0, [action for action in lake.log(0) if "protocol" not in action])
    with pytest.raises(LogDamaged, match="no versions of the protocol"):
        lake.append(lake.put("a.parquet", {"id": [1]}))
    assert lake.versions == [0]


def test_a_change_data_feed_needs_nothing_of_whole_files(lake: Lake) -> None:
    """Readers take the changes from files that are added and removed (PROTOCOL.md, "Add CDC File")."""
    table(lake, **{"delta.enableChangeDataFeed": "true"})
    assert kinds(lake.append(lake.put("a.parquet", {"id": [1]}))) == ["added"]


def test_nothing_is_removed_from_a_table_that_is_append_only(lake: Lake) -> None:
    table(lake, **{"delta.appendOnly": "true"})
    lake.append(lake.put("a.parquet", {"id": [1]}))
    receipt = lake.append(lake.delete("a.parquet"), on_delete="remove")
    assert (kinds(receipt), reasons(receipt)) == (["rejected"], ["append_only"])


def test_partition_types_must_be_those_of_the_table(lake: Lake) -> None:
    file = lake.put("ds=2024-01-01/a.parquet", {"id": [1]})
    lake.append(file)
    with pytest.raises(ConfigError, match=r"has 'date' for 'ds', and .* has 'string'"):
        lake.append(lake.put("ds=2024-01-02/a.parquet", {"id": [1]}), partition_types={"ds": "date"})


def test_a_file_that_may_have_nulls_is_kept_out_of_a_column_that_must_not(lake: Lake) -> None:
    table(lake, nullable=False)
    receipt = lake.append(
        lake.put("a.parquet", {"id": [1]}),
        lake.put("b.parquet", {"id": [1, None]}),
        lake.put_bytes("c.parquet", parquet({"id": [1]}, write_statistics=False)),
        lake.put("d.parquet", {"other": [1]}),
    )
    assert kinds(receipt) == ["added", "rejected", "rejected", "rejected"]


def test_a_deletion_of_what_was_compacted_says_where_its_rows_are(lake: Lake) -> None:
    for name in "ab":
        lake.append(lake.put(f"{name}.parquet", {"id": [1]}))
    compact_table(lake.s3.client, lake.table)
    (verdict,) = lake.append(lake.delete("a.parquet"), on_delete="remove").verdicts
    assert (verdict.kind, verdict.reason) == ("ignored", "not_in_table")
    assert "version 2 has taken it out" in verdict.detail
    assert "its rows live on in another file" in verdict.detail
    assert len(lake.rows()) == 2
    (verdict,) = lake.append(lake.delete("never.parquet"), on_delete="remove").verdicts
    assert "live on" not in verdict.detail
