"""An object that is pinned, and read in ranges without ever taking another one for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, Final, NoReturn

import msgspec

from chunkwise.core.errors import ConfigError, ReadFailed, SourceChanged, SourceNotFound
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.failures import BODY_ERRORS, CALL_ERRORS, code_of, is_passing, reason, status_of
from chunkwise.core.storage.retries import Retries
from chunkwise.core.units import KiB, MiB

DEFAULT_BLOCK: Final = 8 * MiB
#: of a body at a time: what is lost at most when it breaks
_PIECE: Final = 256 * KiB
#: statuses by which HeadObject refuses checksums: servers that do not know them, and objects under a KMS key
#: that the caller may not use (S3 then wants kms:Decrypt, HeadObject API reference)
_NO_CHECKSUMS: Final = frozenset({400, 403, 501})


class ObjectRef(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="object"
):
    """One object as it was when it was pinned: what is read, copied or deleted is exactly this one.

    :param bucket: bucket name or access point ARN.
    :param key: object key.
    :param etag: in its quotes; opaque.
    :param size: bytes.
    :param version_id: where the bucket is versioned.
    :param crc32: base64 of S3's own CRC-32 of the whole object, if S3 has one.
    """

    bucket: str
    key: str
    etag: str
    size: int
    version_id: str | None = None
    crc32: str | None = None

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


def pin(
    client: Any,
    bucket: str,
    key: str,
    *,
    version_id: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> ObjectRef:
    """Look at an object once (HeadObject), so that everybody can tell it from a later one.

    :param client: boto3 S3 client.
    :param bucket: bucket name or access point ARN.
    :param key: object key.
    :param version_id: a certain version; default: the latest.
    :param extra_args: more arguments as for ``put_object``, e.g. ``SSECustomerKey``; those that HeadObject
        knows are sent.
    :raises SourceNotFound: there is no such object, or no such version.
    :raises ReadFailed: S3 does not say. A caller without ``s3:ListBucket`` gets 403 for what is missing, too
        (HeadObject API reference).
    """
    uri = f"s3://{bucket}/{key}"
    arguments: dict[str, Any] = {
        "Bucket": bucket,
        "Key": key,
        **CallArguments(client, extra_args).of("HeadObject"),
    }
    if version_id is not None:
        arguments["VersionId"] = version_id
    try:
        try:
            head = client.head_object(**arguments, ChecksumMode="ENABLED")
        except CALL_ERRORS as error:
            if status_of(error) not in _NO_CHECKSUMS:
                raise
            head = client.head_object(**arguments)
    except CALL_ERRORS as error:
        version = "" if version_id is None else f" in version {version_id}"
        if status_of(error) in (404, 405):  # 405: the version is a delete marker
            raise SourceNotFound(f"there is no object {uri}{version}") from error
        raise ReadFailed(
            f"{uri}{version} could not be looked at: {reason(error)}{_hint(error, version_id)}",
            transient=is_passing(error),
        ) from error
    found = head.get("VersionId")
    return ObjectRef(
        bucket=bucket,
        key=key,
        etag=head["ETag"],
        size=head["ContentLength"],
        # The version "null" may be overwritten, so it says no more than the ETag, and asking for it needs
        # one more permission (s3:GetObjectVersion).
        version_id=version_id or (None if found == "null" else found),
        crc32=_whole_crc32(head),
    )


def _hint(error: Exception, version_id: str | None) -> str:
    """What a refusal may mean, which S3 does not say: the answer to a HeadObject has no body."""
    status = status_of(error)
    if status == 403:
        return (
            "; reading it is not allowed, or there is no such object: without s3:ListBucket on the bucket S3"
            " answers 403 for both"
        )
    if status == 400 and version_id is not None:
        return "; S3 answers 400 to a text that is no version id"
    return ""


def _whole_crc32(head: Mapping[str, Any]) -> str | None:
    """S3's CRC-32, unless it is a checksum of the parts' checksums."""
    crc: str | None = head.get("ChecksumCRC32")
    if crc is None or "-" in crc:
        return None
    kind = head.get("ChecksumType")
    # Servers that do not know the type: an object that was put in one piece has no number in its ETag
    whole = kind == "FULL_OBJECT" or (kind is None and "-" not in head["ETag"])
    return crc if whole else None


class S3Source:
    """The bytes of a pinned object; a :class:`~chunkwise.core.formats.model.ByteSource`.

    Every request carries the ETag (and version), and what comes back is checked for range, length and ETag:
    either these are bytes of the object that was pinned, or an error is raised. A body that breaks is asked
    for again from the offset that was reached. Threads may share a source.

    :param client: boto3 S3 client.
    :param ref: the object, see :func:`pin`.
    :param block_size: bytes of a block of :meth:`stream`, one request each.
    :param ahead: blocks that :meth:`stream` reads ahead of its consumer, each in a thread; 0: none. It holds
        at most ``ahead + 1`` blocks, and twice one for a moment.
    :param extra_args: more arguments as for ``put_object``, e.g. ``SSECustomerKey``; those that GetObject
        knows are sent.
    :param retries: of one range.
    """

    def __init__(
        self,
        client: Any,
        ref: ObjectRef,
        *,
        block_size: int = DEFAULT_BLOCK,
        ahead: int = 1,
        extra_args: Mapping[str, Any] | None = None,
        retries: Retries | None = None,
    ) -> None:
        if block_size < 1:
            raise ConfigError(f"block_size must be at least 1 byte, not {block_size}")
        if ahead < 0:
            raise ConfigError(f"ahead must be 0 or more blocks, not {ahead}")
        self.ref = ref
        self._client = client
        self._block_size = block_size
        self._ahead = ahead
        self._extra_args = extra_args
        self._arguments = CallArguments(client, extra_args)
        self._retries = retries or Retries()
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes_read = 0

    @property
    def name(self) -> str:
        """``s3://bucket/key``."""
        return self.ref.uri

    @property
    def size(self) -> int:
        """Bytes."""
        return self.ref.size

    @property
    def requests(self) -> int:
        """GetObject calls so far, repeated ones included."""
        return self._requests

    @property
    def bytes_read(self) -> int:
        """Bytes received so far."""
        return self._bytes_read

    def read(self, start: int, end: int) -> bytes:
        """The bytes of ``[start, end)``, by one request; less only where the object ends, and no request for
        nothing.

        :raises SourceChanged: the object is gone, or another one has its key.
        :raises ReadFailed: S3 refuses, or failed at every attempt.
        """
        return self._range(start, end, threading.Event())

    def stream(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes of ``[start, end)`` in order, in blocks.

        Closing the iterator ends its threads, each after the piece that it is reading.

        :raises SourceChanged: the object is gone, or another one has its key.
        :raises ReadFailed: S3 refuses, or failed at every attempt.
        """
        start, end = self._clip(start, end)
        offsets = iter(range(start, end, self._block_size))
        if self._ahead == 0 or end - start <= self._block_size:
            for offset in offsets:
                yield self.read(offset, min(offset + self._block_size, end))
            return
        stop = threading.Event()
        running: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(self._ahead, thread_name_prefix="chunkwise-read")

        def submit() -> None:
            offset = next(offsets, None)
            if offset is not None:
                running.append(pool.submit(self._range, offset, min(offset + self._block_size, end), stop))

        try:
            for _ in range(self._ahead):
                submit()
            while running:
                if running[0].exception() is None:  # waits for it, and keeps no name of its block
                    submit()
                yield running.popleft().result()
        finally:
            stop.set()
            pool.shutdown(wait=False)

    def _clip(self, start: int, end: int) -> tuple[int, int]:
        if start < 0:
            raise ValueError(f"a range must not start before the object: {start}")
        end = min(end, self.ref.size)
        return min(start, end), end

    def _range(self, start: int, end: int, stop: threading.Event) -> bytes:
        """One range, in as many attempts as it takes."""
        start, end = self._clip(start, end)
        pieces: list[bytes] = []
        failures = 0
        while start < end:
            try:
                for piece in self._attempt(start, end):
                    pieces.append(piece)
                    start += len(piece)
                    if stop.is_set():
                        raise CancelledError
                if start < end:
                    raise BodyEndedEarly
            except BODY_ERRORS as error:
                self._judge(error)
                failures += 1
                if not self._retries.wait(failures, stop):
                    raise ReadFailed(
                        f"{self.name} could not be read from byte {start} on: {reason(error)}"
                    ) from error
                if stop.is_set():
                    raise CancelledError from None
        return b"".join(pieces)

    def _attempt(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes of one request, as far as they come."""
        version = {} if self.ref.version_id is None else {"VersionId": self.ref.version_id}
        with self._lock:
            self._requests += 1
        answer = self._client.get_object(
            Bucket=self.ref.bucket,
            Key=self.ref.key,
            Range=f"bytes={start}-{end - 1}",
            IfMatch=self.ref.etag,
            **version,
            **self._arguments.of("GetObject"),
        )
        body = answer["Body"]
        try:
            self._check(answer, start, end)
            while start < end:
                piece = body.read(min(_PIECE, end - start))
                if not piece:
                    return
                start += len(piece)
                with self._lock:
                    self._bytes_read += len(piece)
                yield piece
        finally:
            body.close()

    def _check(self, answer: Mapping[str, Any], start: int, end: int) -> None:
        """Whether the body will be what was asked for."""
        if answer.get("ETag", self.ref.etag) != self.ref.etag:
            raise SourceChanged(self._changed(answer["ETag"]))
        got = answer.get("ContentRange")
        expected = f"bytes {start}-{end - 1}/{self.ref.size}"
        if got is None and (start, end) == (0, self.ref.size) == (0, answer.get("ContentLength")):
            return
        if got != expected:
            raise ReadFailed(
                f"{self.name} cannot be read in ranges: asked for {expected}, the server answers "
                f"{got or 'without a range'}",
                transient=False,
            )

    def _judge(self, error: Exception) -> None:
        """Return if the range may be asked for again."""
        status = status_of(error)
        if status in (404, 405):
            raise SourceNotFound(f"{self.name} is gone since it was pinned: {reason(error)}") from error
        if status in (412, 416):
            self._look(error)
        if not is_passing(error):
            raise ReadFailed(f"{self.name} could not be read: {reason(error)}", transient=False) from error

    def _look(self, error: Exception) -> NoReturn:
        """Say which object stands there now."""
        try:
            found = pin(
                self._client,
                self.ref.bucket,
                self.ref.key,
                version_id=self.ref.version_id,
                extra_args=self._extra_args,
            )
        except (SourceChanged, ReadFailed):
            raise SourceChanged(
                f"{self.name} is no longer the object that was pinned: {code_of(error)}"
            ) from error
        raise SourceChanged(self._changed(found.etag, found.size)) from error

    def _changed(self, etag: str, size: int | None = None) -> str:
        now = "" if size is None else f" with {size} bytes"
        return (
            f"{self.name} was overwritten since it was pinned: ETag {self.ref.etag} with {self.ref.size} "
            f"bytes then, {etag}{now} now"
        )


class BodyEndedEarly(OSError):
    """The body ended early, and nobody said so."""
