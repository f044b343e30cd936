"""Tags of arrivals, beside those that the objects have."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from chunkwise.core.errors import ConfigError, TaggingFailed, TooManyTags
from chunkwise.core.storage.tags import check_tags, merge_tags
from chunkwise.operators.s3_tags import S3TagObjectsOperator
from tests.support.airflow import Ran
from tests.support.dispatch import Run, dag
from tests.support.faults import FOREVER, Faults
from tests.support.s3 import S3


def run(run_dag: Run, **options: Any) -> Ran:
    with dag() as it:
        S3TagObjectsOperator(**{"task_id": "tag", **options})
    return run_dag(it)


def give(s3: S3, key: str, tags: Mapping[str, str]) -> None:
    tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
    s3.client.put_object_tagging(Bucket=s3.bucket, Key=key, Tagging={"TagSet": tag_set})


def tags_of(s3: S3, key: str) -> dict[str, str]:
    found = s3.client.get_object_tagging(Bucket=s3.bucket, Key=key)["TagSet"]
    return {one["Key"]: one["Value"] for one in found}


def test_template_fields_are_parameters_that_are_kept_as_they_were_given() -> None:
    own = set(S3TagObjectsOperator.template_fields) & set(
        inspect.signature(S3TagObjectsOperator.__init__).parameters
    )
    assert own == {"objects", "tags", "extension_tag", "extra_args"}
    for name in own:
        value = object()
        assert getattr(S3TagObjectsOperator(**{"task_id": "t", "objects": [], name: value}), name) is value


def test_tags_are_added_to_those_that_are_there_once(run_dag: Run, s3: S3) -> None:
    for key in ("a.PARQUET", "no suffix", ".hidden"):
        s3.put(key, b"x")
    give(s3, "a.PARQUET", {"owner": "me", "state": "old"})
    uris = [f"s3://{s3.bucket}/{key}" for key in ("a.PARQUET", "no suffix", ".hidden", "gone")]
    objects = [*uris, uris[0], {"bucket": s3.bucket, "key": "x", "event": "ObjectRemoved:Delete"}]
    options = {"objects": objects, "tags": {"state": "new"}, "extension_tag": "fileext"}
    first = run(run_dag, **options).returned("tag")
    assert first == {"tagged": 3, "unchanged": 0, "gone": 2, "failed": 0}
    assert tags_of(s3, "a.PARQUET") == {"owner": "me", "state": "new", "fileext": "parquet"}
    assert tags_of(s3, "no suffix") == tags_of(s3, ".hidden") == {"state": "new"}
    again = run(run_dag, **options).returned("tag")
    assert again == {"tagged": 0, "unchanged": 3, "gone": 2, "failed": 0}


def test_an_object_with_too_many_tags_keeps_them_and_the_others_get_theirs(run_dag: Run, s3: S3) -> None:
    full = {f"tag{number}": "x" for number in range(10)}
    for key in ("full", "other"):
        s3.put(key, b"x")
    give(s3, "full", full)
    ran = run(run_dag, objects=[f"s3://{s3.bucket}/{key}" for key in ("full", "other")], tags={"more": "y"})
    assert ran.states["tag"] == "failed"
    assert tags_of(s3, "full") == full
    assert tags_of(s3, "other") == {"more": "y"}
    with pytest.raises(TooManyTags, match="has 10 tags and would have 11"):
        merge_tags(s3.client, s3.bucket, "full", {"more": "y"})
    assert merge_tags(s3.client, s3.bucket, "full", {"tag3": "new"}) == "tagged"
    assert tags_of(s3, "full") == {**full, "tag3": "new"}


def test_tags_that_are_there_cost_one_request_and_no_write(s3: S3) -> None:
    s3.put("k", b"x")
    merge_tags(s3.client, s3.bucket, "k", {"a": "b"})
    before = s3.calls.copy()
    assert merge_tags(s3.client, s3.bucket, "k", {"a": "b"}) == "unchanged"
    assert dict(s3.calls - before) == {"GetObjectTagging": 1}


def test_the_version_that_was_read_is_the_one_that_is_tagged(s3: S3) -> None:
    s3.client.put_bucket_versioning(Bucket=s3.bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put("k", b"1")
    first = s3.head("k")["VersionId"]
    s3.put("k", b"2")
    assert merge_tags(s3.client, s3.bucket, "k", {"a": "b"}, version_id=first) == "tagged"
    assert tags_of(s3, "k") == {}


@pytest.mark.parametrize(("status", "transient"), [(403, False), (503, True)], ids=["refused", "unavailable"])
def test_a_refusal_names_the_object_and_says_whether_to_try_again(
    s3: S3, faults: Faults, status: int, transient: bool
) -> None:
    S3(s3.endpoint, faults.bucket).put("k", b"x")
    faults.fail("GetObject", status=status, times=FOREVER)
    with pytest.raises(TaggingFailed, match=f"s3://{faults.bucket}/k could not be tagged") as failed:
        merge_tags(faults.client, faults.bucket, "k", {"a": "b"})
    assert failed.value.transient is transient


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {str(number): "" for number in range(11)},
        {"": "x"},
        {"k" * 129: "x"},
        {"k": "v" * 257},
        {"aws:x": ""},
    ],
    ids=["none", "eleven", "no key", "long key", "long value", "reserved"],
)
def test_tags_that_s3_would_not_take_are_refused_before_any_request(tags: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        check_tags(tags)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"objects": None}, "objects is None"),
        ({"objects": 5}, "objects is 5"),
        ({"objects": [None]}, "an object must be named"),
        ({"tags": "x"}, "tags must give a text for each name"),
        ({"tags": {"a": 1}}, "tags must give a text for each name"),
        ({"extension_tag": 5}, "extension_tag is 5"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": "8"}, "concurrency is '8'"),
        ({"concurrency": 1.5}, "concurrency is 1.5"),
        ({"extra_args": "x"}, "extra_args must give arguments by name"),
    ],
    ids=str,
)
def test_parameters_that_cannot_work_fail_at_once(s3: S3, options: dict[str, Any], text: str) -> None:
    s3.put("k", b"x")
    given = {"objects": f"s3://{s3.bucket}/k", "tags": {"a": "b"}, **options}
    with pytest.raises(AirflowFailException, match=text):
        S3TagObjectsOperator(task_id="t", **given).execute({})
    assert tags_of(s3, "k") == {}
