"""One attempt at one chunk of pages: the way of its data."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final

import requests

from chunkwise.core import memory
from chunkwise.core.dispatch.model import Done, Manifest
from chunkwise.core.dispatch.pages.job import fetcher_of, lines_of, paginator_of, transport_of
from chunkwise.core.dispatch.pages.model import END, ApiSource, PagesRead
from chunkwise.core.dispatch.rejected import RejectedRows
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import (
    ConfigError,
    CursorExpired,
    DispatchNotFound,
    HttpStatusError,
    Killed,
    RecordError,
    TotalChanged,
)
from chunkwise.core.formats.model import BadRow, Boundary
from chunkwise.core.ingest.job import EXPIRED
from chunkwise.core.ingest.sink import LineSink
from chunkwise.core.paging.fetcher import FetchedBatch, FetchedPage, Fetcher, FetchState
from chunkwise.core.paging.model import PageRequest, StopReason
from chunkwise.core.paging.ranges import PageRange, countable
from chunkwise.core.paging.transport import Transport
from chunkwise.core.records.compression import codec
from chunkwise.core.records.lines import Lines
from chunkwise.core.storage import ObjectReceipt, S3Writer
from chunkwise.core.storage.arguments import KEEPING
from chunkwise.core.storage.source import ObjectRef

log = logging.getLogger(__name__)

#: of the time that a leg has where it runs, so much is kept for its last page and its part
_KEPT_SHARE: Final = 0.2
#: the next page may take so many times as long as the longest one so far
_LONGER: Final = 2.0


class PageRun:
    """Read the pages of a chunk, and write their records as lines of its part.

    :param client: boto3 S3 client.
    :param staging: of the dispatch.
    :param manifest: of the chunk.
    :param attempt: name of the attempt.
    :param session: with the credentials of the API; it is not closed here.
    :param secrets: for transforms that need a key, by name.
    :param stop: asked between batches whether to end.
    :param ends_at: when whoever runs this is killed; a leg ends early enough before.
    """

    def __init__(
        self,
        client: Any,
        staging: Staging,
        manifest: Manifest,
        attempt: str,
        *,
        session: requests.Session,
        secrets: Mapping[str, str] | None = None,
        stop: Callable[[], bool] | None = None,
        ends_at: datetime | None = None,
    ) -> None:
        self._client = client
        self._staging = staging
        self._manifest = manifest
        self._source: ApiSource = manifest.api
        self._attempt = attempt
        self._session = session
        self._secrets = secrets
        self._stop = stop
        self._ends_at = ends_at
        self._paginator = paginator_of(self._source)
        self._range = self._range_of()
        self._ended: str | None = None
        self._written: list[str] = []

    def run(self) -> Done:
        """The done record of this attempt; nobody has it yet.

        :raises ChunkwiseError: one of its kinds; no part is left.
        """
        manifest, config, source = self._manifest, self._manifest.config, self._source
        started, began = time.monotonic(), datetime.now(UTC)
        start = self._start()
        paginator = self._range or self._paginator
        transport = transport_of(source, self._session, paginator)
        budget = _Leg(source, self._ends_at, began) if self._range is None else None
        fetcher = fetcher_of(source, transport, paginator, start, None if budget is None else budget.spent)
        before = start.guard["records"]
        if budget is not None:
            budget.watch(fetcher, start.guard["size"])
        extra = {name: value for name, value in config.target.extra_args.items() if name in KEEPING}
        extra = {**self._staging.extra_args, **extra}
        bucket, chunk = self._staging.bucket, manifest.chunk
        part_key = self._staging.part_key(chunk, self._attempt)
        rejected_key = self._staging.rejected_key(chunk, self._attempt)
        rejected = RejectedRows(self._client, bucket, rejected_key, chunk, config.rejects, extra)
        read = _Read(lines_of(source, self._secrets).build, rejected, collects=config.rejects is not None)
        written: ObjectReceipt | None = None
        try:
            with ExitStack() as stack:
                writer = stack.enter_context(
                    S3Writer(self._client, bucket, part_key, on_exists="fail", extra_args=extra)
                )
                compression: Any = manifest.output.compression
                sink = LineSink(writer, codec(compression, source.level))
                for item in self._watched(stack.enter_context(fetcher.ahead())):
                    if self._stop is not None and self._stop():
                        raise Killed(f"chunk {chunk} was told to end; its part was not written")
                    read.take(item, sink)
                if sink.size:
                    sink.end_member()
                    written = writer.close()
                    self._written.append(part_key)
                else:
                    writer.abort()
            bad = rejected.close()
            self._written += [rejected_key] if bad is not None else []
        except BaseException:
            rejected.abort()
            self.remove()
            raise
        last = read.last or FetchedPage(start.number - 1, 0, None, start)  # a leg behind the end has no page
        return Done(
            dispatch=manifest.dispatch,
            chunk=chunk,
            revision=manifest.revision,
            attempt=self._attempt,
            start=self._begins(start),
            end=self._ends(last, fetcher.guard.records - before),
            rows_in=fetcher.guard.records - before,
            rows_out=read.lines,
            rejected=rejected.count,
            bytes_in=fetcher.guard.size - start.guard["size"],
            bytes_out=sink.size,
            part=ref_of(written),
            quarantine=ref_of(bad),
            pages=self._pages(last, fetcher, transport, start.number),
            started_at=began.isoformat(timespec="milliseconds"),
            seconds=round(time.monotonic() - started, 3),
            peak_rss=memory.peak_rss(),
        )

    def remove(self) -> None:
        """Delete what this attempt wrote: another one won."""
        written, self._written = self._written, []
        self._staging.delete(*written)

    # --- where it begins and ends ---------------------------------------------------------------------------

    def _range_of(self) -> PageRange | None:
        if self._source.cut == "legs":
            return None
        of = countable(self._paginator)
        if of is None:
            raise ConfigError(f"the pages of {self._source.uri} cannot be counted, and its plan cuts them")
        span = self._manifest.span
        return PageRange(
            of=of,
            start=span.start.position,
            end=None if span.end.state == END else span.end.position,
        )

    def _start(self) -> FetchState:
        """Where the pages before this chunk led to: foretold, or as the chunk before says."""
        if self._range is not None:
            details = self._manifest.layout.details
            return self._range.begin(page_records=details["page_records"], total=details.get("total"))
        if self._manifest.chunk == 0:
            return FetchState.foretold(1, self._paginator.first(), records=0, total=None)
        found = self._staging.done_of(self._manifest.chunk - 1)
        before = None if found is None else found[0].pages
        if before is None:
            raise DispatchNotFound(
                f"chunk {self._manifest.chunk} goes on where the one before it ended, which is not done:"
                " resume the dispatch"
            )
        if before.next is None:
            # the one before was done again, and met the end earlier
            self._ended = before.stop
            guard = FetchState.foretold(1, self._paginator.first(), records=0, total=before.total).guard
            return FetchState(1, None, guard)
        return FetchState.from_json(before.next)

    def _watched(self, items: Iterable[FetchedBatch | FetchedPage]) -> Iterator[FetchedBatch | FetchedPage]:
        """The items; tells what an expired cursor, or a total that changed, means for the dispatch."""
        first = self._range is None and self._manifest.chunk > 0
        try:
            for item in items:
                first = False
                yield item
        except HttpStatusError as error:
            if first and error.status in EXPIRED:
                raise CursorExpired(
                    f"the API may no longer know the cursor at which chunk {self._manifest.chunk} begins"
                    f" ({error}): if it does not come back, restart the dispatch"
                ) from error
            raise
        except TotalChanged as error:
            raise TotalChanged(
                f"{error}. Trying again takes another plan: run what plans once more, it then begins anew"
            ) from error

    def _begins(self, start: FetchState) -> Boundary:
        if self._range is not None:
            return Boundary(position=self._range.start)
        return Boundary(position=self._manifest.chunk, state=mark_of(start.request))

    def _ends(self, last: FetchedPage, records: int) -> Boundary:
        if self._range is None:
            state = END if last.state.request is None else mark_of(last.state.request)
            return Boundary(position=self._manifest.chunk + 1, state=state)
        of, end = self._range.of, self._range.end
        if last.stop is StopReason.RANGE_END and end is not None:
            return Boundary(position=end)
        before = (self._range.start - of.origin) // of.step
        moved = records if of.step != 1 or of.kind == "offset" else last.number - before
        return Boundary(position=self._range.start + max(moved, 0), state=END)

    def _pages(self, last: FetchedPage, fetcher: Fetcher, transport: Transport, first: int) -> PagesRead:
        guard = fetcher.guard.remember()
        leg = self._range is None
        goes_on = last.stop is None or last.stop is StopReason.RANGE_END
        size = fetcher.guard.page_size
        # an offset moves by what was received, so that a short page moves it less: nothing is lost
        counted = self._range is not None and self._range.of.kind != "offset"
        short = counted and goes_on and size is not None and 0 < last.records < size
        return PagesRead(
            pages=max(last.number - first + 1, 0),
            stop=self._ended if goes_on or last.stop is None else last.stop.value,
            total=guard["total"],
            short=(last.number, last.records) if short else None,
            # a leg hands them on itself
            digests={} if leg else dict(guard["pages"]),
            next=last.state.to_json() if leg and last.state.request is not None else None,
            retries=transport.retries,
            retry_wait=round(transport.wait_seconds, 3),
            warnings=tuple(guard["warnings"]),
        )


class _Read:
    """What was read so far, and what became of it.

    :param build: makes lines of records.
    :param rejected: takes records that cannot become lines.
    :param collects: whether there may be such.
    """

    def __init__(self, build: Callable[..., Lines], rejected: RejectedRows, *, collects: bool) -> None:
        self._build = build
        self._rejected = rejected
        self._collects = collects
        self.lines = 0
        self.last: FetchedPage | None = None

    def take(self, item: FetchedBatch | FetchedPage, sink: LineSink) -> None:
        """:raises RecordError: a record cannot become a line, and none may be put aside."""
        if isinstance(item, FetchedPage):
            self.last = item
            return
        built = self._build(item.batch.records, item.batch.text)
        self.lines += built.count
        for bad in built.rejected:
            place = f"page {item.page}, record {item.first + bad.index}"
            if not self._collects:
                error: RecordError = type(bad.error)(f"{place}: {bad.error}")
                raise error from bad.error.__cause__
            self._rejected.put(
                [BadRow(item.first + bad.index, item.page, bad.record, f"{place}: {bad.error}")]
            )
        sink.put(built.pieces)


class _Leg:
    """When a leg has had its share: asked between two pages.

    :param source: names the budgets.
    :param ends_at: when whoever runs this is killed.
    :param began: when the leg began.
    """

    def __init__(self, source: ApiSource, ends_at: datetime | None, began: datetime) -> None:
        self._source = source
        self._fetcher: Fetcher | None = None
        self._size = 0
        self._pages = 0
        self._clock = time.monotonic
        self._began = self._last = self._clock()
        self._longest = 0.0
        left = None if ends_at is None else (ends_at - began).total_seconds()
        self._left = None if left is None else left * (1 - _KEPT_SHARE)

    def watch(self, fetcher: Fetcher, size: int) -> None:
        """:param size: bytes of the legs before."""
        self._fetcher, self._size = fetcher, size

    def spent(self) -> bool:
        """Whether the leg ends with the page that was read just now."""
        now = self._clock()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        self._pages += 1
        source, passed = self._source, now - self._began
        size = 0 if self._fetcher is None else self._fetcher.guard.size - self._size
        return (
            (source.leg_pages is not None and self._pages >= source.leg_pages)
            or (source.leg_bytes is not None and size >= source.leg_bytes)
            or (source.leg_seconds is not None and passed >= source.leg_seconds)
            or (self._left is not None and passed + _LONGER * self._longest >= self._left)
        )


def mark_of(request: PageRequest | None) -> str:
    """By which the chunk that ends and the one that begins with a request are seen to meet."""
    return END if request is None else request.fingerprint().hex()


def ref_of(receipt: ObjectReceipt | None) -> ObjectRef | None:
    """What was written, as it is named in a done record."""
    if receipt is None or receipt.etag is None or receipt.size is None:
        return None
    return ObjectRef(
        bucket=receipt.bucket,
        key=receipt.key,
        etag=receipt.etag,
        size=receipt.size,
        version_id=receipt.version_id,
        crc32=receipt.crc32,
    )
