"""The ingest: page -> records -> lines -> gzip -> parts of one upload -> one object, or none."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from chunkwise.core import memory
from chunkwise.core.errors import (
    ChunkwiseError,
    CursorExpired,
    EmptyResult,
    HttpStatusError,
    Killed,
    ObjectExists,
    UploadLost,
)
from chunkwise.core.ingest.checkpoint import (
    Checkpoint,
    MemoryStateStore,
    StateStore,
    abort_open,
    open_upload,
)
from chunkwise.core.ingest.receipt import IngestReceipt
from chunkwise.core.ingest.rejects import RejectWriter
from chunkwise.core.ingest.sink import LineSink
from chunkwise.core.ingest.spec import IngestSpec
from chunkwise.core.ingest.verify import read_back
from chunkwise.core.paging.capabilities import end_statuses
from chunkwise.core.paging.fetcher import FetchedBatch, FetchedPage, Fetcher
from chunkwise.core.paging.transport import RetryEvent, Transport
from chunkwise.core.records.compression import check_suffix, codec
from chunkwise.core.records.drift import RecordProfile, drift
from chunkwise.core.records.lines import LineBuilder
from chunkwise.core.records.transforms import compile_transforms
from chunkwise.core.storage import Cut, ObjectReceipt, S3Writer, abort_saved

log = logging.getLogger(__name__)

#: statuses with which APIs answer a cursor that they no longer know
EXPIRED = frozenset({400, 404, 410, 422})
#: errors after which the saved state is of no use
_START_AGAIN = (UploadLost, CursorExpired)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running ingest is.

    :param pages: read so far.
    :param records: read so far.
    :param uncompressed_bytes: of lines so far.
    :param bytes: handed to the upload so far.
    :param seconds: since this try began.
    """

    pages: int
    records: int
    uncompressed_bytes: int
    bytes: int
    seconds: float


