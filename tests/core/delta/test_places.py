"""Where a table lies, and what a path says."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.arrival import Arrival
from chunkwise.core.delta.ledger import Ledger
from chunkwise.core.delta.partitions import BadPartition, values_for
from chunkwise.core.delta.places import Table, decode, encode, is_hidden, table_of
from chunkwise.core.errors import ConfigError
from chunkwise.core.events.model import ObjectCreated, ObjectRemoved


@pytest.mark.parametrize(
    ("key", "root"),
    [
        ("a/b/f.parquet", "a/b"),
        ("a/ds=1/f.parquet", "a"),
        ("a/ds=1/b/h=2/f.parquet", "a"),
        ("f.parquet", ""),
        ("ds=1/f.parquet", ""),
        ("a/f=1.parquet", "a"),
        ("a/_delta_log/0.json", "a"),
        ("lake/t/_temporary/0/x.parquet", "lake/t"),
        ("lake/t/_change_data/c.parquet", "lake/t"),
        ("tables/orders/.spark-staging-1/ds=1/p.parquet", "tables/orders"),
        ("in/x.dispatch/parts/y.parquet", "in"),
        (".chunkwise/x.parquet", ""),
        ("_spark_metadata/x.parquet", ""),
        ("a/_day=1/x.parquet", "a"),
        ("a//b/x.parquet", "a"),
        ("/a/x.parquet", ""),
        ("a/./b/x.parquet", "a"),
        ("../x.parquet", ""),
    ],
)
def test_a_table_is_the_folder_up_to_the_first_value(key: str, root: str) -> None:
    assert table_of("b", key) == Table(bucket="b", root=root)


def test_only_what_lies_below_the_root_has_a_path() -> None:
    table = Table.at("s3://b/lake/t/")
    assert table.uri == "s3://b/lake/t"
    assert table.relative("b", "lake/t/x/f") == "x/f"
    for bucket, key in (("c", "lake/t/f"), ("b", "lake/t2/f"), ("b", "lake/t/"), ("b", "lake/t/a//f")):
        assert table.relative(bucket, key) is None
    assert table.relative("b", "lake/t/../f") is None
    assert Table.at("s3://b").relative("b", "f") == "f"


@pytest.mark.parametrize("uri", ["lake", "s3://", "http://b/x", "s3://b/a//b", "s3://b/../x"])
def test_what_is_no_table_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="table_uri"):
        Table.at(uri)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_path_in_the_log_is_ascii_and_leads_back(path: str) -> None:
    assert encode(path).isascii()
    assert decode(encode(path)) == path


@given(st.text("!$&'()+,;:@~=-._/", min_size=1))
def test_signs_that_deltalake_leaves_as_they_are_stay(path: str) -> None:
    assert encode(path) == path


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("f", False),
        ("_f", True),
        (".f", True),
        ("_x/f", True),
        ("_ds=1/f", False),
        ("x/.y/f", True),
        ("f.csv.dispatch/parts/f", True),
        ("a_b/f", False),
    ],
)
def test_names_that_engines_pass_over_are_hidden(path: str, hidden: bool) -> None:
    assert is_hidden(path) is hidden


GOOD_VALUES = [
    ("string", "a%2Fb", "a/b"),
    ("string", "__HIVE_DEFAULT_PARTITION__", None),
    ("string", "", None),
    ("string", "a%3Db%2A", "a=b*"),
    ("date", "2024-02-29", "2024-02-29"),
    ("integer", "007", "7"),
    ("byte", "-128", "-128"),
    ("long", str(2**63 - 1), str(2**63 - 1)),
    ("boolean", "True", "true"),
    ("timestamp", "2024-01-02 03%3A04%3A05", "2024-01-02 03:04:05.000000"),
    ("timestamp", "2024-01-02T03:04:05.5+02:00", "2024-01-02 01:04:05.500000"),
    ("timestamp", "0099-01-02T03:04:05Z", "0099-01-02 03:04:05.000000"),
    ("decimal(5,2)", "-1.5", "-1.50"),
    ("decimal(5,2)", "2.50", "2.50"),
    ("decimal(5,2)", "-0", "0.00"),
    ("decimal(5,2)", "007", "7.00"),
    ("decimal(5,0)", "7.0", "7"),
    ("decimal(38,0)", "9" * 38, "9" * 38),
    ("decimal(2,2)", "0.25", "0.25"),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD_VALUES)
def test_a_value_is_what_its_column_can_hold(kind: str, text: str, value: str | None) -> None:
    assert values_for(f"x={text}/f", {"x": kind}) == {"x": value}


BAD_VALUES = [
    ("date", "2024-02-30"),
    ("date", "20240201"),
    ("date", "2024-1-1"),
    ("integer", str(2**31)),
    ("integer", "1.0"),
    ("integer", "\u0661"),
    ("byte", "128"),
    ("boolean", "1"),
    ("timestamp", "2024-01-02"),
    ("timestamp", "2024-01-02 25:00:00"),
    ("decimal(5,2)", "1.234"),
    ("decimal(5,2)", "1234"),
    ("decimal(5,2)", "1e2"),
    ("decimal(5,2)", "."),
    ("float", "1"),
    ("string", "%ff"),
    ("string", "a=b"),
    ("string", "a*b"),
]


@pytest.mark.parametrize(("kind", "text"), BAD_VALUES)
def test_a_value_that_would_make_a_table_unreadable_is_refused(kind: str, text: str) -> None:
    with pytest.raises(BadPartition) as caught:
        values_for(f"x={text}/f", {"x": kind})
    assert text not in str(caught.value) or text in ("1", ".")


@pytest.mark.parametrize(
    "path", ["f", "x=1/f", "x=1/y=2/z=3/f", "x=1/x=2/f", "=1/f", "X=1/y=2/f", "x=1/y=2/Y=3/f", "x*=1/y=2/f"]
)
def test_columns_must_be_those_of_the_table(path: str) -> None:
    with pytest.raises(BadPartition):
        values_for(path, {"x": "string", "y": "string"})


@given(st.integers(-(10**9), 10**9), st.integers(0, 4))
def test_decimals_keep_their_value(number: int, scale: int) -> None:
    value = Decimal(number).scaleb(-scale)
    (found,) = values_for(f"x={value:f}/f", {"x": f"decimal(18,{scale})"}).values()
    assert found is not None
    assert Decimal(found) == value


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_timestamps_keep_their_value(value: dt.datetime) -> None:
    (found,) = values_for(f"x={value.isoformat()}/f", {"x": "timestamp"}).values()
    assert found is not None
    assert dt.datetime.fromisoformat(found).replace(tzinfo=dt.UTC) == value


# --- arrivals -----------------------------------------------------------------------------------------------


def test_arrivals_are_read_in_every_form_that_travels() -> None:
    created = ObjectCreated(bucket="b", key="k", event="ObjectCreated:Put", size=3, etag="e")
    removed = ObjectRemoved(bucket="b", key="k", event="ObjectRemoved:Delete")
    full = Arrival(bucket="b", key="k", size=3, etag="e")
    for value in (created, created.to_json(), {"uri": "s3://b/k", "size": 3, "etag": "e"}, full):
        assert Arrival.of(value) == full
    for value in (removed, removed.to_json(), {"bucket": "b", "key": "k", "deleted": True}):
        assert Arrival.of(value) == Arrival(bucket="b", key="k", deleted=True)
    assert Arrival.of("s3://b/k/l") == Arrival(bucket="b", key="k/l")


@pytest.mark.parametrize("value", [None, 1, "k", "s3://b", {}, {"bucket": "b"}, {"bucket": 1, "key": "k"}])
def test_what_names_no_object_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="an object must be named"):
        Arrival.of(value)


# --- the ledger ---------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.sampled_from(["add", "remove", "delete", "fold"]), st.integers(1, 3)
    ),
    max_size=40,
)


@given(STEPS)
def test_a_ledger_knows_what_a_dictionary_knows(steps: list[tuple[str, str, int]]) -> None:
    ledger, known = Ledger(), {}
    for version, (path, step, size) in enumerate(steps):
        if step == "add":
            ledger.add(path, etag=f'"{size}"', size=size, version=version)
            known[path] = ("active", str(size), size, version)
        elif step == "fold":
            ledger = Ledger(ledger.folded())
        else:
            ledger.remove(path, size=size, version=version, deleted=step == "delete")
            _, etag, old, _ = known.get(path, ("", None, size, 0))
            known[path] = ("deleted" if step == "delete" else "removed", etag, old, version)
    for path in "abcdefg":
        entry = ledger.get(path)
        if path not in known:
            assert entry is None
            continue
        state, etag, size, version = known[path]
        assert entry is not None
        assert (entry.state, entry.size, entry.version) == (state, size, version)
        assert entry.is_same(etag, size)
        if etag is not None:
            assert not entry.is_same("another", size)


def test_a_full_ledger_forgets_what_does_least_harm() -> None:
    """The oldest files that the table has: to add these again changes nothing."""
    ledger = Ledger()
    for version, path in enumerate("abcdef"):
        ledger.add(path, etag="x", size=1, version=version)
    for path in "abc":
        ledger.remove(path, size=1, version=9, deleted=False)
    left = Ledger(ledger.folded(4))
    assert [path for path in "abcdef" if left.get(path)] == ["a", "b", "c", "f"]
    assert len(Ledger(ledger.folded(2))) == 2
