"""A paged HTTP API straight into one object of compressed JSON Lines on S3."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

from airflow.providers.common.compat.sdk import AirflowSkipException

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core import memory
from chunkwise.core.errors import ConfigError
from chunkwise.core.ingest.checkpoint import MemoryStateStore
from chunkwise.core.ingest.job import PagedIngest, Progress
from chunkwise.core.ingest.spec import Destination, HttpOptions, IngestSpec, OnEmpty
from chunkwise.core.paging import BaseRequest, Paginator, paginator_from_json
from chunkwise.core.paging.fetcher import FetchOptions
from chunkwise.core.paging.guards import Caps, ErrorRule, Guards, Policy
from chunkwise.core.paging.page_json import NonFinite
from chunkwise.core.paging.rate_limit import RateLimit
from chunkwise.core.paging.retry import RetryPolicy
from chunkwise.core.paging.splitter import SplitLimits
from chunkwise.core.records.compression import Compression
from chunkwise.core.records.lines import OnStampConflict
from chunkwise.core.records.quarantine import QuarantinePolicy
from chunkwise.core.storage import OnExists
from chunkwise.core.units import MiB
from chunkwise.edge import passwords, permanent_fails_at_once, publish_receipt
from chunkwise.hooks.http import ApiConnection, PagedApiHook
from chunkwise.lineage import collect_ingest, ingest_lineage
from chunkwise.links.s3 import S3ObjectLink
from chunkwise.state import PreviousReceipt, plain_json, task_state

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context
    from requests.auth import AuthBase

#: what each record gets at its end unless ``stamps`` says otherwise
DEFAULT_STAMPS: Final[Mapping[str, str]] = {
    "ingest_date": "{{ ingest_date }}",
    "ingest_ts": "{{ ingest_ts }}",
}

#: seconds between two lines of progress in the task's log
PROGRESS_SECONDS: Final = 5.0


class PagedApiToS3Operator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Read every page of an HTTP API into one object of gzip JSON Lines on S3, in bounded memory and without
    a disk.

    Pages are split into the bytes of their records, stamped, compressed and uploaded part by part while the
    next page is fetched. Untouched values come out exactly as they came. The task returns a receipt (``uri``,
    ``records``, ``pages``, ``bytes``, ``uncompressed_bytes``, ``etag``, ``sha256``, ``stop_reason`` and
    more), never data, and the events of its outlet assets carry the same receipt as their extra.

    **Delivery.** The object appears once and whole, or not at all: any error, kill or time-out before the
    last request leaves the key as it was. A short, repeated or doubtful result is an error. What can't pass
    by itself (401, 404, a violated guard, a wrong parameter) fails the task at once; what may pass is retried
    as the task's ``retries`` say.

    **Resuming.** On Airflow 3.3 and later a retry goes on after the last page that was safe on S3, in the
    same multipart upload, also when the worker was killed or ``execution_timeout`` ended the try. Before 3.3,
    or when the job has changed or the API no longer knows the cursor, it starts again and aborts the old
    upload. The stamps are part of the job: a retry keeps ``ingest_ts``, a cleared run starts again. After the
    last try nothing stays open. Two things no task can clean up: its own upload when it is killed by ``kill
    -9`` in its last try, and when somebody marks it as failed while retries are left, which looks like the
    shutdown of a worker. The next run of the same task instance aborts it; so does a lifecycle rule
    ``AbortIncompleteMultipartUpload``, which every bucket should have.

    **Memory and cost.** ``parts_in_flight`` x ``part_size`` and a few pages' worth of records, whatever the
    size of the result. One S3 request per ``part_size`` compressed bytes, and two more.

    **Dates in runs without a logical date.** Templates of this operator have two more values, in all kinds of
    run:

    ``{{ ingest_date }}``
        ``YYYY-MM-DD``: the run's partition date, else its logical date, else the time at which it was due
        (``run_after``), in UTC. Running a day again writes the same key.
    ``{{ ingest_ts }}``
        ISO 8601 in UTC: when the run started, equal for all tasks and tries of the run. Clearing a finished
        run gives it a new one.

    :param endpoint: path below the connection's host, or an absolute URL. (templated)
    :param paginator: how one page leads to the next: one of :mod:`chunkwise.core.paging`, a user's own, or a
        dictionary such as ``{"type": "cursor", "cursor_path": "paging.next", ...}``. (templated)
    :param records_path: dotted path or JMESPath of the records in a page; ``""`` if the page is the array.
        (templated)
    :param s3_key: key of the object, or a whole ``s3://bucket/key``. Its suffix must fit ``compression``.
        (templated)
    :param s3_bucket: its bucket, unless ``s3_key`` has it. (templated)
    :param method: ``"GET"`` or ``"POST"``.
    :param query: query parameters of every page. Secrets belong in the connection. (templated)
    :param headers: headers of every page, likewise. (templated)
    :param json: JSON body of every page of a POST. (templated)
    :param http_conn_id: see :class:`~chunkwise.hooks.http.PagedApiHook`; ``None`` for an API that needs no
        connection, with an absolute ``endpoint``. (templated)
    :param auth_type: see :class:`~chunkwise.hooks.http.PagedApiHook`.
    :param stamps: members that each record gets at its end; default ``ingest_date`` and ``ingest_ts``, ``{}``
        for none. (templated)
    :param on_stamp_conflict: a record that has such a member already: ``"fail"``, ``"keep"`` its value or
        ``"replace"`` it.
    :param transforms: what is done to each record, in order; see :mod:`chunkwise.core.records.transforms`.
    :param transform: one more, after these: a function from a record (``dict``) to a record, or to ``None``
        to leave it out.
    :param secret_conn_ids: for transforms that need a key: Airflow connections whose passwords they are, by
        the name that the transform uses. (templated)
    :param compression: ``"gzip"``, ``"zstd"`` or ``"none"``.
    :param level: of the compression; ``None`` for a fast one.
    :param on_exists: the key has an object already: ``"replace"`` it, ``"skip"`` the work (the task succeeds,
        its receipt has ``skipped``), or ``"fail"``.
    :param on_empty: the API has no record: ``"write"`` an empty object, ``"skip"`` (no object, and the task's
        state is skipped, so that no asset event is sent), or ``"fail"``.
    :param max_pages: pages that are fine; one more fails. ``None`` for no bound, as in the following three.
    :param max_records: records that are fine.
    :param max_bytes: bytes of records, uncompressed, that are fine.
    :param max_seconds: time that is fine.
    :param total_mismatch: the API declares another total than it delivered: ``"fail"`` or ``"warn"``.
    :param total_changed: the declared total changes on the way: the same.
    :param capped_page: a page in the middle is shorter than was asked for: the same.
    :param repeated_page: a page has the very same records as an earlier one: the same.
    :param max_empty_pages: empty pages in a row that are fine, where the paginator goes on after one.
    :param error_paths: dotted paths in a page that hold something only if the request failed.
    :param ok_path: dotted path that is ``true`` only if it did not.
    :param error_predicate: a function from a page without its records to whether the request failed.
    :param page_retry: how often and when one page is asked for again, within one try of the task.
    :param rate_limit: ``(requests, seconds)`` that are not exceeded, e.g. ``(5000, 3600)``.
    :param connect_timeout: seconds to a connection.
    :param read_timeout: seconds between two bytes of an answer; default: the connection's ``timeout``, else
        60.
    :param allowed_origins: other origins that next links and redirects may lead to, without credentials.
        (templated)
    :param requests_in_flight: pages asked for at once, where the paginator can foretell them (offset, page
        number).
    :param non_finite: ``NaN`` and ``Infinity`` in a page, which are no JSON: ``"fail"``, or ``"null"`` to put
        ``null`` in their place.
    :param null_is_empty: whether ``null`` in the place of the records is an empty page.
    :param max_record_bytes: bytes of one record that are fine.
    :param max_envelope_bytes: bytes of a page without its records that are fine.
    :param part_size: bytes of a part of the upload, at least 5 MiB. A retry can go on from the end of a page
        at which 5 MiB or more wait for their part to be full: leave room for a compressed page above 5 MiB.
    :param parts_in_flight: parts uploaded at once.
    :param metadata: user metadata of the object. (templated)
    :param extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param checksum: ``"CRC32"``; ``None`` for S3-compatible servers that know no checksums.
    :param quarantine: records that can't be stamped or transformed go, within its limits, to an object
        ``_chunkwise/….rejected…`` beside the other, which readers and event filters pass over; ``None``: the
        first one fails the task.
    :param compare_with_previous: compare the records' width and keys with the last receipt of the first
        outlet asset, and warn about drift (Airflow 3.3).
    :param width_share: growth of the mean record that is worth a warning, as a share.
    :param resume: whether a retry goes on where the last try was stopped.
    """

    aws_hook_class = S3Hook
    operator_extra_links = (S3ObjectLink(),)
    template_fields: Sequence[str] = aws_template_fields(
        "endpoint",
        "paginator",
        "records_path",
        "s3_key",
        "s3_bucket",
        "query",
        "headers",
        "json",
        "http_conn_id",
        "stamps",
        "secret_conn_ids",
        "allowed_origins",
        "metadata",
        "extra_args",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("query", "headers", "json", "stamps", "metadata", "extra_args"), "json"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        endpoint: str,
        paginator: Paginator | Mapping[str, Any],
        records_path: str | Sequence[str],
        s3_key: str,
        s3_bucket: str | None = None,
        method: Literal["GET", "POST"] = "GET",
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        http_conn_id: str | None = "http_default",
        auth_type: Callable[..., AuthBase] | None = None,
        stamps: Mapping[str, Any] | None = DEFAULT_STAMPS,
        on_stamp_conflict: OnStampConflict = "fail",
        transforms: Sequence[Any] = (),
        transform: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        secret_conn_ids: Mapping[str, str] | None = None,
        compression: Compression = "gzip",
        level: int | None = None,
        on_exists: OnExists = "replace",
        on_empty: OnEmpty = "write",
        max_pages: int | None = 450,
        max_records: int | None = None,
        max_bytes: int | None = None,
        max_seconds: float | None = None,
        total_mismatch: Policy = "fail",
        total_changed: Policy = "fail",
        capped_page: Policy = "fail",
        repeated_page: Policy = "fail",
        max_empty_pages: int = 10,
        error_paths: Sequence[str] = ("error", "errors"),
        ok_path: str | None = None,
        error_predicate: Callable[[Any], bool] | None = None,
        page_retry: RetryPolicy | None = None,
        rate_limit: tuple[int, float] | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float | None = None,
        allowed_origins: Sequence[str] = (),
        requests_in_flight: int = 1,
        non_finite: NonFinite = "fail",
        null_is_empty: bool = False,
        max_record_bytes: int = 64 * MiB,
        max_envelope_bytes: int = 8 * MiB,
        part_size: int = 8 * MiB,
        parts_in_flight: int = 2,
        metadata: Mapping[str, str] | None = None,
        extra_args: Mapping[str, Any] | None = None,
        checksum: Literal["CRC32"] | None = "CRC32",
        quarantine: QuarantinePolicy | None = None,
        compare_with_previous: bool = True,
        width_share: float = 0.25,
        resume: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.paginator = paginator
        self.records_path = records_path
        self.s3_key = s3_key
        self.s3_bucket = s3_bucket
        self.method = method
        self.query = query
        self.headers = headers
        self.json = json
        self.http_conn_id = http_conn_id
        self.auth_type = auth_type
        self.stamps = stamps
        self.on_stamp_conflict = on_stamp_conflict
        self.transforms = transforms
        self.transform = transform
        self.secret_conn_ids = secret_conn_ids
        self.compression = compression
        self.level = level
        self.on_exists = on_exists
        self.on_empty = on_empty
        self.max_pages = max_pages
        self.max_records = max_records
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds
        self.total_mismatch = total_mismatch
        self.total_changed = total_changed
        self.capped_page = capped_page
        self.repeated_page = repeated_page
        self.max_empty_pages = max_empty_pages
        self.error_paths = error_paths
        self.ok_path = ok_path
        self.error_predicate = error_predicate
        self.page_retry = page_retry
        self.rate_limit = rate_limit
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.allowed_origins = allowed_origins
        self.requests_in_flight = requests_in_flight
        self.non_finite = non_finite
        self.null_is_empty = null_is_empty
        self.max_record_bytes = max_record_bytes
        self.max_envelope_bytes = max_envelope_bytes
        self.part_size = part_size
        self.parts_in_flight = parts_in_flight
        self.metadata = metadata
        self.extra_args = extra_args
        self.checksum = checksum
        self.quarantine = quarantine
        self.compare_with_previous = compare_with_previous
        self.width_share = width_share
        self.resume = resume
        self._job: PagedIngest | None = None
        self._source_url: str | None = None
        self._receipt: dict[str, Any] | None = None

    # --- templates ------------------------------------------------------------------------------------------

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Any,
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        # the one method that plain and mapped tasks have in common
        values: Any = {**context, **run_times(context)}
        super()._do_render_template_fields(parent, template_fields, values, jinja_env, seen_oids)

    # --- the run --------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the ingest and return its receipt.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises AirflowSkipException: the API has no record, and ``on_empty`` is ``"skip"``.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        try:
            with permanent_fails_at_once():
                receipt = self._ingest(context)
        finally:
            self._job = None
        self._receipt = receipt
        if receipt["uri"] is None:
            context["ti"].xcom_push(key="return_value", value=receipt)
            raise AirflowSkipException("the API has no record, and on_empty is 'skip': no object was written")
        self._publish(context, receipt)
        return receipt

    def on_kill(self) -> None:
        """End soon: a person stopped the task, its time is over or its worker shuts down.

        The upload is aborted, unless a retry is to go on with it.
        """
        job = self._job
        if job is not None:
            job.kill()

    def _ingest(self, context: Context) -> dict[str, Any]:
        state = task_state(context) if self.resume else None
        api = PagedApiHook(self.http_conn_id, auth_type=self.auth_type).get_conn()
        with api.session:
            spec = self._spec(api, context)
            self._source_url = spec.request.url
            self.log.info("reading %s into %s", _without_query(spec.request.url), spec.destination.uri)
            self._link(context, spec.destination)
            self._job = PagedIngest(
                spec,
                api.session,
                self.hook.conn,
                state=state or MemoryStateStore(),
                secrets=passwords(self.secret_conn_ids) or None,
                on_progress=ProgressLog(self.log.info),
                # an upload that nobody would find again must not stay open
                will_retry=state is not None and _will_retry(context),
            )
            receipt: dict[str, Any] = plain_json(self._job.run().to_json())
        self.log.info("%s", _summary(receipt))
        return receipt

    def _spec(self, api: ApiConnection, context: Context) -> IngestSpec:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}: choose one of {', '.join(map(repr, choices))}"
                )
        bucket, key = self._destination()
        read_timeout = self.read_timeout or api.timeout or 60.0
        return IngestSpec(
            request=BaseRequest(
                url=api.url(self.endpoint),
                method=self.method,
                params=self.query or {},
                headers=self.headers or {},
                json=self.json,
            ),
            paginator=(
                paginator_from_json(self.paginator) if isinstance(self.paginator, Mapping) else self.paginator
            ),
            records_path=self.records_path,
            destination=Destination(
                bucket=bucket,
                key=key,
                on_exists=self.on_exists,
                compression=self.compression,
                level=self.level,
                part_size=self.part_size,
                parts_in_flight=self.parts_in_flight,
                metadata=self.metadata or {},
                extra_args=self.extra_args or {},
                checksum=self.checksum,
            ),
            http=HttpOptions(
                connect_timeout=self.connect_timeout,
                read_timeout=read_timeout,
                retry=self.page_retry or RetryPolicy(),
                rate_limit=None if self.rate_limit is None else RateLimit(*self.rate_limit),
                allowed_origins=self.allowed_origins,
            ),
            fetch=FetchOptions(
                caps=Caps(
                    pages=self.max_pages,
                    records=self.max_records,
                    bytes=self.max_bytes,
                    seconds=self.max_seconds,
                ),
                guards=Guards(
                    total_mismatch=self.total_mismatch,
                    total_changed=self.total_changed,
                    capped_page=self.capped_page,
                    repeated_page=self.repeated_page,
                    empty_pages=self.max_empty_pages,
                ),
                error_rule=ErrorRule(
                    error_paths=self.error_paths, ok_path=self.ok_path, predicate=self.error_predicate
                ),
                limits=SplitLimits(record=self.max_record_bytes, envelope=self.max_envelope_bytes),
                non_finite=self.non_finite,
                null_is_empty=self.null_is_empty,
                requests_in_flight=self.requests_in_flight,
            ),
            stamps=self.stamps or {},
            on_stamp_conflict=self.on_stamp_conflict,
            transforms=[*self.transforms, *([self.transform] if self.transform else [])],
            on_empty=self.on_empty,
            quarantine=self.quarantine,
            previous=PreviousReceipt.of(context, self.outlets).get() if self.compare_with_previous else None,
            width_share=self.width_share,
        )

    def _destination(self) -> tuple[str, str]:
        try:
            bucket, key = S3Hook.get_s3_bucket_key(self.s3_bucket, self.s3_key, "s3_bucket", "s3_key")
        except Exception as error:  # it raises several kinds
            raise ConfigError(
                f"s3_key must be a key beside s3_bucket, or an s3:// URL alone: {error}"
            ) from None
        if not bucket or not key:
            raise ConfigError("s3_bucket or s3_key is empty")
        return bucket, key

    def _link(self, context: Context, destination: Destination) -> None:
        # before the run: Airflow asks for the link of a failed task too
        S3ObjectLink.persist(
            context=context,
            operator=self,
            region_name=self.hook.conn_region_name,
            aws_partition=self.hook.conn_partition,
            bucket_name=destination.bucket,
            key=destination.key,
        )

    # --- after the run --------------------------------------------------------------------------------------

    def _publish(self, context: Context, receipt: dict[str, Any]) -> None:
        bucket, _, key = str(receipt["uri"]).removeprefix("s3://").partition("/")
        publish_receipt(context, self.outlets, receipt)
        if self.compare_with_previous:
            PreviousReceipt.of(context, self.outlets).set(receipt)
        collect_ingest(self, str(self._source_url), bucket, key)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """The API as input; the object with its row count and size as output."""
        if self._receipt is None or self._source_url is None:
            return None
        return ingest_lineage(self._source_url, self._receipt)


