"""Pages of ListObjectsV2 that are read before botocore reads them."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest
from aiobotocore.session import get_session
from botocore.config import Config

from chunkwise.core.storage.listing import _take_objects, read_quickly
from tests.support.s3 import S3

NAMES = ("Key", "Size", "ETag", "LastModified")
KEYS = ["a b+c%20d.json", "done/chunk_0001.json", "done/ä&<>.json", "done/x.started", "z"]
SETTINGS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}


def fill(s3: S3) -> None:
    for number, key in enumerate(KEYS):
        s3.client.put_object(Bucket=s3.bucket, Key=key, Body=b"x" * number)


def plain(pages: list[dict[str, Any]]) -> list[Any]:
    return [
        (
            [{name: item[name] for name in NAMES} for item in page.get("Contents", ())],
            page["IsTruncated"],
            page["KeyCount"],
            [found["Prefix"] for found in page.get("CommonPrefixes", ())],
        )
        for page in pages
    ]


def clients(s3: S3) -> tuple[Any, Any]:
    def make() -> Any:
        return boto3.client("s3", endpoint_url=s3.endpoint, config=Config(), **SETTINGS)

    quick = make()
    read_quickly(quick)
    read_quickly(quick)
    return quick, make()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"Prefix": "done/"},
        {"Prefix": "nothing/"},
        {"Delimiter": "/"},
        {"PaginationConfig": {"PageSize": 2}},
    ],
    ids=repr,
)
def test_a_page_is_what_botocore_makes_of_it(s3: S3, arguments: dict[str, Any]) -> None:
    fill(s3)
    pages = [
        list(client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, **arguments))
        for client in clients(s3)
    ]
    assert plain(pages[0]) == plain(pages[1])
    if not arguments:
        assert [item["Key"] for item in pages[0][0]["Contents"]] == sorted(KEYS, key=str.encode)


def test_it_is_so_for_asynchronous_clients(s3: S3) -> None:
    fill(s3)

    async def page() -> dict[str, Any]:
        async with get_session().create_client("s3", endpoint_url=s3.endpoint, **SETTINGS) as client:
            read_quickly(client)
            found: dict[str, Any] = await client.list_objects_v2(Bucket=s3.bucket)
            return found

    found = asyncio.run(page())
    assert plain([found]) == plain([s3.client.list_objects_v2(Bucket=s3.bucket)])
    assert set(found["Contents"][0]) == set(NAMES), "botocore has not read them"


def test_errors_are_botocores(s3: S3) -> None:
    quick, _ = clients(s3)
    with pytest.raises(quick.exceptions.NoSuchBucket):
        quick.list_objects_v2(Bucket=f"{s3.bucket}-gone")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<ListBucketResult><Contents>",
        b"<L><Contents><Key>a</Key></Contents></L>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>",
        (
            b"<ListBucketResult><Contents><Key>a</Key><Size>many</Size><ETag>e</ETag>"
            b"<LastModified>2024-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>"
        ),
    ],
)
def test_what_is_no_page_is_left_to_botocore(body: bytes) -> None:
    response: dict[str, Any] = {"status_code": 200, "body": body}
    more: dict[str, Any] = {}
    _take_objects(response_dict=response, customized_response_dict=more)
    assert (response["body"], more) == (body, {})
