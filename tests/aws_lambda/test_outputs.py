"""Where outputs go, what is left alone, and no loops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkwise.aws_lambda.outputs import Outputs, left_alone
from chunkwise.core.errors import ConfigError
from chunkwise.core.events.s3_records import ObjectCreated


@pytest.mark.parametrize(
    ("uri", "key", "output"),
    [
        ("s3://out", "in/a.csv", "in/a.csv"),
        ("s3://out/", "in/a.csv", "in/a.csv"),
        ("s3://out/p", "in/a.csv", "p/in/a.csv"),
        ("s3://out/p/", "a.csv", "p/a.csv"),
        ("s3://out/p/{key}", "in/a.csv", "p/in/a.csv"),
        ("s3://out/p/{folder}new_{name}", "in/b/a.csv", "p/in/b/new_a.csv"),
        ("s3://out/{folder}{name}", "a.csv", "a.csv"),
        ("s3://out/p/{stem}.jsonl.gz", "in/a.b.csv.gz", "p/a.b.jsonl.gz"),
        ("s3://out/p/{stem}", "in/noend", "p/noend"),
        ("s3://out/p/{key}", "in/{key}.csv", "p/in/{key}.csv"),
    ],
)
def test_an_output_goes_where_its_rule_says(uri, key, output):
    target = Outputs.parse(uri).target(key)
    assert (target.bucket, target.key) == ("out", output)


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "",
        "out/p",
        "https://out/p",
        "s3://",
        "s3:///p",
        "s3://out/{date}",
        "s3://out/{",
        "s3://out/{}",
        "s3://out/{key!x}",
        "s3://out/{key!r}",
        "s3://out/{key:d}",
        "s3://out/{key:>9}",
        "s3://out/{key.upper}",
        "s3://out/{key[0]}",
    ],
)
def test_a_rule_that_is_none_is_refused(uri):
    with pytest.raises(ConfigError, match="CHUNKWISE_OUTPUT_URI"):
        Outputs.parse(uri)


def test_one_output_for_many_files_is_refused():
    with pytest.raises(ConfigError, match="all files of a folder would have one output"):
        Outputs.parse("s3://out/{folder}all.csv")


def created(bucket: str, key: str) -> ObjectCreated:
    return ObjectCreated(bucket=bucket, key=key, event="ObjectCreated:Put")


@given(
    prefix=st.sampled_from(["", "p", "p/q/", "p/{folder}", "p{stem}"]),
    key=st.text("ab/.{}", min_size=1, max_size=12),
)
def test_no_output_is_ever_taken_for_a_file(prefix, key):
    """In the bucket of the files a rule is refused, or all that it gives is left alone."""
    uri = f"s3://lake/{prefix}{'{name}' if prefix.endswith('{folder}') else ''}"
    outputs = Outputs.parse(uri)
    try:
        outputs.check("lake")
    except ConfigError:
        assert prefix == ""
        return
    target = outputs.target(key)
    assert left_alone(created(target.bucket, target.key), outputs) is not None


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("lake", "in/a.csv.dispatch/plan.json"),
        ("lake", "in/a.csv.dispatch/manifests/chunk_0000.manifest.json"),
        ("lake", "in/mapping.json"),
        ("lake", "mapping.json"),
        ("lake", "in/"),
        ("lake", "in/_chunkwise/a.csv.rejected.jsonl.gz"),
        ("out", "p/in/a.csv"),
    ],
)
def test_what_is_no_file_is_left_alone(bucket, key):
    assert left_alone(created(bucket, key), Outputs.parse("s3://out/p/")) is not None


@pytest.mark.parametrize(
    ("bucket", "key"),
    [("lake", "in/a.csv"), ("lake", "p/a.csv"), ("lake", "a.dispatch"), ("lake", "in/mapping.json.gz")],
)
def test_a_file_is_not(bucket, key):
    assert left_alone(created(bucket, key), Outputs.parse("s3://out/p/")) is None
