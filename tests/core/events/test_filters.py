"""Which objects pass a filter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError
from chunkwise.core.events.filters import ObjectFilter
from chunkwise.core.events.model import ObjectCreated, ObjectEvent, ObjectRemoved


def created(key: str, **members) -> ObjectEvent:
    return ObjectCreated(**{"bucket": "b", "key": key, "event": "ObjectCreated:Put", **members})


@pytest.mark.parametrize(
    ("wanted", "key", "passes"),
    [
        ({}, "a", True),
        ({"prefix": "landing/"}, "landing/a", True),
        ({"prefix": "landing/"}, "land", False),
        ({"prefix": ["x/", "landing/"]}, "landing/a", True),
        ({"suffix": ".csv"}, "a.csv", True),
        ({"suffix": [".csv", ".jsonl"]}, "a.jsonl", True),
        ({"suffix": ".csv"}, "a.csv.gz", False),
        ({"bucket": "b"}, "a", True),
        ({"bucket": ["c", "d"]}, "a", False),
        ({"pattern": "landing/*.csv"}, "landing/a.csv", True),
        ({"pattern": "landing/*.csv"}, "landing/x/a.csv", False),
        ({"pattern": "landing/**/*.csv"}, "landing/x/y/a.csv", True),
        ({"pattern": "landing/**/*.csv"}, "landing/a.csv", True),
        ({"pattern": "**.csv"}, "x/y/a.csv", True),
        ({"pattern": "part-?.csv"}, "part-1.csv", True),
        ({"pattern": "part-?.csv"}, "part-10.csv", False),
        ({"pattern": "part-[ab].csv"}, "part-a.csv", True),
        ({"pattern": "part-[!ab].csv"}, "part-a.csv", False),
        ({"pattern": "part-[!ab].csv"}, "part-c.csv", True),
        ({"pattern": "a[b"}, "a[b", True),
        ({"pattern": "a.b"}, "axb", False),
        ({"pattern": "*"}, "a\nb", True),
    ],
)
def test_names(wanted, key, passes):
    assert ObjectFilter(**wanted).passes(created(key)) is passes


@given(key=st.text(alphabet="ab*?[].\\^$+(){}|-!", min_size=1, max_size=12))
def test_a_key_without_wildcards_is_a_pattern_of_itself_only(key):
    escaped = "".join(f"[{letter}]" if letter in "*?[" else letter for letter in key)
    assert ObjectFilter(pattern=escaped).passes(created(key))
    assert not ObjectFilter(pattern=escaped).passes(created(f"{key}x"))


@pytest.mark.parametrize(
    "key",
    [
        "in/people.csv.dispatch/plan.json",
        "in/people.csv.dispatch/parts/chunk_0000.a.part",
        "x.dispatch/y",
        "table/_delta_log/00000000000000000000.json",
        "out/_temporary/0/part",
        ".chunkwise/arrivals/x.json",
        "folder/",
        "lake/t/_change_data/c.parquet",
        "lake/t/_spark_metadata/0.parquet",
        "_spark_metadata/x.parquet",
        "tables/orders/.spark-staging-1/ds=1/p.parquet",
        "tables/orders/.hive-staging_hive_2024/p.parquet",
        "lake/t/_chunkwise/x.parquet",
    ],
)
def test_staging_and_folder_markers_never_pass(key):
    assert not ObjectFilter().passes(created(key))
    assert not ObjectFilter(pattern="**").passes(created(key))


@pytest.mark.parametrize("key", ["in/my.dispatch", "a_delta_log/x", "dispatch/x", "in/x_temporary/y"])
def test_names_that_only_look_like_staging_pass(key):
    assert ObjectFilter().passes(created(key))


@pytest.mark.parametrize(
    ("key", "hidden"),
    [("out/_SUCCESS", True), (".a/b", True), ("a/.b", True), ("_day=3/a", False), ("a_b/c.d", False)],
)
def test_hidden_names_are_passed_over_where_asked(key, hidden):
    assert ObjectFilter().passes(created(key))
    assert ObjectFilter(ignore_hidden=True).passes(created(key)) is not hidden


@given(size=st.integers(0, 30), low=st.none() | st.integers(0, 15), high=st.none() | st.integers(15, 30))
def test_sizes_between_their_bounds_pass(size, low, high):
    expected = (low or 0) <= size <= (99 if high is None else high)
    assert ObjectFilter(min_bytes=low, max_bytes=high).passes(created("k", size=size)) is expected


def test_a_size_that_is_not_known_passes():
    assert ObjectFilter(min_bytes=1).passes(created("k"))


@pytest.mark.parametrize(
    ("names", "event", "passes"),
    [
        (None, "ObjectRemoved:Delete", True),
        ("ObjectCreated:*", "ObjectRemoved:Delete", False),
        ("s3:ObjectRemoved:*", "ObjectRemoved:DeleteMarkerCreated", True),
        (["ObjectCreated:Put", "ObjectCreated:Post"], "ObjectCreated:Copy", False),
        (["ObjectRemoved:*", "LifecycleExpiration:*"], "LifecycleExpiration:Delete", True),
    ],
)
def test_names_of_events(names, event, passes):
    kind = ObjectCreated if event.startswith("ObjectCreated") else ObjectRemoved
    assert ObjectFilter(event_names=names).passes(kind(bucket="b", key="k", event=event)) is passes


@pytest.mark.parametrize(
    "wanted",
    [
        {"prefix": ""},
        {"suffix": ""},
        {"bucket": "My_old.Bucket-1"},
        {"prefix": "_raw/"},
        {"prefix": "a/_d", "ignore_hidden": True},
        {"prefix": "_day=3/", "ignore_hidden": True},
        {"event_names": "*"},
        {"event_names": ["s3:ObjectCreated:*", "ObjectCreated:CompleteMultipartUpload", "*:Delete"]},
        {"event_names": "ObjectCreated:Unknown"},
    ],
    ids=str,
)
def test_filters_that_something_can_pass_are_let_in(wanted):
    ObjectFilter(**wanted)


def test_only_arrivals_pass_unless_asked():
    assert not ObjectFilter().passes(ObjectRemoved(bucket="b", key="k", event="ObjectRemoved:Delete"))


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"prefix": 7}, "prefix must be a text or a list"),
        ({"suffix": []}, "suffix must be a text or a list"),
        ({"bucket": ["b", 7]}, "bucket must be"),
        ({"pattern": ["a"]}, "pattern must be a text"),
        ({"pattern": "[z-a]"}, "pattern cannot be read"),
        ({"min_bytes": -1}, "min_bytes must be a number"),
        ({"max_bytes": "7"}, "max_bytes must be a number"),
        ({"min_bytes": 2, "max_bytes": 1}, "no object can pass"),
        ({"event_names": "ObjectCreate:*"}, "'ObjectCreate:.', which is no event"),
        ({"event_names": "Put"}, "event_names has 'Put'"),
        ({"event_names": ["ObjectCreated:*", "Bla:*"]}, "event_names has 'Bla:"),
        ({"event_names": "ObjectTagging:*"}, "event_names has 'ObjectTagging:"),
        ({"event_names": ""}, "event_names has ''"),
        ({"bucket": "s3://b"}, "bucket is 's3://b'"),
        ({"bucket": ["b", "b/x"]}, "bucket is 'b/x'"),
        ({"bucket": ""}, "bucket is ''"),
        ({"bucket": "lake-*"}, "bucket is 'lake-"),
        ({"prefix": "s3://b/x"}, "prefix is 's3://b/x'"),
        ({"prefix": ["a/", "t/_delta_log/0"]}, "staging never passes"),
        ({"prefix": "a/_raw/", "ignore_hidden": True}, "ignore_hidden passes over"),
        ({"suffix": "x/"}, "keys of folders never pass"),
        ({"pattern": ""}, "no key is empty"),
        ({"pattern": "s3://b/**"}, "give the bucket as bucket"),
        ({"pattern": "landing/"}, "keys of folders never pass"),
    ],
    ids=str,
)
def test_filters_that_cannot_work_are_refused(wanted, says):
    with pytest.raises(ConfigError, match=says):
        ObjectFilter(**wanted)
