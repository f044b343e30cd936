"""Links from a task to what it wrote on S3."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from chunkwise._aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink


class S3ObjectLink(BaseAwsLink):  # type: ignore[misc]  # amazon's classes are not typed
    """Open the object that the task writes in the AWS console.

    ``persist`` takes ``bucket_name`` and ``key``. In a partition without a public console there is no link.
    """

    name = "S3 object"
    key = "_chunkwise_s3_object"
    format_str = (
        BASE_AWS_CONSOLE_LINK
        + "/s3/object/{bucket_name}?region={region_name}&bucketType=general&prefix={key}"
    )

    def format_link(self, **members: Any) -> str:
        """The link, with the key as a query value: it may hold anything."""
        if not members.get("aws_domain"):
            return ""
        link: str = super().format_link(**{**members, "key": quote(str(members.get("key", "")), safe="/")})
        return link
