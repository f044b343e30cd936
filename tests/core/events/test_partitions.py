"""Names of partitions: short enough for Airflow, different for different things."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.core.errors import ConfigError
from chunkwise.core.events.model import ObjectCreated
from chunkwise.core.events.partitions import MAX_KEY, partition_key, partitions, shard_of

WHEN = datetime(2023, 12, 21, 23, 30, tzinfo=timezone(-timedelta(hours=2)))


def event(key: str, bucket: str = "b") -> ObjectCreated:
    return ObjectCreated(bucket=bucket, key=key, event="ObjectCreated:Put", time=WHEN)


@pytest.mark.parametrize(
    ("by", "depth", "name"),
    [
        ("object", None, "s3://b/landing/day=1/a b.csv"),
        ("prefix", None, "s3://b/landing/day=1/"),
        ("prefix", 1, "s3://b/landing/"),
        ("prefix", 0, "s3://b/"),
        ("prefix", 9, "s3://b/landing/day=1/"),
        ("date", None, "2023-12-22"),
    ],
)
def test_a_partition_is_named_after_what_it_holds(by, depth, name):
    assert partition_key(event("landing/day=1/a b.csv"), by, prefix_depth=depth) == name


def test_an_event_without_a_time_keeps_no_other_one_back():
    undated = ObjectCreated(bucket="b", key="k", event="ObjectCreated:Put")
    dated = event("x")
    assert partitions([undated, dated], "date") == {"undated": [undated], "2023-12-22": [dated]}


@pytest.mark.parametrize("depth", [-1, 1.5, "1", True])
def test_a_depth_is_a_number_of_folders(depth):
    with pytest.raises(ConfigError, match="prefix_depth is ") as refused:
        partition_key(event("a/b/c"), "prefix", prefix_depth=depth)
    assert refused.value.parameters == ("prefix_depth",)


@given(keys=st.lists(st.text(min_size=1, max_size=1024), min_size=1, unique=True, max_size=8))
def test_objects_have_names_of_their_own_that_airflow_takes(keys):
    names = [partition_key(event(key)) for key in keys]
    assert all(name.strip() and len(name) <= MAX_KEY for name in names)
    assert len(set(names)) == len(keys)


def test_long_names_that_begin_alike_differ():
    assert partition_key(event("x" * 1000 + "a")) != partition_key(event("x" * 1000 + "b"))
    assert partition_key(event("x" * 1000)).startswith("s3://b/xxx")


@given(
    keys=st.lists(st.text("ab/", min_size=1, max_size=6)), by=st.sampled_from(["object", "prefix", "date"])
)
def test_every_event_is_in_one_partition(keys, by):
    events = [event(key) for key in keys]
    found = partitions(events, by)
    assert Counter(one.key for held in found.values() for one in held) == Counter(keys)


@given(names=st.sets(st.text(max_size=20)), shards=st.integers(1, 7))
def test_every_partition_is_in_one_shard(names, shards):
    assert all(shard_of(name, shards) in range(shards) for name in names)


def test_shards_are_about_equal_and_the_same_in_every_process():
    shares = Counter(shard_of(f"s3://b/{number}", 10) for number in range(1000))
    assert len(shares) == 10
    assert max(shares.values()) < 150
    assert [shard_of(name, 10) for name in ("a", "b", "c")] == [
        int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) % 10 for name in ("a", "b", "c")
    ]
