"""Links to the AWS console."""

from __future__ import annotations

import pytest

from chunkwise.links.s3 import S3ObjectLink


@pytest.mark.parametrize(
    ("domain", "start"),
    [
        (
            "aws.amazon.com",
            "https://console.aws.amazon.com/s3/object/lake?region=eu-west-1&bucketType=general&prefix=",
        ),
        (
            "amazonaws.cn",
            "https://console.amazonaws.cn/s3/object/lake?region=eu-west-1&bucketType=general&prefix=",
        ),
    ],
)
def test_a_key_is_quoted(domain: str, start: str) -> None:
    link = S3ObjectLink().format_link(
        aws_domain=domain, region_name="eu-west-1", bucket_name="lake", key="a&b=c/d e/é#.gz"
    )
    assert link == start + "a%26b%3Dc/d%20e/%C3%A9%23.gz"


def test_a_partition_without_a_console_has_no_link() -> None:
    assert S3ObjectLink().format_link(aws_domain=None, region_name="x", bucket_name="b", key="k") == ""
