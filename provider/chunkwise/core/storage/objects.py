"""Small objects: written under a condition, read whole, listed and deleted.

What S3 decides by a condition holds although requests are repeated: a writer knows its own object by a nonce
in the metadata, so that the 412 of a request whose first answer was lost is not taken for somebody else's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, Final, TypeVar

from chunkwise.core.errors import DeleteFailed, ObjectChanged, ObjectExists, ReadFailed, UploadFailed
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.checksum import crc32
from chunkwise.core.storage.failures import (
    BODY_ERRORS,
    CALL_ERRORS,
    code_of,
    is_passing,
    reason,
    status_of,
    was_retried,
)
from chunkwise.core.storage.retries import Retries
from chunkwise.core.storage.target import Target
from chunkwise.core.units import MiB

T = TypeVar("T")

#: keys of one DeleteObjects request, and of one page of a listing at most (API reference)
MAX_KEYS: Final = 1000
DEFAULT_MAX: Final = 16 * MiB
RETRIES: Final = Retries(attempts=4)


@dataclass(frozen=True, kw_only=True, slots=True)
class Small:
    """A small object as it was read.

    :param body: its bytes.
    :param etag: in its quotes.
    :param version_id: where the bucket is versioned.
    :param last_modified: when it was written, on S3's clock, in whole seconds.
    :param answered_at: S3's clock when it was read; ``None`` where the server does not say.
    """

    body: bytes
    etag: str
    version_id: str | None
    last_modified: datetime
    answered_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One object of a listing.

    :param key: object key.
    :param size: bytes.
    :param etag: in its quotes.
    :param last_modified: when it was written, on S3's clock, in whole seconds.
    """

    key: str
    size: int
    etag: str
    last_modified: datetime


