"""Put an object together from segments on the server side."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NoReturn

from chunkwise.core.errors import (
    ConfigError,
    DeleteFailed,
    ObjectExists,
    UploadConflict,
    UploadFailed,
    UploadLost,
)
from chunkwise.core.segments import Range, Segment
from chunkwise.core.storage import commit, objects
from chunkwise.core.storage.arguments import KEEPING
from chunkwise.core.storage.checksum import crc32 as crc32_of
from chunkwise.core.storage.checksum import decode_crc32, encode_crc32
from chunkwise.core.storage.combine import combine_all
from chunkwise.core.storage.concat_plan import (
    S3_LIMITS,
    Copy,
    Limits,
    PartPlan,
    Upload,
    plan_concat,
    plan_stages,
)
from chunkwise.core.storage.concat_upload import ConcatUpload, Sources
from chunkwise.core.storage.failures import (
    CALL_ERRORS,
    is_gone,
    is_passing,
    status_of,
    was_retried,
)
from chunkwise.core.storage.receipt import ObjectReceipt
from chunkwise.core.storage.retries import Retries
from chunkwise.core.storage.saved import UploadedPart
from chunkwise.core.storage.source import ObjectRef
from chunkwise.core.storage.target import Standing, Target, condition_of
from chunkwise.core.storage.uploads import abort_because_of
from chunkwise.core.storage.writer import OnExists

log = logging.getLogger(__name__)

#: uploads that are begun for one object, where S3 asks to start again (409) or an upload was ended by others
_STARTS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ConcatReceipt(ObjectReceipt):
    """What was put together, or why nothing was.

    :param copies: parts that S3 copied by itself, those of intermediate objects included.
    :param copied_bytes: bytes in these.
    :param uploaded_bytes: bytes that went through the client.
    :param requests: calls of S3, reads included; what botocore repeats by itself is not counted.
    """

    copies: int = 0
    copied_bytes: int = 0
    uploaded_bytes: int = 0
    requests: int = 0


def concat(
    client: Any,
    segments: Sequence[Segment],
    *,
    bucket: str,
    key: str,
    on_exists: OnExists = "replace",
    if_match: str | None = None,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
    extra_args: Mapping[str, Any] | None = None,
    source_args: Mapping[str, Any] | None = None,
    copies_in_flight: int = 8,
    checksum: Literal["CRC32"] | None = "CRC32",
    crc32: int | None = None,
    on_upload_id: Callable[[str], None] | None = None,
    scratch: str | None = None,
    retries: Retries | None = None,
    limits: Limits = S3_LIMITS,
) -> ConcatReceipt:
    """Make one object of segments: the whole of it appears by one conditional request, or nothing.

    Ranges are copied by S3 itself (UploadPartCopy), each on condition that its object is still the one that
    was pinned; see :func:`~chunkwise.core.storage.concat_plan.plan_concat` for what has to go through the
    client. Less than one part, or a single part that is uploaded, is one PutObject. Any exception,
    KeyboardInterrupt included, aborts. S3 checks the size of the whole, and its checksum where that is known:
    from ``crc32``, or because S3 tells the checksums of what it copied. Where the answer to the commit is
    lost, a nonce in the object's metadata tells whether it took place. Where S3 asks to start again (409), or
    somebody ended the upload, that is done, twice at most. A process that is killed leaves an open upload,
    which :func:`~chunkwise.core.storage.abort_stale_uploads` or a lifecycle rule removes.

    More parts than one upload can hold (10,000) are put together in intermediate objects first, which are
    removed in the end, whatever it is; a process that is killed leaves them, too.

    :param client: boto3 S3 client; its retry settings apply to every request. Its pool should have two
        connections more than ``copies_in_flight``.
    :param segments: what the object is made of; a range is ``of`` an
        :class:`~chunkwise.core.storage.source.ObjectRef`.
    :param bucket: bucket name or access point ARN.
    :param key: object key.
    :param on_exists: what happens when the key has an object: ``"replace"``, ``"skip"`` or ``"fail"``. The
        last two are ``If-None-Match: *`` on the commit itself, so that of several writers exactly one wins.
    :param if_match: replace only the object with this ETag; needs ``on_exists="replace"``.
    :param content_type: Content-Type of the object.
    :param metadata: user metadata of the object. That of the sources is not taken over.
    :param extra_args: further arguments with boto3's names, as in
        :class:`~chunkwise.core.storage.writer.S3Writer`; each goes to the calls that accept it.
    :param source_args: what GetObject needs for the sources: ``SSECustomerKey``, ``ExpectedBucketOwner`` ...;
        copies get them under their names there.
    :param copies_in_flight: parts that S3 copies at once; beside them, two parts of less than 10 MiB are
        uploaded at once.
    :param checksum: ``"CRC32"``: S3 verifies each uploaded part and the whole object; ``None`` for a server
        that knows no checksums.
    :param crc32: of all bytes, if it is known; what has another one is refused.
    :param on_upload_id: told the id of every upload of ``key`` before its first part, to be saved.
    :param scratch: prefix in the same bucket for intermediate objects; default: ``{key}.concat/``.
    :param retries: of one request, for what botocore's own leave over.
    :param limits: of the server.
    :raises SourceChanged: an object is gone, or is no longer the one that was pinned; it is named.
    :raises ObjectExists: the key has an object and ``on_exists`` is ``"fail"``, or it is not the one of
        ``if_match``.
    :raises UploadConflict: other writers were busy with the same key every time.
    :raises UploadLost: somebody ended the upload every time.
    :raises ReadFailed: a source can't be read.
    :raises UploadFailed: S3 refuses a part or the commit, or failed at every attempt.
    :raises ObjectTooLarge: no upload can hold it.
    :raises ConfigError: parameters that cannot work.
    """
    if copies_in_flight < 1:
        raise ConfigError(f"copies_in_flight must be at least 1, not {copies_in_flight}")
    if checksum not in ("CRC32", None):
        raise ConfigError(f"checksum must be 'CRC32' or None, not {checksum!r}")
    started = time.monotonic()
    nonce = uuid.uuid4().hex
    common: dict[str, Any] = {
        "copies_in_flight": copies_in_flight,
        "checksum": checksum,
        "retries": retries or objects.RETRIES,
    }
    whole = _Object(
        client,
        bucket,
        key,
        nonce=nonce,
        on_exists=on_exists,
        if_match=if_match,
        content_type=content_type,
        metadata=metadata,
        extra_args=extra_args,
        source_args=source_args,
        crc32=crc32,
        on_upload_id=on_upload_id,
        **common,
    )
    stages = plan_stages(segments, limits)
    if len(stages) == 1:
        receipt = whole.publish(stages[0])
    else:
        encryption = {name: value for name, value in (extra_args or {}).items() if name in KEEPING}
        prefix = f"{f'{key}.concat/' if scratch is None else scratch}{nonce}/"
        receipt = whole.refused_early() or _in_stages(
            [
                (
                    _Object(
                        client,
                        bucket,
                        f"{prefix}{number:05}",
                        nonce=nonce,
                        extra_args=encryption,
                        source_args=source_args,
                        **common,
                    ),
                    stage,
                )
                for number, stage in enumerate(stages)
            ],
            whole.reading_with(encryption),
            limits,
            encryption,
        )
    log.info(
        "%s %s: %s bytes, %d parts, %d bytes through the client, %d requests, %.1f s",
        "Left alone" if receipt.skipped else "Put together",
        receipt.uri,
        receipt.size,
        receipt.parts,
        receipt.uploaded_bytes,
        receipt.requests,
        time.monotonic() - started,
    )
    return receipt


class _Object:
    """One object that is put together."""

    def __init__(
        self,
        client: Any,
        bucket: str,
        key: str,
        *,
        nonce: str,
        copies_in_flight: int,
        checksum: Literal["CRC32"] | None,
        retries: Retries,
        on_exists: OnExists = "replace",
        if_match: str | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        extra_args: Mapping[str, Any] | None = None,
        source_args: Mapping[str, Any] | None = None,
        crc32: int | None = None,
        on_upload_id: Callable[[str], None] | None = None,
    ) -> None:
        self.target = Target(
            client,
            bucket,
            key,
            nonce=nonce,
            condition=condition_of(on_exists, if_match),
            content_type=content_type,
            metadata=metadata,
            extra_args=extra_args,
            checksum=checksum,
        )
        self.sources = Sources(client, source_args, retries)
        self._on_exists = on_exists
        self._if_match = if_match
        self._copies_in_flight = copies_in_flight
        self._retries = retries
        self._crc = crc32
        self._on_upload_id = on_upload_id

    def reading_with(self, source_args: Mapping[str, Any]) -> _Object:
        """The same object, from sources that need these arguments."""
        self.sources = Sources(self.target.client, source_args, self._retries)
        return self

    def publish(self, plan: list[PartPlan]) -> ConcatReceipt:
        """Publish these parts as one object."""
        if not plan or (len(plan) == 1 and isinstance(plan[0], Upload)):
            return self._put(plan)
        refused = self.refused_early()
        if refused is not None:
            return refused
        starts = 0
        while True:
            starts += 1
            try:
                return self._assemble(plan)
            except (UploadConflict, UploadLost) as error:
                if starts == _STARTS:
                    raise
                log.warning("%s; starting again", error)

    def refused_early(self) -> ConcatReceipt | None:
        """Look before many copies are made for nothing. The commit decides all the same."""
        if self._on_exists == "replace" and self._if_match is None:
            return None
        standing = self.target.look()
        if not standing.known:
            return None
        if self._if_match is not None:
            if standing.answer.get("ETag") != self._if_match:
                self._exists(standing, None)
            return None
        return self._refused(standing, None) if standing.answer else None

    # --- one PutObject --------------------------------------------------------------------------------------

    def _put(self, plan: list[PartPlan]) -> ConcatReceipt:
        body = self.sources.read(
            [piece for part in plan if isinstance(part, Upload) for piece in part.pieces]
        )
        crc = self._checked(crc32_of(body, 0))
        failures = 0
        while True:
            try:
                return self._published(self.target.put(body, crc), plan, crc)
            except CALL_ERRORS as error:
                failures += 1
                standing = self.target.look()
                repeated = failures > 1 or was_retried(error)
                settled = self._settled(error, standing, plan, crc, repeated=repeated)
                if settled is not None:
                    return settled
                if is_passing(error) and self._retries.wait(failures):
                    continue
                if status_of(error) == 409:
                    raise commit.conflict(self.target.uri) from error
                raise commit.failed(self.target.uri, error, standing, repeated=repeated) from error

    # --- one multipart upload -------------------------------------------------------------------------------

    def _assemble(self, plan: list[PartPlan]) -> ConcatReceipt:
        upload = ConcatUpload(
            self.target, self.sources, copies_in_flight=self._copies_in_flight, retries=self._retries
        )
        try:
            upload_id = upload.start()
            if self._on_upload_id is not None:
                self._on_upload_id(upload_id)
            parts = upload.put_parts(plan)
            receipt = self._complete(upload, plan, parts)
            if receipt.skipped:
                _abort_quietly(upload)
        except BaseException as error:
            abort_because_of(upload.abort, error)
            raise
        upload.finish()
        return receipt

    def _complete(
        self, upload: ConcatUpload, plan: list[PartPlan], parts: list[UploadedPart]
    ) -> ConcatReceipt:
        crc = self._crc_of(parts)
        failures = 0
        while True:
            try:
                return self._published(self.target.complete(upload.upload_id, parts, crc), plan, crc)
            except CALL_ERRORS as error:
                failures += 1
                standing = self.target.look()
                repeated = failures > 1 or was_retried(error)
                settled = self._settled(error, standing, plan, crc, repeated=repeated)
                if settled is not None:
                    return settled
                if status_of(error) == 409:
                    raise commit.conflict(self.target.uri) from error
                if is_gone(error):
                    if not standing.known:
                        raise commit.failed(self.target.uri, error, standing, repeated=True) from error
                    raise UploadLost(
                        f"upload {upload.upload_id} of {self.target.uri} is gone before it was completed"
                    ) from error
                if is_passing(error) and self._retries.wait(failures):
                    continue
                # The commit may still be under way at S3. Once the upload is aborted it can't come.
                abort_because_of(upload.abort, error)
                standing = self.target.look()
                if standing.ours:
                    return self._published(standing.answer, plan, crc)
                raise commit.failed(self.target.uri, error, standing, repeated=repeated) from error

    def _crc_of(self, parts: list[UploadedPart]) -> int | None:
        known = [(decode_crc32(part.crc32), part.size) for part in parts if part.crc32 is not None]
        return self._checked(combine_all(known)) if len(known) == len(parts) else self._crc

    def _checked(self, crc: int) -> int:
        if self._crc is not None and crc != self._crc:
            failure = UploadFailed(
                f"{self.target.uri} would have CRC-32 {crc:08x}, and {self._crc:08x} is expected; "
                "nothing was written"
            )
            failure.transient = False
            raise failure
        return crc

    # --- what a failed commit means -------------------------------------------------------------------------

    def _settled(
        self, error: Exception, standing: Standing, plan: list[PartPlan], crc: int | None, *, repeated: bool
    ) -> ConcatReceipt | None:
        """The receipt, if the commit is decided; raises if it is refused; ``None`` if nothing is known yet.

        :param standing: what the key has after the error.
        :param repeated: an earlier request may have had an effect.
        """
        if standing.ours:
            log.warning("The answer to the commit of %s was lost, but the object is there", self.target.uri)
            return self._published(standing.answer, plan, crc)
        if commit.is_refused(error, standing, repeated=repeated):
            return self._refused(standing, error)
        commit.check_gone(self.target.uri, error)
        if (status_of(error) == 409 or is_gone(error)) and standing.answer and self._on_exists != "replace":
            return self._refused(standing, error)  # rather than all parts once more, for the same answer
        return None

    def _refused(self, standing: Standing, error: Exception | None) -> ConcatReceipt:
        if self._on_exists != "skip":
            self._exists(standing, error)
        answer = standing.answer
        return ConcatReceipt(
            bucket=self.target.bucket,
            key=self.target.key,
            uri=self.target.uri,
            size=answer.get("ContentLength"),
            etag=answer.get("ETag"),
            version_id=answer.get("VersionId"),
            crc32=None,
            parts=0,
            skipped=True,
            requests=self.target.requests + self.sources.requests,
        )

    def _exists(self, standing: Standing, error: Exception | None) -> NoReturn:
        said = "has an object, and on_exists is 'fail'"
        if self._if_match is not None:
            said = "changed: its ETag is not if_match"
            if standing.known and not standing.answer:
                said = "is gone, but if_match names an ETag"
        raise ObjectExists(f"{self.target.uri} {said}; nothing was written") from error

    def _published(self, answer: Mapping[str, Any], plan: list[PartPlan], crc: int | None) -> ConcatReceipt:
        copies = [part for part in plan if isinstance(part, Copy)]
        copied, size = sum(part.size for part in copies), sum(part.size for part in plan)
        whole = answer.get("ChecksumType") == "FULL_OBJECT"
        return ConcatReceipt(
            bucket=self.target.bucket,
            key=self.target.key,
            uri=self.target.uri,
            size=size,
            etag=answer.get("ETag"),
            version_id=answer.get("VersionId"),
            crc32=encode_crc32(crc) if crc is not None else answer.get("ChecksumCRC32") if whole else None,
            parts=len(plan) if copies or len(plan) > 1 else 0,
            copies=len(copies),
            copied_bytes=copied,
            uploaded_bytes=size - copied,
            requests=self.target.requests + self.sources.requests,
        )


def _in_stages(
    stages: Sequence[tuple[_Object, list[PartPlan]]],
    whole: _Object,
    limits: Limits,
    arguments: Mapping[str, Any],
) -> ConcatReceipt:
    """Write intermediate objects, put the whole together from these, and remove them."""
    target = whole.target
    tried: list[str] = []
    try:
        made = []
        for intermediate, plan in stages:
            tried.append(intermediate.target.key)
            made.append(intermediate.publish(plan))
        plan = plan_concat(
            [_range_of(receipt) for receipt in made],
            largest_copy=limits.largest_copy,
            min_part=limits.min_part,
            max_parts=limits.max_parts,
        )
        receipt = whole.publish(plan)
    finally:
        try:
            objects.delete_all(target.client, target.bucket, tried, extra_args=arguments)
        except DeleteFailed as error:  # what was decided about the object stands
            log.warning("Intermediate objects of %s are left behind: %s", target.uri, error)
    return replace(
        receipt,
        copies=receipt.copies + sum(each.copies for each in made),
        copied_bytes=receipt.copied_bytes + sum(each.copied_bytes for each in made),
        uploaded_bytes=receipt.uploaded_bytes + sum(each.uploaded_bytes for each in made),
        requests=receipt.requests + sum(each.requests for each in made) + -(-len(made) // objects.MAX_KEYS),
    )


def _range_of(receipt: ConcatReceipt) -> Range:
    assert receipt.size is not None
    assert receipt.etag is not None
    of = ObjectRef(
        bucket=receipt.bucket,
        key=receipt.key,
        etag=receipt.etag,
        size=receipt.size,
        version_id=None if receipt.version_id == "null" else receipt.version_id,
    )
    return Range(of, 0, receipt.size)


def _abort_quietly(upload: ConcatUpload) -> None:
    """Abort what was skipped; it is skipped all the same if that fails."""
    try:
        upload.abort()
    except UploadFailed as error:
        log.warning("%s", error)