@dataclass(slots=True)
class _Counters:
    """What is counted over all tries, and kept with a checkpoint."""

    pages: int = 0
    read: int = 0
    records: int = 0
    dropped: int = 0
    rejected: int = 0
    uncompressed_bytes: int = 0
    crc32: int = 0
    retries: int = 0
    retry_wait: float = 0.0

    def take(self, sink: LineSink) -> None:
        self.uncompressed_bytes, self.crc32 = sink.size, sink.crc32

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class PagedIngest:
    """Run one :class:`IngestSpec`.

    Delivery: the object appears once, whole, by one conditional request at the end; on any error, kill or
    time-out before it the key keeps what it had. With a state store that outlives the process, a later try
    goes on after the last page that was safe on S3 and gives the same lines; without one it starts again. An
    upload that a killed process left open is continued or aborted by the next try.

    :param spec: what to do.
    :param session: with the authentication and certificates of the API.
    :param client: boto3 S3 client.
    :param state: outlives the process where tries are to be continued.
    :param secrets: for transforms that need a key, by name.
    :param on_progress: called after each page.
    :param will_retry: whether another try follows a failure of this one: an error that may pass, or a kill,
        then leaves the open upload for it. Otherwise every failure aborts the upload.
    """

    spec: IngestSpec
    session: requests.Session
    client: Any
    state: StateStore = field(default_factory=MemoryStateStore)
    secrets: Mapping[str, str] | None = None
    on_progress: Callable[[Progress], None] | None = None
    will_retry: bool = False
    clock: Callable[[], float] = time.monotonic
    _writer: S3Writer | None = None
    _announced: bool = False
    _saved: bool = False
    _fingerprint: dict[str, str] = field(default_factory=dict)
    _cuts: deque[tuple[Cut, FetchedPage, dict[str, Any], dict[str, Any]]] = field(default_factory=deque)
    _killed: bool = False

    def run(self) -> IngestReceipt:
        """Do it.

        :raises ChunkwiseError: one of its kinds; nothing was published.
        """
        check_suffix(self.spec.destination.key, self._codec())
        standing = self._standing()
        if standing is not None:
            return standing
        self._fingerprint = self.spec.fingerprint(self.secrets)
        checkpoint = self._checkpoint()
        try:
            return self._run(checkpoint)
        except _START_AGAIN as error:
            if checkpoint is None:
                raise
            log.warning("the saved ingest cannot be continued, starting again: %s", error)
            self._forget(checkpoint)
            return self._run(None)

    def kill(self) -> None:
        """End the run from a signal handler or another thread; takes no lock, and a few seconds at most.

        The upload is aborted, unless another try is to go on with it.
        """
        self._killed = True
        writer = self._writer
        if writer is None or writer.upload_id is None or (self.will_retry and self._saved):
            return
        upload = {"Bucket": writer.bucket, "Key": writer.key, "UploadId": writer.upload_id}
        thread = threading.Thread(target=self._abort_quietly, kwargs=upload, daemon=True)
        thread.start()
        thread.join(timeout=3)

    def _abort_quietly(self, **upload: str) -> None:
        try:
            self.client.abort_multipart_upload(**upload)
        except Exception as error:  # the process is about to end; the next try or the bucket's rule cleans up
            log.warning("the upload %s could not be aborted: %s", upload["UploadId"], type(error).__name__)

    # --- before ---------------------------------------------------------------------------------------------

    def _standing(self) -> IngestReceipt | None:
        """Save the work where the commit could not succeed anyway; the commit itself decides, see
        ``S3Writer``.
        """
        destination = self.spec.destination
        if destination.on_exists == "replace":
            return None
        found = self.client.list_objects_v2(Bucket=destination.bucket, Prefix=destination.key, MaxKeys=1)
        if not any(item["Key"] == destination.key for item in found.get("Contents", ())):
            return None
        if destination.on_exists == "fail":
            raise ObjectExists(f"{destination.uri} exists already, and on_exists is 'fail'; nothing was read")
        log.info("%s exists already, and on_exists is 'skip': nothing to do", destination.uri)
        return IngestReceipt(
            uri=destination.uri,
            stop_reason="object_exists",
            skipped=True,
            peak_rss=memory.peak_rss(),
            memory_limit=memory.memory_limit(),
        )

    def _checkpoint(self) -> Checkpoint | None:
        saved = self.state.get()
        if saved is None:
            return None
        if abort_open(self.client, saved):
            log.info("an earlier try left an upload and nothing to go on from: aborted it, starting again")
            self.state.clear()
            return None
        try:
            checkpoint = Checkpoint.from_json(saved)
        except ValueError as error:
            log.warning("starting again: %s", error)
            self.state.clear()
            return None
        differing = checkpoint.differences(self._fingerprint)
        if differing:
            log.warning(
                "starting again: the saved ingest is of another job, which differs in %s",
                ", ".join(differing),
            )
            self._forget(checkpoint)
            return None
        return checkpoint

    def _forget(self, checkpoint: Checkpoint) -> None:
        abort_saved(self.client, checkpoint.upload)
        self.state.clear()

    def _codec(self) -> Any:
        return codec(self.spec.destination.compression, self.spec.destination.level)

    # --- the way of the data --------------------------------------------------------------------------------

    def _run(self, checkpoint: Checkpoint | None) -> IngestReceipt:
        spec, destination, started = self.spec, self.spec.destination, self.clock()
        memory.reset_peak()
        transport = self._transport()
        start = None if checkpoint is None else checkpoint.fetch
        fetcher = Fetcher(transport, spec.paginator, spec.records_path, spec.fetch, start)
        lines = LineBuilder(
            spec.stamps,
            compile_transforms(spec.transforms, secrets=self.secrets) if spec.transforms else None,
            spec.on_stamp_conflict,
        )
        self._cuts.clear()
        self._announced = self._saved = checkpoint is not None
        counters = _Counters() if checkpoint is None else _Counters(**checkpoint.counters)
        profile = RecordProfile() if checkpoint is None else RecordProfile.restore(checkpoint.profile)
        compressor = self._codec()
        stop_reason = ""
        if checkpoint is not None:
            log.info(
                "going on after page %d: %d records lie in %d parts of upload %s",
                counters.pages,
                counters.records,
                checkpoint.upload.parts,
                checkpoint.upload.upload_id,
            )
        with ExitStack() as stack:
            rejects = stack.enter_context(
                RejectWriter(self.client, destination, spec.quarantine, counters.rejected)
            )
            writer = self._writer = stack.enter_context(
                S3Writer(
                    self.client,
                    destination.bucket,
                    destination.key,
                    on_exists=destination.on_exists,
                    part_size=destination.part_size,
                    in_flight=destination.parts_in_flight,
                    content_type=compressor.content_type,
                    metadata=destination.metadata,
                    extra_args=destination.extra_args,
                    checksum=destination.checksum,
                    resume=None if checkpoint is None else checkpoint.upload,
                )
            )
            stack.push(self._let_go)
            sink = LineSink(writer, compressor, size=counters.uncompressed_bytes, crc=counters.crc32)
            items = stack.enter_context(fetcher.ahead())
            for item in self._watched(items, checkpoint):
                if isinstance(item, FetchedBatch):
                    built = lines.build(item.batch.records, item.batch.text)
                    profile.observe(item.batch.records)
                    counters.read += len(item.batch.records)
                    counters.records += built.count
                    counters.dropped += built.dropped
                    for rejected in built.rejected:
                        rejects.put(rejected, item.page, item.first + rejected.index)
                    counters.rejected = rejects.count
                    sink.put(built.pieces)
                    self._announce(writer)
                    continue
                counters.pages = item.number
                if item.stop is not None:
                    stop_reason = item.stop.value
                elif rejects.count == 0 and writer.can_checkpoint:
                    # rejected records are not saved: after the first one, a retry goes back to before it
                    sink.end_member()
                    counters.take(sink)
                    cut = writer.cut()
                    if cut is not None:
                        so_far = counters.to_json() | {
                            "retries": counters.retries + transport.retries,
                            "retry_wait": counters.retry_wait + transport.wait_seconds,
                        }
                        self._cuts.append((cut, item, so_far, profile.state()))
                self._save(writer)
                self._report(counters, sink, writer, started)
            if counters.records == 0 and spec.on_empty == "fail":
                raise EmptyResult(
                    f"there is no record for {destination.uri}: {counters.pages} pages ({stop_reason}) with"
                    f" {counters.read} records, {counters.dropped} dropped and {counters.rejected} rejected;"
                    " choose on_empty='write' or 'skip' if that is right"
                )
            rejects.check(counters.read)
            # Where the commit may be refused, rejected records wait for it: they belong to what was written.
            early = rejects.publish() if destination.on_exists == "replace" else None
            if counters.records == 0 and spec.on_empty == "skip":
                writer.abort()
                written = None
            else:
                sink.end_member()
                counters.take(sink)
                written = writer.close()
            refused = written is not None and written.skipped
            quarantine = early if destination.on_exists == "replace" or refused else rejects.publish()
        self._writer = None
        self.state.clear()
        return self._receipt(
            counters,
            written,
            sha256=self._sha256(sink, written, counters),
            stop_reason=stop_reason,
            fetcher=fetcher,
            transport=transport,
            profile=profile,
            quarantine=quarantine,
            seconds=self.clock() - started,
            resumed_at_page=None if checkpoint is None else checkpoint.counters["pages"] + 1,
        )

    def _transport(self) -> Transport:
        http = self.spec.http
        return Transport(
            self.session,
            self.spec.request,
            retry=http.retry,
            connect_timeout=http.connect_timeout,
            read_timeout=http.read_timeout,
            rate_limit=http.rate_limit,
            allowed_origins=http.allowed_origins,
            end_statuses=end_statuses(self.spec.paginator),
            on_retry=_log_retry,
        )

    def _watched(
        self, items: Iterable[FetchedBatch | FetchedPage], checkpoint: Checkpoint | None
    ) -> Iterator[FetchedBatch | FetchedPage]:
        """The items, until the run is killed; tells a cursor that expired between two tries from other
        errors.
        """
        first = checkpoint is not None
        try:
            for item in items:
                first = False
                if self._killed:
                    raise Killed("the ingest was killed; nothing was published")
                yield item
        except HttpStatusError as error:
            if first and error.status in EXPIRED:
                raise CursorExpired(f"the API no longer knows the saved cursor: {error}") from error
            raise

    def _let_go(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        """On a failure that another try can go on from, leave the upload open; else forget what was saved."""
        if error is None or self._writer is None:
            return
        permanent = isinstance(error, ChunkwiseError) and not error.transient
        if self.will_retry and not permanent:
            with suppress(Exception):  # the error that is on its way out counts
                if self._cuts:
                    self._writer.settle()
                self._save(self._writer)
        if self.will_retry and self._saved and not permanent and not isinstance(error, _START_AGAIN):
            self._writer.detach()
        else:
            self.state.clear()

    def _announce(self, writer: S3Writer) -> None:
        """Keep the id of the upload as soon as it is open, so that a next try finds it whatever happens."""
        if writer.upload_id is not None and not self._announced:
            self._announced = True
            if not self._saved:
                self.state.set(open_upload(writer.bucket, writer.key, writer.upload_id))

    def _save(self, writer: S3Writer) -> None:
        """Keep the last checkpoint whose parts have arrived."""
        while self._cuts:
            cut, page, counters, profile = self._cuts[0]
            upload = writer.saved(cut)
            if upload is None:
                return
            self._cuts.popleft()
            checkpoint = Checkpoint(
                fingerprint=self._fingerprint,
                fetch=page.state,
                upload=upload,
                counters=counters,
                profile=profile,
            )
            self.state.set(checkpoint.to_json())
            self._saved = True

    def _report(self, counters: _Counters, sink: LineSink, writer: S3Writer, started: float) -> None:
        if self.on_progress is not None:
            self.on_progress(
                Progress(
                    counters.pages,
                    counters.records,
                    sink.size,
                    writer.bytes_written,
                    self.clock() - started,
                )
            )

    # --- after ----------------------------------------------------------------------------------------------

    def _sha256(self, sink: LineSink, written: ObjectReceipt | None, counters: _Counters) -> str | None:
        """The digest of all lines. A hash state cannot be saved, so a continued run reads its own object back
        once.
        """
        if sink.sha256 is not None:
            return sink.sha256
        if written is None or written.skipped:
            return None
        return read_back(
            self.client,
            written,
            self.spec.destination.compression,
            lines=counters.records,
            size=counters.uncompressed_bytes,
            crc=counters.crc32,
        )

    def _receipt(
        self,
        counters: _Counters,
        written: ObjectReceipt | None,
        *,
        sha256: str | None,
        stop_reason: str,
        fetcher: Fetcher,
        transport: Transport,
        profile: RecordProfile,
        quarantine: str | None,
        seconds: float,
        resumed_at_page: int | None,
    ) -> IngestReceipt:
        warnings = list(fetcher.guard.warnings)
        profile_json, drift_json = profile.to_json(), None
        previous = (self.spec.previous or {}).get("profile")
        if previous:
            report = drift(previous, profile_json, width_share=self.spec.width_share)
            drift_json = report.to_json()
            warnings += report.warnings
        peak, limit = memory.peak_rss(), memory.memory_limit()
        near = memory.near_limit(peak, limit)
        if near:
            warnings.append(near)
        for warning in warnings[len(fetcher.guard.warnings) :]:  # the guard's are in the log already
            log.warning("%s", warning)
        skipped = written is not None and written.skipped
        return IngestReceipt(
            uri=None if written is None else written.uri,
            records=counters.records,
            pages=counters.pages,
            bytes=0 if written is None else written.size or 0,
            uncompressed_bytes=counters.uncompressed_bytes,
            etag=None if written is None else written.etag,
            version_id=None if written is None else written.version_id,
            sha256=sha256,
            crc32=f"{counters.crc32:08x}",
            parts=0 if written is None else written.parts,
            stop_reason=stop_reason,
            declared_total=fetcher.guard.declared_total,
            dropped=counters.dropped,
            rejected=counters.rejected,
            quarantine_uri=quarantine,
            retries=counters.retries + transport.retries,
            retry_wait_seconds=round(counters.retry_wait + transport.wait_seconds, 3),
            resumed_at_page=resumed_at_page,
            skipped=skipped,
            profile=profile_json,
            drift=drift_json,
            warnings=warnings,
            seconds=round(seconds, 3),
            peak_rss=peak,
            memory_limit=limit,
        )


def _log_retry(event: RetryEvent) -> None:
    log.warning("%s", event)