def put_new(
    client: Any,
    bucket: str,
    key: str,
    body: bytes,
    *,
    content_type: str = "application/json",
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> str:
    """Write an object where none stands (``If-None-Match: *``).

    :param extra_args: more arguments as for ``put_object``.
    :return: the ETag.
    :raises ObjectExists: another one stands there.
    :raises UploadFailed: S3 refuses, or failed at every attempt.
    """
    uri = f"s3://{bucket}/{key}"

    def refused(error: Exception) -> Exception | None:
        if status_of(error) == 412:
            return ObjectExists(f"{uri} has an object already")
        return None

    return _put(client, bucket, key, body, {"IfNoneMatch": "*"}, refused, content_type, extra_args, retries)


def put_if_match(
    client: Any,
    bucket: str,
    key: str,
    body: bytes,
    *,
    etag: str,
    content_type: str = "application/json",
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> str:
    """Replace exactly the object with this ETag.

    The ETag of an object that S3 stores in one piece is a digest of its bytes: replace it by other bytes, or
    a third writer cannot tell the two.

    One thing nobody can know: when an answer was lost, and another object stands there now, that one may have
    replaced the own one. ObjectChanged then says so. A writer that adds to what it has read looks for its own
    addition before it adds it again.

    :param etag: of the object that must stand there.
    :param extra_args: more arguments as for ``put_object``.
    :return: the new ETag.
    :raises ObjectChanged: another one stands there, or none.
    :raises UploadFailed: S3 refuses, or failed at every attempt.
    """
    uri = f"s3://{bucket}/{key}"

    def refused(error: Exception) -> Exception | None:
        if status_of(error) == 412:
            return ObjectChanged(f"{uri} is no longer the object with ETag {etag}")
        if code_of(error) == "NoSuchKey":  # what S3 says where there is no object to compare
            return ObjectChanged(f"{uri} with ETag {etag} is gone")
        return None

    return _put(client, bucket, key, body, {"IfMatch": etag}, refused, content_type, extra_args, retries)


def get(
    client: Any,
    bucket: str,
    key: str,
    *,
    max_bytes: int = DEFAULT_MAX,
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> Small | None:
    """Read a whole object.

    :param max_bytes: a larger one is an error, and is not read.
    :param extra_args: more arguments as for ``put_object``; those that GetObject knows are sent.
    :return: ``None`` where there is none.
    :raises ReadFailed: S3 refuses, failed at every attempt, or the object is too large.
    """
    uri = f"s3://{bucket}/{key}"
    arguments = CallArguments(client, extra_args).of("GetObject")

    def attempt() -> Small | None:
        try:
            answer = client.get_object(Bucket=bucket, Key=key, **arguments)
        except CALL_ERRORS as error:
            if code_of(error) == "NoSuchKey":
                return None
            raise
        body, size = answer["Body"], int(answer["ContentLength"])
        try:
            if size > max_bytes:
                raise ReadFailed(
                    f"{uri} has {size} bytes, and must not have more than {max_bytes}", transient=False
                )
            data = body.read()  # to its end: botocore then checks its length and its checksum
        finally:
            body.close()
        return Small(
            body=data,
            etag=answer["ETag"],
            version_id=answer.get("VersionId"),
            last_modified=answer["LastModified"],
            answered_at=server_time(answer),
        )

    try:
        return _retried(attempt, retries)
    except BODY_ERRORS as error:
        raise ReadFailed(f"{uri} could not be read: {reason(error)}", transient=is_passing(error)) from error


def delete(
    client: Any,
    bucket: str,
    key: str,
    *,
    if_match: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> None:
    """Delete one object; what is not there is fine.

    :param if_match: only the object with this ETag. A server that answers 501 to the condition is asked by
        HeadObject first and then told to delete without it: a writer in between loses its object there.
    :param extra_args: more arguments as for ``put_object``; those that DeleteObject knows are sent.
    :raises ObjectChanged: another one stands there; it was not deleted.
    :raises DeleteFailed: S3 refuses, or failed at every attempt.
    """
    uri = f"s3://{bucket}/{key}"
    every = CallArguments(client, extra_args)
    arguments = {"Bucket": bucket, "Key": key, **every.of("DeleteObject")}

    def standing() -> str | None:
        try:
            answer = client.head_object(Bucket=bucket, Key=key, **every.of("HeadObject"))
        except CALL_ERRORS as error:
            if status_of(error) == 404:
                return None
            raise
        return str(answer["ETag"])

    def attempt() -> None:
        if if_match is None:
            client.delete_object(**arguments)
            return
        conditional = True
        try:
            client.delete_object(**arguments, IfMatch=if_match)
            return
        except CALL_ERRORS as error:
            if code_of(error) == "NoSuchKey":
                return
            if status_of(error) not in (412, 501):
                raise
            conditional = status_of(error) == 412
        found = standing()
        if found is None:
            return
        if conditional or found != if_match:
            raise ObjectChanged(
                f"{uri} is no longer the object with ETag {if_match}, but {found}; it was not deleted"
            )
        client.delete_object(**arguments)

    try:
        _retried(attempt, retries)
    except CALL_ERRORS as error:
        raise DeleteFailed(
            f"{uri} could not be deleted: {reason(error)}", transient=is_passing(error)
        ) from error


def delete_all(
    client: Any,
    bucket: str,
    keys: Iterable[str],
    *,
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> None:
    """Delete many objects, 1,000 with a request; what is not there is fine.

    Every key is tried before an error is raised.

    :param extra_args: more arguments as for ``put_object``; those that DeleteObjects knows are sent.
    :raises DeleteFailed: S3 refuses, or failed at every attempt; names the first keys and why.
    """
    arguments = CallArguments(client, extra_args).of("DeleteObjects")
    left: dict[str, str] = {}
    passing = True
    remaining = iter(keys)
    while batch := list(islice(remaining, MAX_KEYS)):
        try:
            _retried(_Deletion(client, bucket, batch, arguments), retries)
        except _Undeleted as error:
            left.update(error.codes)
            passing = passing and error.passing
        except CALL_ERRORS as error:
            raise DeleteFailed(
                f"{len(batch)} objects from s3://{bucket}/{batch[0]} on were not deleted: {reason(error)}",
                transient=is_passing(error),
            ) from error
    if left:
        shown = ", ".join(f"{key} ({code})" for key, code in islice(left.items(), 5))
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        raise DeleteFailed(f"objects in s3://{bucket} were not deleted: {shown}{more}", transient=passing)


def list_objects(
    client: Any,
    bucket: str,
    prefix: str,
    *,
    start_after: str | None = None,
    below: bool = True,
    extra_args: Mapping[str, Any] | None = None,
    retries: Retries = RETRIES,
) -> Iterator[Listed]:
    """The objects below a prefix, in the order of their keys' UTF-8 bytes, 1,000 with a request.

    :param prefix: of the keys; empty: all.
    :param start_after: only keys behind this one.
    :param below: those in folders below the prefix, too.
    :param extra_args: more arguments as for ``put_object``; those that ListObjectsV2 knows are sent.
    :raises ReadFailed: S3 refuses, or failed at every attempt.
    """
    arguments = {"Bucket": bucket, "Prefix": prefix, **CallArguments(client, extra_args).of("ListObjectsV2")}
    if start_after is not None:
        arguments["StartAfter"] = start_after
    if not below:
        arguments["Delimiter"] = "/"
    while True:
        try:
            page = _retried(lambda: client.list_objects_v2(**arguments), retries)
        except CALL_ERRORS as error:
            raise ReadFailed(
                f"s3://{bucket}/{prefix} could not be listed: {reason(error)}", transient=is_passing(error)
            ) from error
        for item in page.get("Contents", ()):
            yield Listed(
                key=item["Key"], size=item["Size"], etag=item["ETag"], last_modified=item["LastModified"]
            )
        if not page.get("IsTruncated"):
            return
        arguments["ContinuationToken"] = page["NextContinuationToken"]


def server_time(answer: Mapping[str, Any]) -> datetime | None:
    """S3's clock when it answered, in whole seconds; ``None`` where the server does not say.

    :param answer: of a call of a boto3 client.
    """
    header = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(header) if header else None


def _put(
    client: Any,
    bucket: str,
    key: str,
    body: bytes,
    condition: Mapping[str, str],
    refused: Callable[[Exception], Exception | None],
    content_type: str,
    extra_args: Mapping[str, Any] | None,
    retries: Retries,
) -> str:
    target = Target(
        client,
        bucket,
        key,
        nonce=uuid.uuid4().hex,
        condition=condition,
        content_type=content_type,
        metadata=None,
        extra_args=extra_args,
        checksum="CRC32",
    )
    data = bytearray(body)
    crc = crc32(data, 0)
    failures = 0
    written = False  # by an attempt whose answer was lost, perhaps
    while True:
        try:
            return str(target.put(data, crc)["ETag"])
        except CALL_ERRORS as error:
            refusal = refused(error)
            known = True
            written = written or was_retried(error) or status_of(error) >= 500
            if written:
                standing = target.look()
                if standing.ours:
                    return str(standing.answer["ETag"])
                known = standing.known
            if refusal is not None and known:
                end = (
                    "an earlier attempt may have been written, and replaced"
                    if written
                    else "nothing was written"
                )
                refusal.args = (f"{refusal}; {end}",)
                raise refusal from error
            failures += 1
            if not (refusal is not None or is_passing(error)) or not retries.wait(failures):
                unsure = "" if known else "; HeadObject failed too, so the object may be there or not"
                failure = UploadFailed(f"{target.uri} could not be written: {reason(error)}{unsure}")
                failure.transient = refusal is not None or is_passing(error)
                raise failure from error


def _retried(attempt: Callable[[], T], retries: Retries) -> T:
    """Do it again as long as its error may pass."""
    failures = 0
    while True:
        try:
            return attempt()
        except _Undeleted as error:
            failures += 1
            if not error.passing or not retries.wait(failures):
                raise
        except BODY_ERRORS as error:
            failures += 1
            if not is_passing(error) or not retries.wait(failures):
                raise


#: codes in the answer of DeleteObjects by which a key may be deleted later
_PASSING_ITEMS: Final = frozenset({"InternalError", "OperationAborted", "ServiceUnavailable", "SlowDown"})


class _Undeleted(Exception):
    """Keys that one request left over, with S3's codes."""

    def __init__(self, codes: dict[str, str]) -> None:
        super().__init__(len(codes))
        self.codes = codes
        self.passing = _PASSING_ITEMS.issuperset(codes.values())


class _Deletion:
    """One batch of keys, which gets smaller with every attempt."""

    def __init__(self, client: Any, bucket: str, keys: list[str], arguments: Mapping[str, Any]) -> None:
        self._client = client
        self._bucket = bucket
        self._keys = keys
        self._arguments = arguments

    def __call__(self) -> None:
        answer = self._client.delete_objects(
            Bucket=self._bucket,
            Delete={"Objects": [{"Key": key} for key in self._keys], "Quiet": True},
            **self._arguments,
        )
        codes = {item["Key"]: item.get("Code", "unknown code") for item in answer.get("Errors", ())}
        if codes:
            self._keys = list(codes)
            raise _Undeleted(codes)
