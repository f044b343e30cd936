"""Where a dispatch reads, writes and keeps its state."""

from __future__ import annotations

import pytest

from chunkwise.core.dispatch.places import bucket_and_key, source_of, staging_of, target_of
from chunkwise.core.errors import ConfigError

NAMES = {"bucket_name": "s3_bucket", "key_name": "s3_key"}


@pytest.mark.parametrize(
    ("bucket", "key", "found"),
    [
        ("b", "a/k.csv", ("b", "a/k.csv")),
        (None, "s3://b/a/k.csv", ("b", "a/k.csv")),
        ("", "s3://b/k", ("b", "k")),
        (None, "s3://b/odd?key#x/ ü", ("b", "odd?key#x/ ü")),
    ],
)
def test_a_bucket_stands_beside_the_key_or_in_it(bucket, key, found):
    assert bucket_and_key(bucket, key, **NAMES) == found


@pytest.mark.parametrize(
    ("bucket", "key", "says"),
    [
        ("b", "s3://c/k", "say the bucket once"),
        (None, "k", "the bucket is missing"),
        ("b", "", "the key is missing"),
        (None, None, "missing"),
        (None, "s3://b", "the key is missing"),
        (None, "s3:///k", "the bucket is missing"),
    ],
)
def test_what_is_missing_or_double_is_named(bucket, key, says):
    with pytest.raises(ConfigError, match=rf"s3_key.*{says}"):
        bucket_and_key(bucket, key, **NAMES)


def test_source_and_target_name_their_own_parameters():
    assert source_of("b", "k", "").version_id is None
    assert target_of(None, "s3://b/k", on_exists="skip").uri == "s3://b/k"
    with pytest.raises(ConfigError, match="target_key must be"):
        target_of(None, None)


@pytest.mark.parametrize(
    ("places", "uri"),
    [
        ({"s3_bucket": "b", "s3_key": "in/f.csv"}, "s3://b/in/f.csv.dispatch/"),
        ({"s3_key": "s3://b/f.csv", "staging_uri": "s3://other/work"}, "s3://other/work/f.csv.dispatch/"),
        ({"s3_key": "s3://b/f.csv", "staging_uri": ""}, "s3://b/f.csv.dispatch/"),
        ({"staging_uri": "s3://other/work/f.csv.dispatch/"}, "s3://other/work/f.csv.dispatch/"),
        ({"s3_key": "s3://b/f.csv", "staging_uri": "s3://o/x.dispatch/"}, "s3://o/x.dispatch/"),
    ],
)
def test_the_staging_directory(places, uri):
    assert staging_of(None, **places).uri == uri


def test_a_prefix_for_staging_directories_needs_the_source():
    with pytest.raises(ConfigError, match="s3_key"):
        staging_of(None, staging_uri="s3://other/work/")
