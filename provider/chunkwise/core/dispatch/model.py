"""What travels: plan, manifest, done and failed record, receipt. JSON on S3, versioned, read strictly."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from chunkwise.core.dispatch.glue import Glue
from chunkwise.core.dispatch.pages.model import ApiSource, PagesRead
from chunkwise.core.dispatch.spec import Config
from chunkwise.core.formats.model import Boundary, Layout, Span
from chunkwise.core.storage.source import ObjectRef

#: of the form of these values
VERSION: Final = 1
#: is always written: a default that is left out would be taken for the reader's own version
_VERSION: Final[int] = msgspec.field(default_factory=lambda: VERSION)


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Output(_Value, frozen=True):
    """How parts are written.

    :param format: its name.
    :param native: whether the source has the same format, so that untouched bytes stay as they are.
    :param target: what all parts agree on, see ``Format.target``.
    :param compression: of parts as a whole: ``"gzip"``, ``"zstd"`` or ``"none"``.
    """

    format: str
    native: bool
    target: dict[str, Any]
    compression: str


class Plan(_Value, frozen=True):
    """A dispatch.

    :param dispatch: its id.
    :param source: an object, pinned; or a paged API.
    :param compression: of the source as a whole.
    :param format: of the source.
    :param layout: what was learnt about the source.
    :param output: how parts are written.
    :param config: the snapshot.
    :param fingerprint: a digest of each of its fields, and of the source.
    :param boundaries: chunk ``i`` is between boundary ``i`` and ``i + 1``.
    :param exact: whether they were found by a pass over the whole source.
    :param chunk_bytes: that was used.
    :param groups: that the chunks are shared out to.
    :param revision: of the plan, from 0.
    :param revisions: of the chunks that are not of revision 0.
    :param seen: ETag of what stood at the target's key when the plan was made.
    :param created_at: ISO 8601 in UTC.
    :param warnings: what a person should look at.
    """

    dispatch: str
    source: ObjectRef | ApiSource
    compression: str
    format: str
    layout: Layout
    output: Output
    config: Config
    fingerprint: dict[str, str]
    boundaries: tuple[Boundary, ...]
    chunk_bytes: int
    groups: int
    created_at: str
    exact: bool = False
    revision: int = 0
    revisions: dict[int, int] = {}
    seen: str | None = None
    warnings: tuple[str, ...] = ()
    version: int = _VERSION

    @property
    def chunks(self) -> int:
        """Their number."""
        return len(self.boundaries) - 1

    @property
    def object(self) -> ObjectRef:
        """The source of a dispatch whose source is an object."""
        return _object(self.source)

    def span(self, chunk: int) -> Span:
        """What a chunk covers."""
        return Span(start=self.boundaries[chunk], end=self.boundaries[chunk + 1])

    def revision_of(self, chunk: int) -> int:
        """Of a chunk: its done record must have the same."""
        return self.revisions.get(chunk, 0)

    def members(self, group: int) -> range:
        """Chunks of a group."""
        return range(group, self.chunks, self.groups)


class Manifest(_Value, frozen=True):
    """All that a processor needs, beside an S3 client.

    :param dispatch: id of the dispatch.
    :param chunk: number, from 0.
    :param revision: of the chunk.
    :param span: what it covers.
    :param source: an object, pinned; or a paged API.
    :param compression: of the source as a whole.
    :param format: of the source.
    :param layout: of the source, as far as the chunk needs it.
    :param output: how the part is written.
    :param config: the snapshot.
    :param exact: whether the span was found by a pass over the whole source.
    :param group: that the chunk belongs to.
    :param planned_by: version of Chunkwise that wrote it.
    """

    dispatch: str
    chunk: int
    span: Span
    source: ObjectRef | ApiSource
    compression: str
    format: str
    layout: Layout
    output: Output
    config: Config
    revision: int = 0
    exact: bool = False
    group: int = 0
    planned_by: str = ""
    version: int = _VERSION

    @property
    def object(self) -> ObjectRef:
        """The source of a dispatch whose source is an object."""
        return _object(self.source)

    @property
    def api(self) -> ApiSource:
        """The source of a dispatch whose source is a paged API."""
        if not isinstance(self.source, ApiSource):
            raise TypeError(f"{self.source.uri} is no API")
        return self.source


def _object(source: ObjectRef | ApiSource) -> ObjectRef:
    if not isinstance(source, ObjectRef):
        raise TypeError(f"{source.uri} is no object")
    return source


class Done(_Value, frozen=True):
    """The attempt that won a chunk: what it read and what it wrote.

    :param dispatch: id of the dispatch.
    :param chunk: number, from 0.
    :param revision: of the chunk.
    :param attempt: name of the attempt.
    :param start: where reading began, and in which state.
    :param end: where it ended, and in which state. Not at a record boundary: the chunk was cut wrongly, has
        no part, and the merge plans it again.
    :param rows_in: rows read.
    :param rows_out: rows written.
    :param rejected: bad rows that were put aside.
    :param bytes_in: of the source that were read.
    :param bytes_out: of the part, before compression.
    :param part: the part; ``None`` where the chunk gave no bytes.
    :param notes: of the part's encoder, for the join.
    :param before: what was written in front of the part's rows, see
        :mod:`~chunkwise.core.dispatch.glue`.
    :param after: what was written behind them.
    :param input_crc32: CRC-32 of the chunk's bytes of the source, where chunks are bytes.
    :param quarantine: the rows put aside.
    :param pages: what it saw of the API, where the source is one.
    :param secrets: a digest of the protector's secrets that takes long to guess from, so that chunks which
        were protected with different keys are seen.
    :param started_at: ISO 8601 in UTC.
    :param seconds: wall time.
    :param peak_rss: peak memory of the process, bytes.
    """

    dispatch: str
    chunk: int
    attempt: str
    start: Boundary
    end: Boundary
    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    started_at: str
    seconds: float
    peak_rss: int
    revision: int = 0
    rejected: int = 0
    part: ObjectRef | None = None
    notes: dict[str, Any] = {}
    before: Glue | None = None
    after: Glue | None = None
    input_crc32: int | None = None
    quarantine: ObjectRef | None = None
    pages: PagesRead | None = None
    secrets: str = ""
    version: int = _VERSION


class Failed(_Value, frozen=True):
    """An attempt that failed.

    :param dispatch: id of the dispatch.
    :param chunk: number, from 0.
    :param revision: of the chunk.
    :param attempt: name of the attempt.
    :param error: name of the exception's class.
    :param message: its text, which never holds data.
    :param transient: whether another attempt may succeed.
    :param failed_at: ISO 8601 in UTC.
    """

    dispatch: str
    chunk: int
    attempt: str
    error: str
    message: str
    transient: bool
    failed_at: str
    revision: int = 0
    version: int = _VERSION


class Started(_Value, frozen=True):
    """The mark that an attempt has begun. S3's time of it counts, not this one.

    :param attempt: name of the attempt.
    :param started_at: ISO 8601 in UTC.
    :param revision: of the chunk.
    :param function: name of the Lambda function that it runs in, as for the others below.
    :param request_id: of the invocation.
    :param log_group: where its log goes to, in CloudWatch Logs.
    :param log_stream: see there.
    :param deadline_at: when the function's time is over; ISO 8601 in UTC.
    """

    attempt: str
    started_at: str
    revision: int = 0
    function: str | None = None
    request_id: str | None = None
    log_group: str | None = None
    log_stream: str | None = None
    deadline_at: str | None = None
    version: int = _VERSION


class Invoked(_Value, frozen=True):
    """The mark that an attempt was handed over to a function, which may begin it later.

    :param attempt: name of the attempt.
    :param function: that was invoked.
    :param invoked_at: ISO 8601 in UTC. S3's time of the mark counts, not this one.
    """

    attempt: str
    function: str
    invoked_at: str
    version: int = _VERSION


class Limit(_Value, frozen=True):
    """How much of a dispatch may run at once; may be changed while it runs.

    :param chunks_in_flight: invoked or running.
    """

    chunks_in_flight: int
    version: int = _VERSION


class OpenUpload(_Value, frozen=True):
    """The upload of a merge that is under way.

    :param bucket: of the target.
    :param key: of the target.
    :param upload_id: S3's.
    """

    bucket: str
    key: str
    upload_id: str
    version: int = _VERSION


class Cancelled(_Value, frozen=True):
    """The mark that a dispatch, or one group of it, was cancelled: processors that see it end.

    :param by: who did it.
    :param cancelled_at: ISO 8601 in UTC.
    :param group: number; ``None``: the whole dispatch.
    """

    by: str
    cancelled_at: str
    group: int | None = None
    version: int = _VERSION


class MergeReceipt(_Value, frozen=True):
    """The proof of a finished dispatch. JSON-able, and never holds data.

    :param uri: the object; ``None`` if the target had one and was to be left alone.
    :param dispatch: id of the dispatch.
    :param source: URI, ETag and size of what was read; of an API URI, pages and the total that it declared.
    :param chunks: number.
    :param rows_in: rows read.
    :param rows_out: rows of the object.
    :param rejected: rows put aside.
    :param bytes: size of the object.
    :param etag: of the object.
    :param version_id: of the object in a versioned bucket.
    :param crc32: of the object, base64 as in S3's headers, where it is known.
    :param source_crc32: of all bytes read, eight hex digits, where chunks are bytes.
    :param source_verified: whether S3's own checksum of the source was there and is the same.
    :param copied_bytes: put together by S3 itself.
    :param uploaded_bytes: sent through this process.
    :param requests: of the concatenation.
    :param replanned: chunks that had been cut wrongly and were processed again.
    :param quarantine_uri: the rows put aside.
    :param skipped: nothing was published, because the target exists and is to be left alone.
    :param already: an earlier merge of the same dispatch had published it.
    :param seconds: wall time of the merge.
    :param processor_seconds: sum over the chunks.
    :param peak_rss: the largest of the processors', bytes.
    :param warnings: what a person should look at.
    """

    uri: str | None
    dispatch: str
    source: dict[str, Any]
    chunks: int
    rows_in: int = 0
    rows_out: int = 0
    rejected: int = 0
    bytes: int = 0
    etag: str | None = None
    version_id: str | None = None
    crc32: str | None = None
    source_crc32: str | None = None
    source_verified: bool = False
    copied_bytes: int = 0
    uploaded_bytes: int = 0
    requests: int = 0
    replanned: int = 0
    quarantine_uri: str | None = None
    skipped: bool = False
    already: bool = False
    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak_rss: int = 0
    warnings: tuple[str, ...] = ()
    version: int = _VERSION

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary with every field, also those that have their default."""
        fields = msgspec.structs.asdict(self)
        return {name: msgspec.to_builtins(value) for name, value in fields.items() if name != "version"}
