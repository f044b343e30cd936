"""The object that is being written, and the S3 calls on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

from chunkwise.core.errors import ConfigError
from chunkwise.core.storage.arguments import CallArguments, check_metadata
from chunkwise.core.storage.checksum import crc32, encode_crc32
from chunkwise.core.storage.failures import CALL_ERRORS, status_of
from chunkwise.core.storage.saved import UploadedPart

#: metadata member by which a writer recognises its own object when the answer to a commit was lost
NONCE = "chunkwise-upload"


class Target:
    """One key, with everything that belongs into each call on it. Knows no state and decides nothing.

    :param client: boto3 S3 client.
    :param bucket: bucket name or access point ARN.
    :param key: object key.
    :param nonce: goes into the metadata of the object.
    :param condition: ``IfMatch`` or ``IfNoneMatch`` of the commit, or nothing.
    :param content_type: Content-Type of the object.
    :param metadata: user metadata.
    :param extra_args: see :class:`~chunkwise.core.storage.arguments.CallArguments`.
    :param checksum: ``"CRC32"``, or ``None`` to send none.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        key: str,
        *,
        nonce: str,
        condition: Mapping[str, str],
        content_type: str | None,
        metadata: Mapping[str, str] | None,
        extra_args: Mapping[str, Any] | None,
        checksum: Literal["CRC32"] | None,
    ) -> None:
        if metadata and NONCE in {str(name).lower() for name in metadata}:
            raise ConfigError(f"metadata must not contain {NONCE}: the writer sets it")
        check_metadata(metadata, NONCE, nonce)
        self.client = client
        self.bucket = bucket
        self.key = key
        self.uri = f"s3://{bucket}/{key}"
        self.arguments = CallArguments(client, extra_args, key=key)
        self._nonce = nonce
        self._condition = dict(condition)
        self._checksum = checksum
        self._lock = threading.Lock()
        #: calls so far; what botocore repeats by itself is not counted
        self.requests = 0
        self._described: dict[str, Any] = {"Metadata": {**(metadata or {}), NONCE: nonce}}
        if content_type is not None:
            self._described["ContentType"] = content_type

    def put(self, body: bytearray, crc: int) -> dict[str, Any]:
        """One PutObject, under the condition."""
        sums = {"ChecksumCRC32": encode_crc32(crc)} if self._checksum else {}
        return self._call(
            self.client.put_object, "PutObject", Body=body, **sums, **self._described, **self._condition
        )

    def create(self) -> str:
        """CreateMultipartUpload; its upload id."""
        sums = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"} if self._checksum else {}
        answer = self._call(
            self.client.create_multipart_upload, "CreateMultipartUpload", **sums, **self._described
        )
        return str(answer["UploadId"])

    def upload_part(self, upload_id: str, number: int, body: bytearray) -> UploadedPart:
        """UploadPart, with its own checksum: botocore would otherwise copy the body to compute one."""
        part_crc = encode_crc32(crc32(body, 0)) if self._checksum else None
        sums = {"ChecksumCRC32": part_crc} if part_crc else {}
        answer = self._call(
            self.client.upload_part, "UploadPart", UploadId=upload_id, PartNumber=number, Body=body, **sums
        )
        return UploadedPart(number=number, etag=answer["ETag"], size=len(body), crc32=part_crc)

    def copy_part(
        self,
        upload_id: str,
        number: int,
        source: Mapping[str, str],
        etag: str,
        *,
        size: int,
        start: int | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> UploadedPart:
        """UploadPartCopy of a whole object, or of ``size`` bytes from ``start`` on, if it has this ETag.

        :param source: ``Bucket``, ``Key`` and perhaps ``VersionId``; botocore encodes them.
        :param more: further arguments, e.g. ``CopySourceSSECustomerKey``.
        """
        part = {} if start is None else {"CopySourceRange": f"bytes={start}-{start + size - 1}"}
        answer = self._call(
            self.client.upload_part_copy,
            "UploadPartCopy",
            UploadId=upload_id,
            PartNumber=number,
            CopySource=dict(source),
            CopySourceIfMatch=etag,
            **part,
            **(more or {}),
        )["CopyPartResult"]
        return UploadedPart(number=number, etag=answer["ETag"], size=size, crc32=answer.get("ChecksumCRC32"))

    def complete(self, upload_id: str, parts: list[UploadedPart], crc: int | None) -> dict[str, Any]:
        """CompleteMultipartUpload of exactly these parts, under the condition, with their total size.

        :param crc: of all bytes, if it is known: S3 refuses what has another one.
        """
        listed = []
        for part in parts:
            sums = {"ChecksumCRC32": part.crc32} if self._checksum and part.crc32 else {}
            listed.append({"PartNumber": part.number, "ETag": part.etag, **sums})
        whole = {"ChecksumType": "FULL_OBJECT"} if self._checksum else {}
        if self._checksum and crc is not None:
            whole["ChecksumCRC32"] = encode_crc32(crc)
        return self._call(
            self.client.complete_multipart_upload,
            "CompleteMultipartUpload",
            UploadId=upload_id,
            MultipartUpload={"Parts": listed},
            MpuObjectSize=sum(part.size for part in parts),
            **whole,
            **self._condition,
        )

    def look(self) -> Standing:
        """HeadObject: what stands under the key now. A refusal is a value as well, not an error."""
        try:
            answer = self._call(self.client.head_object, "HeadObject")
        except CALL_ERRORS as error:
            return Standing(known=status_of(error) == 404)
        return Standing(known=True, ours=answer.get("Metadata", {}).get(NONCE) == self._nonce, answer=answer)

    def _call(self, method: Callable[..., dict[str, Any]], operation: str, **own: Any) -> dict[str, Any]:
        with self._lock:
            self.requests += 1
        return method(Bucket=self.bucket, Key=self.key, **own, **self.arguments.of(operation))


def condition_of(on_exists: str, if_match: str | None) -> dict[str, str]:
    """The condition of a commit.

    :param on_exists: ``"replace"``, ``"skip"`` or ``"fail"``.
    :param if_match: replace only the object with this ETag.
    :raises ConfigError: the two do not go together.
    """
    if on_exists not in ("replace", "skip", "fail"):
        raise ConfigError(f"on_exists must be 'replace', 'skip' or 'fail', not {on_exists!r}")
    if if_match is not None and on_exists != "replace":
        raise ConfigError(
            f"if_match replaces one certain object: it needs on_exists='replace', not {on_exists!r}"
        )
    if if_match is not None:
        return {"IfMatch": if_match}
    return {} if on_exists == "replace" else {"IfNoneMatch": "*"}


class Standing:
    """What HeadObject said.

    :param known: whether it said anything: an object, or that there is none.
    :param ours: whether the object carries the nonce of this writer.
    :param answer: of HeadObject; empty where there is no object.
    """

    def __init__(self, *, known: bool, ours: bool = False, answer: Mapping[str, Any] | None = None) -> None:
        self.known = known
        self.ours = ours
        self.answer: Mapping[str, Any] = answer or {}
