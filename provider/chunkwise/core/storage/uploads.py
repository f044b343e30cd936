"""Multipart uploads that are open: list their parts, abort them, find those that a killed run left behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from chunkwise.core.errors import ConfigError, StorageError, UploadFailed
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.failures import CALL_ERRORS, is_gone, is_passing, reason
from chunkwise.core.storage.saved import SavedUpload, UploadedPart

log = logging.getLogger(__name__)

#: aborts before giving up on parts that arrive while S3 aborts
_ABORT_ROUNDS = 3

LIFECYCLE_HINT = "a lifecycle rule with AbortIncompleteMultipartUpload on the bucket removes it"


def list_parts(
    client: Any, bucket: str, key: str, upload_id: str, *, arguments: CallArguments
) -> Iterator[UploadedPart]:
    """The parts that S3 has, in order, from as many ListParts pages as there are.

    :raises ClientError: as S3 says, with code ``NoSuchUpload`` for an upload that is gone.
    """
    pages = client.get_paginator("list_parts").paginate(
        Bucket=bucket, Key=key, UploadId=upload_id, **arguments.of("ListParts")
    )
    for page in pages:
        for part in page.get("Parts", ()):
            yield UploadedPart(
                number=part["PartNumber"],
                etag=part["ETag"],
                size=part["Size"],
                crc32=part.get("ChecksumCRC32"),
            )


def abort_upload(client: Any, bucket: str, key: str, upload_id: str, *, arguments: CallArguments) -> None:
    """Abort, and look whether it is really gone: a part that was under way may outlive the first abort.

    An upload that is already gone is fine.

    :raises UploadFailed: S3 does not abort it, or it is still there after three aborts.
    """
    try:
        for _ in range(_ABORT_ROUNDS):
            client.abort_multipart_upload(
                Bucket=bucket, Key=key, UploadId=upload_id, **arguments.of("AbortMultipartUpload")
            )
            client.list_parts(
                Bucket=bucket, Key=key, UploadId=upload_id, MaxParts=1, **arguments.of("ListParts")
            )
    except CALL_ERRORS as error:
        if is_gone(error):
            return
        failure = UploadFailed(
            f"upload {upload_id} of s3://{bucket}/{key} may still be open, aborting it failed: "
            f"{reason(error)}; {LIFECYCLE_HINT}"
        )
        failure.transient = is_passing(error)
        raise failure from error
    raise UploadFailed(
        f"upload {upload_id} of s3://{bucket}/{key} is still open after {_ABORT_ROUNDS} aborts; "
        f"{LIFECYCLE_HINT}"
    )


def abort_because_of(abort: Callable[[], None], error: BaseException) -> None:
    """Abort while ``error`` is on its way out; a failing abort adds to what it says and hides nothing."""
    try:
        abort()
    except UploadFailed as failure:
        if isinstance(error, StorageError):
            error.args = (f"{error}; {failure}",)
        else:
            error.add_note(str(failure))
        log.error("%s", failure)


def abort_saved(client: Any, saved: SavedUpload, *, extra_args: Mapping[str, Any] | None = None) -> None:
    """Abort an upload that will not be resumed. Calling it again, or after it was completed, does nothing.

    :param client: boto3 S3 client.
    :param saved: state from :meth:`S3Writer.checkpoint`.
    :param extra_args: as given to the writer; those that apply are sent (e.g. ``ExpectedBucketOwner``).
    :raises UploadFailed: the upload may still be open; the text says how to remove it.
    """
    abort_upload(
        client,
        saved.bucket,
        saved.key,
        saved.upload_id,
        arguments=CallArguments(client, extra_args, key=saved.key),
    )


def abort_stale_uploads(
    client: Any,
    bucket: str,
    key: str,
    *,
    older_than: timedelta,
    keep: Collection[str] = (),
    extra_args: Mapping[str, Any] | None = None,
) -> list[str]:
    """Abort what killed runs left open under exactly one key.

    An upload younger than ``older_than`` is never touched: it may belong to a run that is still writing. Age
    is measured on S3's clock, from the Date of its answer.

    :param client: boto3 S3 client; needs ``s3:ListBucketMultipartUploads``.
    :param bucket: bucket.
    :param key: the exact key; uploads of longer keys that start with it are left alone.
    :param older_than: longer than any run takes.
    :param keep: upload ids to leave alone whatever their age.
    :param extra_args: as given to the writer.
    :return: ids of the aborted uploads, oldest first.
    :raises UploadFailed: an upload could not be aborted.
    """
    if older_than <= timedelta(0):
        raise ConfigError(
            f"older_than must be positive, not {older_than}: it protects runs that are still writing"
        )
    arguments = CallArguments(client, extra_args, key=key)
    stale: list[tuple[datetime, str]] = []
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, Prefix=key, **arguments.of("ListMultipartUploads")
    )
    for page in pages:
        limit = _server_time(page) - older_than
        stale.extend(
            (upload["Initiated"], upload["UploadId"])
            for upload in page.get("Uploads", ())
            if upload["Key"] == key and upload["UploadId"] not in keep and upload["Initiated"] < limit
        )
    aborted = []
    for initiated, upload_id in sorted(stale):
        abort_upload(client, bucket, key, upload_id, arguments=arguments)
        log.warning("Aborted upload %s of s3://%s/%s, open since %s", upload_id, bucket, key, initiated)
        aborted.append(upload_id)
    return aborted


def abort_below(
    client: Any,
    bucket: str,
    prefix: str,
    *,
    named: Callable[[str], bool] | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> list[str]:
    """Abort every upload below a prefix of which nobody needs anything any more.

    :param client: boto3 S3 client; needs ``s3:ListBucketMultipartUploads``.
    :param bucket: bucket.
    :param prefix: ends with a slash, unless ``named`` tells which uploads are meant.
    :param named: whether the upload of a key is one of them; default: all are.
    :param extra_args: those that apply are sent (e.g. ``ExpectedBucketOwner``).
    :return: ids of the aborted uploads.
    :raises ConfigError: the prefix is not that of a folder.
    :raises UploadFailed: an upload could not be aborted.
    """
    if named is None and not prefix.endswith("/"):
        raise ConfigError(f"{prefix!r} must end with '/': it would name uploads of other keys as well")
    arguments = CallArguments(client, extra_args, key=prefix)
    pages = client.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, Prefix=prefix, **arguments.of("ListMultipartUploads")
    )
    found = [
        (upload["Key"], upload["UploadId"])
        for page in pages
        for upload in page.get("Uploads", ())
        if named is None or named(upload["Key"])
    ]
    for key, upload_id in found:
        abort_upload(client, bucket, key, upload_id, arguments=CallArguments(client, extra_args, key=key))
    return [upload_id for _, upload_id in found]


def _server_time(answer: Mapping[str, Any]) -> datetime:
    header = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(header) if header else datetime.now(UTC)
