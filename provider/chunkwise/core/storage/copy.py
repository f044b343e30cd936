"""Copy whole objects on the server side, each once: a repetition knows its own copies.

A copy says in its metadata what it was made from. Its ETag does not: under KMS it is another one than that of
the source, and so it is for sources that were uploaded in parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.core.errors import ObjectExists, ReadFailed, SourceChanged, UploadFailed
from chunkwise.core.segments import Range
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.concat import concat
from chunkwise.core.storage.concat_plan import S3_LIMITS, Limits
from chunkwise.core.storage.failures import CALL_ERRORS, is_passing, reason, status_of
from chunkwise.core.storage.objects import RETRIES
from chunkwise.core.storage.retries import Retries
from chunkwise.core.storage.source import ObjectRef
from chunkwise.core.units import GiB

#: S3: what CopyObject takes at most; beyond it, an upload whose parts are copied (CopyObject API reference)
LARGEST: Final = 5 * GiB
#: user metadata of a copy: a digest of what it was made from
ORIGIN: Final = "chunkwise-origin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """A copy that stands there.

    :param key: of it.
    :param etag: of it, in its quotes.
    :param size: bytes.
    :param made: whether it was made now; it stood there before otherwise.
    """

    key: str
    etag: str
    size: int
    made: bool


def copy(
    client: Any,
    source: ObjectRef,
    *,
    bucket: str,
    key: str,
    content_type: str = "application/octet-stream",
    metadata: Mapping[str, str] | None = None,
    extra_args: Mapping[str, Any] | None = None,
    largest: int = LARGEST,
    limits: Limits = S3_LIMITS,
    retries: Retries = RETRIES,
) -> Copied:
    """Copy an object to where none stands, or where this very copy stands already.

    One request, two if it stands there. What is copied is the object that the reference pins. A botocore
    before 1.40.70 or so does not know the condition of CopyObject: there it is written as any concatenation
    is, by copied parts, or through the client if it is smaller than one.

    :param client: boto3 S3 client.
    :param metadata: user metadata of the copy. That of the source is not taken over.
    :param extra_args: more arguments as for ``put_object``; each goes to the calls that accept it.
    :param largest: bytes from which on the object is copied in parts.
    :param limits: of the server, for these.
    :raises ObjectExists: another object stands there.
    :raises SourceChanged: the source is gone, or is no longer the one that was pinned.
    :raises UploadFailed: S3 refuses, or failed at every attempt.
    :raises ReadFailed: S3 does not say what stands there.
    """
    described = {**(metadata or {}), ORIGIN: origin_of(source)}
    if source.size > largest or not _knows_condition(client):
        receipt = concat(
            client,
            [Range(source, 0, source.size)],
            bucket=bucket,
            key=key,
            on_exists="skip",
            content_type=content_type,
            metadata=described,
            extra_args=extra_args,
            limits=limits,
            retries=retries,
        )
        if receipt.skipped:
            return _there(client, source, bucket, key, extra_args)
        return Copied(key=key, etag=str(receipt.etag), size=source.size, made=True)
    failures = 0
    while True:
        try:
            answer = client.copy_object(
                Bucket=bucket,
                Key=key,
                CopySource=_source(source),
                CopySourceIfMatch=source.etag,
                IfNoneMatch="*",
                MetadataDirective="REPLACE",
                Metadata=described,
                ContentType=content_type,
                **CallArguments(client, extra_args).of("CopyObject"),
            )
        except CALL_ERRORS as error:
            failures += 1
            if status_of(error) == 412:  # by one condition or the other
                return _there(client, source, bucket, key, extra_args)
            if status_of(error) == 404:
                raise SourceChanged(f"{source.uri} is gone") from error
            if is_passing(error) and retries.wait(failures):
                continue
            failure = UploadFailed(
                f"{source.uri} could not be copied to s3://{bucket}/{key}: {reason(error)}"
            )
            failure.transient = is_passing(error)
            raise failure from error
        return Copied(key=key, etag=answer["CopyObjectResult"]["ETag"], size=source.size, made=True)


def _knows_condition(client: Any) -> bool:
    operation = client.meta.service_model.operation_model("CopyObject")
    return "IfNoneMatch" in operation.input_shape.members


def standing(
    client: Any,
    source: ObjectRef,
    *,
    bucket: str,
    key: str,
    extra_args: Mapping[str, Any] | None = None,
) -> Copied | None:
    """The copy of an object, if it stands there; ``None`` if nothing does.

    :raises ObjectExists: another object stands there.
    :raises ReadFailed: S3 does not say.
    """
    uri = f"s3://{bucket}/{key}"
    try:
        head = client.head_object(
            Bucket=bucket, Key=key, **CallArguments(client, extra_args).of("HeadObject")
        )
    except CALL_ERRORS as error:
        if status_of(error) == 404:
            return None
        raise ReadFailed(
            f"{uri} could not be looked at: {reason(error)}", transient=is_passing(error)
        ) from error
    same = head.get("Metadata", {}).get(ORIGIN) == origin_of(source) or head["ETag"] == source.etag
    if not same or head["ContentLength"] != source.size:
        raise ObjectExists(f"{uri} has an object already, and it is no copy of {source.uri}")
    return Copied(key=key, etag=head["ETag"], size=source.size, made=False)


def origin_of(source: ObjectRef) -> str:
    """What tells this object from every other one, for the metadata of its copies."""
    text = "\n".join((source.bucket, source.key, source.etag.strip('"'), str(source.size)))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _there(
    client: Any, source: ObjectRef, bucket: str, key: str, extra_args: Mapping[str, Any] | None
) -> Copied:
    found = standing(client, source, bucket=bucket, key=key, extra_args=extra_args)
    if found is None:
        raise SourceChanged(f"{source.uri} is no longer the object with ETag {source.etag}")
    return found


def _source(source: ObjectRef) -> dict[str, str]:
    version = {} if source.version_id is None else {"VersionId": source.version_id}
    return {"Bucket": source.bucket, "Key": source.key, **version}
