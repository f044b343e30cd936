"""Write one S3 object from a stream of bytes, in bounded memory, whole or not at all."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from chunkwise.core.errors import (
    ConfigError,
    ObjectExists,
    StorageError,
    UploadFailed,
    UploadLost,
)
from chunkwise.core.storage import commit
from chunkwise.core.storage.checksum import crc32, encode_crc32
from chunkwise.core.storage.failures import (
    CALL_ERRORS,
    is_gone,
    is_passing,
    reason,
    status_of,
    was_retried,
)
from chunkwise.core.storage.parts import DEFAULT_PART, check_part_size, part_length, smallest_cut
from chunkwise.core.storage.receipt import ObjectReceipt
from chunkwise.core.storage.saved import Cut, PartsDigest, SavedUpload, UploadedPart
from chunkwise.core.storage.target import Standing, Target, condition_of
from chunkwise.core.storage.uploads import abort_because_of, abort_upload, list_parts

if TYPE_CHECKING:
    from typing_extensions import Buffer

OnExists = Literal["replace", "skip", "fail"]
"""What a commit does when the key has an object: replace it; leave it and say so in the receipt; or fail."""

log = logging.getLogger(__name__)

#: seconds that an abort waits for requests under way; whatever ends later aborts once more by itself
ABORT_GRACE = 5.0


class S3Writer:
    """Push writer: bytes in, one object out, or nothing. No reader ever sees a part of it.

    Used as a context manager, a clean exit commits (:attr:`receipt`) and any exception, KeyboardInterrupt
    included, aborts. A writer that is dropped commits nothing. What was written goes out as one PutObject
    when it is less than one part, else as a multipart upload that is started with the first full part; a part
    that fails surfaces on the next call. At most ``in_flight + 1`` parts are in memory: ``write`` blocks
    while ``in_flight`` parts are under way.

    The commit is one conditional request. Where its answer is lost, a nonce in the object's metadata
    (``chunkwise-upload``) tells whether it took place. A process that is killed leaves an open upload, which
    :func:`~chunkwise.core.storage.abort_stale_uploads` or a lifecycle rule removes.

    One thread uses a writer at a time.

    :param client: boto3 S3 client; its retry settings apply to every request.
    :param bucket: bucket name or access point ARN.
    :param key: object key.
    :param on_exists: what happens when the key has an object: ``"replace"``, ``"skip"`` or ``"fail"``. The
        last two are ``If-None-Match: *`` on the commit itself, so that of several writers exactly one wins.
    :param if_match: replace only the object with this ETag; needs ``on_exists="replace"``.
    :param part_size: bytes of the first parts, 5 MiB to 5 GiB; later parts grow, see
        :func:`~chunkwise.core.storage.part_length`.
    :param in_flight: parts uploaded at the same time.
    :param content_type: Content-Type of the object, e.g. ``"application/gzip"``.
    :param metadata: user metadata of the object.
    :param extra_args: further arguments with boto3's names (``ServerSideEncryption``, ``SSEKMSKeyId``,
        ``ACL``, ``Tagging``, ``StorageClass``, ``ExpectedBucketOwner`` ...); each goes to the calls that
        accept it.
    :param checksum: ``"CRC32"``: S3 verifies each part and the whole object; ``None`` for a server that knows
        no checksums (its client then needs ``request_checksum_calculation="when_required"``).
    :param resume: continue this upload. Settings of the object itself (content type, metadata, encryption)
        are those that it was started with.
    :raises ConfigError: parameters that cannot work.
    :raises UploadLost: the upload to resume is gone or its parts are others.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        key: str,
        *,
        on_exists: OnExists = "replace",
        if_match: str | None = None,
        part_size: int = DEFAULT_PART,
        in_flight: int = 2,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        extra_args: Mapping[str, Any] | None = None,
        checksum: Literal["CRC32"] | None = "CRC32",
        resume: SavedUpload | None = None,
    ) -> None:
        check_part_size(part_size)
        if in_flight < 1:
            raise ConfigError(f"in_flight must be at least 1, not {in_flight}")
        if checksum not in ("CRC32", None):
            raise ConfigError(f"checksum must be 'CRC32' or None, not {checksum!r}")
        if resume is not None and (resume.bucket, resume.key) != (bucket, key):
            raise ConfigError(
                f"the saved upload is of s3://{resume.bucket}/{resume.key}, not of s3://{bucket}/{key}"
            )
        self._nonce = uuid.uuid4().hex if resume is None else resume.nonce
        self._target = Target(
            client,
            bucket,
            key,
            nonce=self._nonce,
            condition=condition_of(on_exists, if_match),
            content_type=content_type,
            metadata=metadata,
            extra_args=extra_args,
            checksum=checksum,
        )
        self._on_exists = on_exists
        self._part_size = part_size
        self._in_flight = in_flight
        self._started = time.monotonic()

        self._upload_id: str | None = None
        self._creating: Future[str] | None = None
        self._running: set[Future[UploadedPart]] = set()
        self._parts: dict[int, UploadedPart] = {}
        self._next = 1  # number of the part that is being filled
        self._cut_bytes = 0  # bytes in all parts before it
        self._crc = 0  # of these bytes
        self._digest = PartsDigest()
        self._digested = 0  # parts that the digest covers

        self._body: bytearray | None = None
        self._room: memoryview | None = None
        self._fill = 0

        self._pool: ThreadPoolExecutor | None = None
        self._late = threading.Event()
        self._failure: StorageError | None = None
        self._closed = False
        #: what was published, once :meth:`close` has returned
        self.receipt: ObjectReceipt | None = None
        if resume is not None:
            self._resume(resume)

    @property
    def bucket(self) -> str:
        """Bucket of the object."""
        return self._target.bucket

    @property
    def key(self) -> str:
        """Key of the object."""
        return self._target.key

    @property
    def upload_id(self) -> str | None:
        """S3's id of the open multipart upload; ``None`` before the first part and after the end."""
        return self._upload_id

    @property
    def bytes_written(self) -> int:
        """Bytes of the object so far, those of a resumed upload included."""
        return self._cut_bytes + self._fill

    # --- bytes in -------------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> int:
        """Append bytes; blocks while ``in_flight`` parts are under way.

        :param data: any contiguous buffer of any size; it is copied before the call returns.
        :return: number of bytes, always all.
        :raises UploadFailed: an earlier part failed, or the upload could not be started.
        :raises ObjectTooLarge: there are no part numbers left.
        """
        self._check_usable()
        with memoryview(data) as given, given.cast("B") as source:
            position, size = 0, len(source)
            while position < size:
                room = self._open_part()
                taken = min(len(room) - self._fill, size - position)
                room[self._fill : self._fill + taken] = source[position : position + taken]
                self._fill += taken
                position += taken
                if self._fill == len(room):
                    self._cut()
            return size

    @property
    def can_checkpoint(self) -> bool:
        """Whether something is pending and may stand as a part of its own, so that :meth:`cut` cuts it."""
        return not self._closed and self._fill >= smallest_cut(self._part_size, self._next)

    def checkpoint(self) -> SavedUpload | None:
        """Make everything written so far durable as parts, so that another process can go on from here.

        What is pending becomes a part of its own if it is large enough for one: 5 MiB, S3's minimum, and more
        as the part size has grown. Waits for the parts under way.

        :return: the state for ``resume``; ``None`` if nothing was written or too little is pending (then
            nothing was done).
        :raises UploadFailed: a part failed.
        """
        cut = self.cut()
        if cut is None:
            return None
        self._drain()
        return self.saved(cut)

    def cut(self) -> Cut | None:
        """End the pending part here, and go on without waiting for it.

        The half of :meth:`checkpoint` that does not wait; :meth:`saved` is the other one.

        :return: the place; ``None`` if nothing was written or too little is pending (then nothing was done).
        :raises UploadFailed: a part failed.
        """
        self._check_usable()
        if self._fill:
            if self._fill < smallest_cut(self._part_size, self._next):
                return None
            self._cut()
        if self._upload_id is None:
            return None
        return Cut(parts=self._next - 1, size=self._cut_bytes, crc32=self._crc)

    def saved(self, cut: Cut) -> SavedUpload | None:
        """The state for ``resume`` at a cut, ``None`` while some part before it is under way.

        Cuts are asked for in their order.

        :raises UploadFailed: a part failed.
        """
        self._check_usable()
        if self._upload_id is None or any(
            number not in self._parts for number in range(self._digested + 1, cut.parts + 1)
        ):
            return None
        while self._digested < cut.parts:
            self._digested += 1
            self._digest.add(self._parts[self._digested])
        return SavedUpload(
            bucket=self.bucket,
            key=self.key,
            upload_id=self._upload_id,
            parts=cut.parts,
            size=cut.size,
            crc32=cut.crc32,
            digest=self._digest.hexdigest(),
            nonce=self._nonce,
        )

    def settle(self) -> None:
        """Wait a few seconds at most for the parts under way, so that :meth:`saved` knows of them.

        What they failed of surfaces with the next call.
        """
        wait(set(self._running), timeout=ABORT_GRACE)

    def _open_part(self) -> memoryview:
        if self._room is None:
            self._body = bytearray(part_length(self._part_size, self._next))
            self._room = memoryview(self._body)
            self._fill = 0
        return self._room

    def _take_body(self) -> bytearray:
        """The pending bytes, without a copy; the writer forgets them."""
        if self._room is None or self._body is None:
            return bytearray()
        self._room.release()
        body, fill = self._body, self._fill
        del body[fill:]
        self._crc = crc32(body, self._crc)
        self._cut_bytes += fill
        self._body, self._room, self._fill = None, None, 0
        return body

    def _cut(self) -> None:
        """Hand the pending bytes over as the next part."""
        upload_id = self._ensure_upload()
        while len(self._running) >= self._in_flight:
            wait(self._running, return_when=FIRST_COMPLETED)
            self._collect()
        number, self._next = self._next, self._next + 1
        self._running.add(self._workers().submit(self._upload_part, upload_id, number, self._take_body()))

    # --- the upload -----------------------------------------------------------------------------------------

    def _ensure_upload(self) -> str:
        if self._upload_id is None:
            # In a worker, so that an interrupt here can't lose the id of an upload that S3 has already
            # started.
            self._creating = self._workers().submit(self._create)
            try:
                return self._creating.result()
            except Exception as error:
                self._fail(f"starting an upload of {self._target.uri} failed", error)
        return self._upload_id

    def _create(self) -> str:
        upload_id = self._upload_id = self._target.create()
        log.debug("Started upload %s of %s", upload_id, self._target.uri)
        if self._late.is_set():
            self._abort_late(upload_id)
        return upload_id

    def _upload_part(self, upload_id: str, number: int, body: bytearray) -> UploadedPart:
        try:
            return self._target.upload_part(upload_id, number, body)
        except Exception as error:
            failure = UploadFailed(f"part {number} of {self._target.uri} failed: {reason(error)}")
            failure.transient = is_passing(error)
            raise failure from error
        finally:
            if self._late.is_set():
                self._abort_late(upload_id)

    def _abort_late(self, upload_id: str) -> None:
        try:
            self._abort_now(upload_id)
        except UploadFailed as error:
            log.warning("%s", error)

    def _abort_now(self, upload_id: str) -> None:
        target = self._target
        abort_upload(target.client, target.bucket, target.key, upload_id, arguments=target.arguments)

    def _workers(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._in_flight, thread_name_prefix="chunkwise-upload")
        return self._pool

    def _collect(self) -> None:
        """Take the results of the parts that have ended; the first failure is kept and raised."""
        for future in [future for future in self._running if future.done()]:
            self._running.discard(future)
            try:
                part = future.result()
            except StorageError as error:
                self._failure = self._failure or error
            else:
                self._parts[part.number] = part
        if self._failure is not None:
            raise self._failure

    def _drain(self) -> None:
        while self._running:
            wait(self._running, return_when=FIRST_COMPLETED)
            self._collect()

    def _resume(self, saved: SavedUpload) -> None:
        target = self._target
        lost = f"upload {saved.upload_id} of {target.uri} can't be continued"
        listed = list_parts(
            target.client, target.bucket, target.key, saved.upload_id, arguments=target.arguments
        )
        try:
            for part in listed:
                if part.number > saved.parts:
                    break  # uploaded after the checkpoint: overwritten by ours, or left out of the object
                self._parts[part.number] = part
                self._digest.add(part)
        except CALL_ERRORS as error:
            if is_gone(error):
                raise UploadLost(f"{lost}: it was completed, aborted or expired") from error
            self._fail(f"listing the parts of upload {saved.upload_id} of {target.uri} failed", error)
        size = sum(part.size for part in self._parts.values())
        if (len(self._parts), size, self._digest.hexdigest()) != (saved.parts, saved.size, saved.digest):
            raise UploadLost(f"{lost}: its first {saved.parts} parts are not those that were saved")
        self._upload_id = saved.upload_id
        self._digested = saved.parts
        self._next = saved.parts + 1
        self._cut_bytes, self._crc = saved.size, saved.crc32

    # --- the end --------------------------------------------------------------------------------------------

    def close(self) -> ObjectReceipt:
        """Commit: everything that was written is one object now, or after an error nothing is.

        An error aborts the upload. Calling it again returns the same receipt.

        :raises ObjectExists: the key has an object and ``on_exists`` is ``"fail"``, or it is not the one of
            ``if_match``.
        :raises UploadConflict: another writer was busy with the same key.
        :raises UploadFailed: a part or the commit failed.
        """
        if self.receipt is not None:
            return self.receipt
        self._check_usable()
        try:
            receipt = self._commit()
        except BaseException as error:
            abort_because_of(self.abort, error)
            raise
        self._finish()
        self.receipt = receipt
        log.info(
            "%s %s: %s bytes, %d parts, %.1f s",
            "Left alone" if receipt.skipped else "Published",
            receipt.uri,
            receipt.size,
            receipt.parts,
            time.monotonic() - self._started,
        )
        return receipt

    def abort(self) -> None:
        """Give up: no object, no open upload. Does nothing after the end of the writer, or when the upload is
        gone.

        Waits a few seconds at most for requests under way.

        :raises UploadFailed: the upload may still be open; the text names it and says how to remove it.
        """
        if self._closed:
            return
        self._finish()
        pending: set[Future[Any]] = set(self._running)
        if self._creating is not None:
            pending.add(self._creating)
        wait(pending, timeout=ABORT_GRACE)
        # Set before the id is read, as a worker stores the id before it looks here: an interrupt at any
        # point leaves one of the two with the id. Whatever still runs aborts once more when it ends.
        self._late.set()
        upload_id, self._upload_id = self._upload_id, None
        if upload_id is None:
            return
        try:
            self._abort_now(upload_id)
        except BaseException:
            self._upload_id, self._closed = upload_id, False  # a second call tries again
            self._failure = self._failure or StorageError(f"the upload of {self._target.uri} was given up")
            raise
        log.info("Aborted upload %s of %s", upload_id, self._target.uri)

    def detach(self) -> None:
        """End without commit and without abort: the upload stays open for another writer's ``resume``.

        Only what was saved by :meth:`checkpoint` is kept. Does nothing after the end of the writer.
        """
        if not self._closed:
            self._finish()
            self._upload_id = None

    def __enter__(self) -> S3Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            abort_because_of(self.abort, error)
        elif not self._closed:
            self.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise StorageError(f"the writer of {self._target.uri} has ended")
        if self._failure is not None:
            raise self._failure
        self._collect()

    def _finish(self) -> None:
        """Nothing more is accepted; memory and idle threads are given back."""
        self._closed = True
        if self._room is not None:
            self._room.release()
        self._body, self._room, self._fill = None, None, 0
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        failure = UploadFailed(f"{what}: {reason(error)}")
        failure.transient = is_passing(error)
        self._failure = failure
        raise failure from error

    # --- the commit -----------------------------------------------------------------------------------------

    def _commit(self) -> ObjectReceipt:
        if self._upload_id is None:
            body = self._take_body()
            try:
                return self._published(self._target.put(body, self._crc), parts=0)
            except CALL_ERRORS as error:
                return self._settle(error, parts=0)
        if self._fill:
            self._cut()
        self._drain()
        parts = [self._parts[number] for number in range(1, self._next)]
        try:
            return self._published(self._target.complete(self._upload_id, parts, self._crc), parts=len(parts))
        except CALL_ERRORS as error:
            return self._settle(error, parts=len(parts))

    def _settle(self, error: Exception, *, parts: int) -> ObjectReceipt:
        """What a failed commit means. botocore may have sent it twice: this is the second answer."""
        uri, standing = self._target.uri, self._target.look()
        if standing.ours:
            log.warning("The answer to the commit of %s was lost, but the object is there", uri)
            return self._published(standing.answer, parts=parts)
        if commit.is_refused(error, standing, repeated=was_retried(error)):
            if self._on_exists == "skip":
                return self._skipped(standing)
            exists = "has an object, and on_exists is 'fail'"
            said = exists if self._on_exists == "fail" else "changed: its ETag is not if_match"
            raise ObjectExists(f"{uri} {said}; nothing was written") from error
        commit.check_gone(uri, error)
        if status_of(error) == 409:
            raise commit.conflict(uri) from error
        if parts and (is_passing(error) or status_of(error) == 412):
            # The commit may still be under way at S3. Once the upload is aborted it can't come: look again.
            abort_because_of(self.abort, error)
            standing = self._target.look()
            if standing.ours:
                return self._published(standing.answer, parts=parts)
        raise commit.failed(uri, error, standing, repeated=was_retried(error)) from error

    def _published(self, answer: Mapping[str, Any], *, parts: int) -> ObjectReceipt:
        return ObjectReceipt(
            bucket=self.bucket,
            key=self.key,
            uri=self._target.uri,
            size=self._cut_bytes,
            etag=answer.get("ETag"),
            version_id=answer.get("VersionId"),
            crc32=encode_crc32(self._crc),
            parts=parts,
        )

    def _skipped(self, standing: Standing) -> ObjectReceipt:
        try:
            self.abort()
        except UploadFailed as error:  # the write is skipped all the same
            log.warning("%s", error)
        return ObjectReceipt(
            bucket=self.bucket,
            key=self.key,
            uri=self._target.uri,
            size=standing.answer.get("ContentLength"),
            etag=standing.answer.get("ETag"),
            version_id=standing.answer.get("VersionId"),
            crc32=None,
            parts=0,
            skipped=True,
        )
