"""A function that does nothing but report: it writes the done record of its chunk."""

from __future__ import annotations

import functools
import json
from typing import Any

import boto3
from botocore.exceptions import ClientError


@functools.cache
def _client() -> Any:
    return boto3.client("s3")


def handler(event: dict[str, str], _context: object) -> dict[str, Any]:
    """Read the manifest, and write that its chunk held no rows, which a merge can publish."""
    bucket, _, key = event["manifest"].removeprefix("s3://").partition("/")
    manifest = json.loads(_client().get_object(Bucket=bucket, Key=key)["Body"].read())
    chunk = manifest["chunk"]
    done = {
        "dispatch": manifest["dispatch"],
        "chunk": chunk,
        "revision": manifest.get("revision", 0),
        "attempt": event.get("attempt", "peer-1"),
        **manifest["span"],
        **dict.fromkeys(("rows_in", "rows_out", "bytes_in", "bytes_out", "seconds", "peak_rss"), 0),
        "started_at": "2024-01-01T00:00:00.000+00:00",
    }
    prefix = key.partition("manifests/")[0]
    try:
        _client().put_object(
            Bucket=bucket,
            Key=f"{prefix}done/chunk_{chunk:04d}.json",
            Body=json.dumps(done).encode(),
            IfNoneMatch="*",
        )
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
            raise
    return {"chunk": chunk, "state": "done"}