class ProgressLog:
    """Write a line about a running ingest every few seconds.

    :param log: takes a format and its arguments.
    :param every: seconds between two lines.
    """

    def __init__(self, log: Callable[..., None], every: float = PROGRESS_SECONDS) -> None:
        self._log = log
        self._every = every
        self._next = time.monotonic() + every

    def __call__(self, progress: Progress) -> None:
        """Told after each page."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        self._log(
            "%d pages, %d records, %.1f MB read, %.1f MB to S3, %.1f MB/s, memory %d MiB",
            progress.pages,
            progress.records,
            progress.uncompressed_bytes / 1e6,
            progress.bytes / 1e6,
            progress.uncompressed_bytes / 1e6 / max(progress.seconds, 1e-3),
            memory.peak_rss() / MiB,
        )


def run_times(context: Mapping[str, Any]) -> dict[str, str]:
    """``ingest_date`` and ``ingest_ts`` of a run, with or without a logical date.

    :param context: of a task.
    """
    run = context.get("dag_run")
    due = getattr(run, "run_after", None)
    date = context.get("partition_date") or context.get("logical_date") or due or datetime.now(UTC)
    started = getattr(run, "start_date", None) or due or date
    return {
        "ingest_date": date.astimezone(UTC).strftime("%Y-%m-%d"),
        "ingest_ts": started.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }


def _will_retry(context: Mapping[str, Any]) -> bool:
    # as Airflow decides it: tries are counted from 1, and max_tries is the number of retries
    ti = context["ti"]
    return bool(ti.try_number <= (ti.max_tries or 0))


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _summary(receipt: Mapping[str, Any]) -> str:
    if receipt["skipped"]:
        return f"{receipt['uri']} exists already: nothing was written"
    mb, seconds = receipt["uncompressed_bytes"] / 1e6, max(receipt["seconds"], 1e-3)
    what = (
        f"{receipt['records']} records from {receipt['pages']} pages ({receipt['stop_reason']}), {mb:.1f} MB"
        f" in {seconds:.1f} s, {mb / seconds:.1f} MB/s, peak memory {receipt['peak_rss'] / MiB:.0f} MiB"
    )
    if receipt["uri"] is None:
        return f"no object: {what}"
    return f"{receipt['uri']} is there, {receipt['bytes'] / 1e6:.1f} MB: {what}"


#: arguments that are one of a few words
_CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {
    "method": ("GET", "POST"),
    "non_finite": get_args(NonFinite),
    "on_stamp_conflict": get_args(OnStampConflict),
    "compression": get_args(Compression),
    "on_exists": get_args(OnExists),
    "on_empty": get_args(OnEmpty),
    "total_mismatch": get_args(Policy),
    "total_changed": get_args(Policy),
    "capped_page": get_args(Policy),
    "repeated_page": get_args(Policy),
}
