"""One multipart upload from planned parts: copies and uploads in flight, and nothing left open."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, Final

from chunkwise.core.errors import ReadFailed, SourceChanged, StorageError, UploadFailed, UploadLost
from chunkwise.core.segments import Literal
from chunkwise.core.storage.concat_plan import Copy, PartPlan, Piece, Upload
from chunkwise.core.storage.failures import CALL_ERRORS, code_of, is_gone, is_passing, reason, status_of
from chunkwise.core.storage.retries import Retries
from chunkwise.core.storage.saved import UploadedPart
from chunkwise.core.storage.source import ObjectRef, S3Source, pin
from chunkwise.core.storage.target import Target
from chunkwise.core.storage.uploads import abort_upload
from chunkwise.core.storage.writer import ABORT_GRACE

log = logging.getLogger(__name__)

#: parts at once that go through the client; each is in memory, less than 10 MiB by S3's limits
UPLOADS_IN_FLIGHT: Final = 2

#: what reading a source needs, by its name where the source is copied
_AS_COPY_SOURCE: Final = {
    "ExpectedBucketOwner": "ExpectedSourceBucketOwner",
    "RequestPayer": "RequestPayer",
    "SSECustomerAlgorithm": "CopySourceSSECustomerAlgorithm",
    "SSECustomerKey": "CopySourceSSECustomerKey",
    "SSECustomerKeyMD5": "CopySourceSSECustomerKeyMD5",
}


class Sources:
    """The pinned objects of which bytes are read or copied.

    :param client: boto3 S3 client.
    :param arguments: what GetObject needs for them, e.g. ``SSECustomerKey``.
    :param retries: of one read.
    """

    def __init__(self, client: Any, arguments: Mapping[str, Any] | None, retries: Retries) -> None:
        self._client = client
        self._arguments = dict(arguments or {})
        self._retries = retries
        self._lock = threading.Lock()
        #: calls so far
        self.requests = 0
        #: arguments of UploadPartCopy
        self.of_copy = {
            _AS_COPY_SOURCE[name]: value for name, value in self._arguments.items() if name in _AS_COPY_SOURCE
        }

    def read(self, pieces: Sequence[Piece]) -> bytearray:
        """Some pieces as one.

        :raises SourceChanged: an object is gone, or another one has its key.
        :raises ReadFailed: S3 refuses, or failed at every attempt.
        """
        body = bytearray()
        for piece in pieces:
            segment = piece.of
            if isinstance(segment, Literal):
                body += memoryview(segment.data)[piece.start : piece.end]
                continue
            source = S3Source(
                self._client, segment.of, ahead=0, extra_args=self._arguments, retries=self._retries
            )
            try:
                body += source.read(segment.start + piece.start, segment.start + piece.end)
            finally:
                with self._lock:
                    self.requests += source.requests
        return body

    def check(self, ref: ObjectRef) -> None:
        """Look whether the object is still the one that was pinned; if S3 does not say, it is taken for that.

        :raises SourceChanged: it is gone, or another one has its key.
        """
        with self._lock:
            self.requests += 1
        try:
            found = pin(
                self._client, ref.bucket, ref.key, version_id=ref.version_id, extra_args=self._arguments
            )
        except ReadFailed:
            return
        if found.etag != ref.etag:
            raise SourceChanged(
                f"{ref.uri} was overwritten since it was pinned: ETag {ref.etag} with {ref.size} bytes then, "
                f"{found.etag} with {found.size} bytes now"
            )


class ConcatUpload:
    """A multipart upload that somebody completes or aborts; used once.

    :param target: what it becomes.
    :param sources: where its bytes come from.
    :param copies_in_flight: parts that S3 copies at once.
    :param retries: of one part, for what botocore's own leave over.
    """

    def __init__(self, target: Target, sources: Sources, *, copies_in_flight: int, retries: Retries) -> None:
        self._target = target
        self._sources = sources
        self._retries = retries
        self._copiers = ThreadPoolExecutor(copies_in_flight, thread_name_prefix="chunkwise-copy")
        self._uploaders = ThreadPoolExecutor(UPLOADS_IN_FLIGHT, thread_name_prefix="chunkwise-upload")
        self._running: list[Future[Any]] = []
        self._stop = threading.Event()  # no new request
        self._late = threading.Event()  # whoever still has one under way aborts when it ends
        self._aborted = False
        self.upload_id = ""

    def start(self) -> str:
        """Start it; its id."""
        # In a worker, so that an interrupt here can't lose the id of an upload that S3 has already started.
        starting = self._copiers.submit(self._create)
        self._running.append(starting)
        return starting.result()

    def put_parts(self, plan: Sequence[PartPlan]) -> list[UploadedPart]:
        """Copy and upload all parts, numbered from 1.

        :raises SourceChanged: a source is gone, or another object has its key.
        :raises ReadFailed: a source can't be read.
        :raises UploadLost: somebody ended the upload.
        :raises UploadFailed: S3 refuses a part, or failed at every attempt.
        """
        parts: list[Future[UploadedPart]] = []
        for number, part in enumerate(plan, 1):
            if isinstance(part, Copy):
                parts.append(self._copiers.submit(self._copy, number, part))
            else:
                parts.append(self._uploaders.submit(self._upload, number, part))
            self._running.append(parts[-1])
        done, _ = wait(parts, return_when=FIRST_EXCEPTION)
        for future in parts:
            if future in done:
                future.result()
        return [future.result() for future in parts]

    def finish(self) -> None:
        """Give the threads back."""
        self._stop.set()
        for pool in (self._copiers, self._uploaders):
            pool.shutdown(wait=False, cancel_futures=True)

    def abort(self) -> None:
        """End it without an object; waits a few seconds at most for requests under way.

        :raises UploadFailed: it may still be open; the text names it and says how to remove it.
        """
        self.finish()
        # one that was cancelled before a worker had it would be waited for until the end
        wait([future for future in self._running if not future.cancelled()], timeout=ABORT_GRACE)
        # Set before the id is read, as a worker stores the id before it looks here: one of the two has it.
        self._late.set()
        if self.upload_id and not self._aborted:
            self._abort_now()
            self._aborted = True
            log.info("Aborted upload %s of %s", self.upload_id, self._target.uri)

    def _create(self) -> str:
        failures = 0
        while True:
            try:
                self.upload_id = self._target.create()
                log.debug("Started upload %s of %s", self.upload_id, self._target.uri)
                return self.upload_id
            except CALL_ERRORS as error:
                failures += 1
                if not self._goes_on(error, failures):
                    raise _failed(f"starting an upload of {self._target.uri}", error) from error
            finally:
                self._abort_if_late()

    def _copy(self, number: int, part: Copy) -> UploadedPart:
        ref: ObjectRef = part.of
        source = {"Bucket": ref.bucket, "Key": ref.key}
        if ref.version_id is not None:
            source["VersionId"] = ref.version_id
        failures = 0
        while True:
            self._check()
            try:
                return self._target.copy_part(
                    self.upload_id,
                    number,
                    source,
                    ref.etag,
                    size=part.size,
                    start=None if part.whole else part.start,
                    more=self._sources.of_copy,
                )
            except CALL_ERRORS as error:
                if status_of(error) == 412:
                    raise SourceChanged(
                        f"{ref.uri} was overwritten since it was pinned: its ETag is no longer {ref.etag}"
                    ) from error
                if code_of(error) in ("NoSuchKey", "NoSuchVersion"):
                    raise SourceChanged(
                        f"{ref.uri} is gone since it was pinned with ETag {ref.etag}"
                    ) from error
                if status_of(error) in (400, 416):  # a range that another object does not have, perhaps
                    self._sources.check(ref)
                failures += 1
                self._judge(number, f"the copy of {ref.uri}", error, failures)
            finally:
                self._abort_if_late()

    def _upload(self, number: int, part: Upload) -> UploadedPart:
        self._check()
        body = self._sources.read(part.pieces)
        failures = 0
        while True:
            self._check()
            try:
                return self._target.upload_part(self.upload_id, number, body)
            except CALL_ERRORS as error:
                failures += 1
                self._judge(number, f"{len(body)} bytes", error, failures)
            finally:
                self._abort_if_late()

    def _judge(self, number: int, what: str, error: Exception, failures: int) -> None:
        """Return if the part may be sent again."""
        if is_gone(error):
            raise UploadLost(
                f"upload {self.upload_id} of {self._target.uri} is gone: it was completed, aborted or expired"
            ) from error
        if not self._goes_on(error, failures):
            raise _failed(f"part {number} of {self._target.uri}, {what},", error) from error

    def _goes_on(self, error: Exception, failures: int) -> bool:
        return is_passing(error) and self._retries.wait(failures, self._stop) and not self._stop.is_set()

    def _check(self) -> None:
        if self._stop.is_set():
            raise StorageError(f"the upload of {self._target.uri} was given up")

    def _abort_if_late(self) -> None:
        if self._late.is_set() and self.upload_id:
            try:
                self._abort_now()
            except UploadFailed as error:
                log.warning("%s", error)

    def _abort_now(self) -> None:
        target = self._target
        abort_upload(target.client, target.bucket, target.key, self.upload_id, arguments=target.arguments)


def _failed(what: str, error: Exception) -> UploadFailed:
    failure = UploadFailed(f"{what} failed: {reason(error)}")
    failure.transient = is_passing(error)
    return failure
