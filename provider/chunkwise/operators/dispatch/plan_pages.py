"""Share the pages of an HTTP API out to many processors, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from chunkwise._aws import aws_template_fields
from chunkwise.core.choices import check_choices
from chunkwise.core.dispatch.model import Plan
from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.dispatch.pages.plan import DEFAULT_LEG_SECONDS, Pages, api_source, plan_pages
from chunkwise.core.dispatch.places import target_of
from chunkwise.core.dispatch.plan import Planned
from chunkwise.core.dispatch.settings import config_of
from chunkwise.core.dispatch.spec import Config, OnExisting, Rejects
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError
from chunkwise.core.paging import BaseRequest, Paginator, paginator_from_json
from chunkwise.core.paging.guards import Caps, Guards, Policy
from chunkwise.core.paging.page_json import NonFinite
from chunkwise.core.paging.retry import RetryPolicy
from chunkwise.core.paging.splitter import SplitLimits
from chunkwise.core.records.compression import Compression
from chunkwise.core.records.lines import OnStampConflict
from chunkwise.core.storage import OnExists
from chunkwise.core.units import MiB
from chunkwise.edge import passwords, permanent_fails_at_once
from chunkwise.hooks.http import ApiConnection, PagedApiHook
from chunkwise.operators.dispatch.plan import check_map_length
from chunkwise.operators.dispatch.staged import StagedOperator
from chunkwise.staged import STAGED
from chunkwise.state import plain_json
from chunkwise.transfers.paged_api_to_s3 import DEFAULT_STAMPS, run_times

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context


class PlanPagesOperator(StagedOperator):
    """Cut the pages of an HTTP API into chunks, which many processors read at once; return a short list of
    groups to map over.

    Everything after it is that of a file: ``ProcessChunksOperator`` mapped over what it returns, in workers
    or Lambda functions, ``DispatchPartsSensor``, ``MergePartsOperator``. Each processor writes the records of
    its pages as a part of compressed JSON Lines, and the merge lets S3 put the parts together to one object,
    once it is proved that they are all pages of the API from the first one to its own end. What one processor
    sees differently than another one (a total that changed, a page that comes twice, a page cut short in the
    middle) is an error, or a warning where the parameter says so, as in
    :class:`~chunkwise.transfers.paged_api_to_s3.PagedApiToS3Operator`.

    **Ranges.** Where pages can be counted (``OffsetPaginator``, ``PageNumberPaginator``), the task reads the
    first one, and shares out as many as the API declares, or as ``pages`` says. The last chunk reads on up to
    the API's own end. All of them together see the API over a longer time than one ingest would: a list that
    gets new records in front while it is read shifts its pages, which only the declared total betrays.

    **Cursor runs.** Any other API says only in a page how the next one is asked for. There is one group, and
    its chunks are made one after the other: each reads until its budget (``chunk_seconds``,
    ``pages_per_chunk``, ``chunk_bytes``) is spent and leaves the next cursor in its done record. Such a run
    gets no faster, but it may take longer than a Lambda function can, and a retry goes on after the last
    chunk. In a function a chunk also ends before the function's time does.

    **Secrets.** The plan holds the name of the connection, never what is in it. In a worker it is looked up
    in Airflow; a function finds a secret of that name by its ``CHUNKWISE_SECRETS``, which is the JSON of the
    connection (``{"host": "https://api.example.com", "extra": {"token": "..."}}``). A connection with nothing
    but a host is not needed. Query parameters and headers that are given here stand in the plan, as text,
    until the dispatch is finished.

    **Again.** A second run goes on with the dispatch that it finds if it is of the same job. Stamps are part
    of the job: a cleared run has another ``ingest_ts``, and starts again.

    **Return value.** The numbers of the groups. The XCom ``summary`` has the counts and the staging
    directory.

    :param endpoint: path below the connection's host, or an absolute URL. (templated)
    :param paginator: one of :mod:`chunkwise.core.paging`, or a dictionary; a class of your own cannot travel
        to a processor. (templated)
    :param records_path: as for the ingest. (templated)
    :param target_key: key of the object that is written, or a whole ``s3://bucket/key``. Its suffix must fit
        ``compression``. (templated)
    :param target_bucket: its bucket, unless ``target_key`` has it. (templated)
    :param staging_uri: ``s3://bucket/prefix`` below which staging directories stand; default: beside the
        target, as ``{target_key}.dispatch/``. A URI that ends with ``.dispatch/`` is the directory itself.
        (templated)
    :param staging_extra_args: see :class:`~chunkwise.operators.dispatch.StagedOperator`. (templated)
    :param method: ``"GET"`` or ``"POST"``.
    :param query: query parameters of every page. (templated)
    :param headers: headers of every page. (templated)
    :param json: JSON body of every page of a POST. (templated)
    :param http_conn_id: see :class:`~chunkwise.hooks.http.PagedApiHook`; ``None`` for an API that needs none,
        with an absolute ``endpoint``. (templated)
    :param pages_per_chunk: pages of a chunk; of a cursor run at most. (templated)
    :param chunks: number of chunks instead; default 16. (templated)
    :param pages: how many pages there are, for an API that declares no total. (templated)
    :param groups: tasks that the chunks are shared out to, at most; default 64. (templated)
    :param chunk_seconds: of a cursor run: how long a chunk reads; ``None``: no bound.
    :param chunk_bytes: of a cursor run: bytes of records of a chunk, uncompressed.
    :param stamps: as for the ingest. (templated)
    :param on_stamp_conflict: see there.
    :param transforms: see there; Python functions cannot travel to a processor.
    :param secret_conn_ids: for transforms that need a key, as for
        :class:`~chunkwise.operators.dispatch.ProcessChunksOperator`: here they are only looked up, so that a
        missing one is seen at once. (templated)
    :param compression: ``"gzip"``, ``"zstd"`` or ``"none"``.
    :param level: of the compression; ``None`` for a fast one.
    :param rejects: how many records that cannot become lines may be put aside, a
        :class:`~chunkwise.core.dispatch.spec.Rejects` or a dictionary; default: not one. (templated)
    :param deadline_seconds: a started chunk that reported nothing for so long is lost; default an hour.
    :param on_exists: the target has an object already: ``"replace"`` what the plan saw there, ``"skip"`` or
        ``"fail"``.
    :param metadata: user metadata of the target. (templated)
    :param extra_args: more arguments of the S3 calls that write the target. (templated)
    :param on_existing: there is a dispatch in the staging directory: ``"resume"`` it if it is of the same job
        and else start again, ``"restart"`` or ``"fail"``. (templated)
    :param max_pages: as for the ingest: pages of the whole run that are fine; default no bound.
    :param max_records: records of the whole run that are fine.
    :param max_bytes: bytes of records, uncompressed, of the whole run.
    :param max_seconds: time for one chunk.
    :param total_mismatch: as for the ingest, as the three that follow.
    :param total_changed: see there.
    :param capped_page: see there.
    :param repeated_page: see there.
    :param max_empty_pages: see there.
    :param error_paths: see there.
    :param ok_path: see there.
    :param page_retry: see there.
    :param rate_limit: ``(requests, seconds)`` that each processor does not exceed: the API sees as many times
        more as chunks run at once.
    :param connect_timeout: seconds to a connection.
    :param read_timeout: seconds between two bytes of an answer; default: the connection's ``timeout``, else
        60.
    :param allowed_origins: other origins that next links and redirects may lead to, without credentials.
        (templated)
    :param non_finite: as for the ingest.
    :param null_is_empty: see there.
    :param max_record_bytes: see there.
    :param max_envelope_bytes: see there.
    """

    template_fields: Sequence[str] = aws_template_fields(
        *(name for name in STAGED if name.startswith("staging")),
        "endpoint",
        "paginator",
        "records_path",
        "target_key",
        "target_bucket",
        "query",
        "headers",
        "json",
        "http_conn_id",
        "pages_per_chunk",
        "chunks",
        "pages",
        "groups",
        "stamps",
        "secret_conn_ids",
        "rejects",
        "metadata",
        "extra_args",
        "on_existing",
        "allowed_origins",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("query", "headers", "json", "stamps", "rejects", "metadata", "extra_args"), "json"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        endpoint: str,
        paginator: Paginator | Mapping[str, Any],
        records_path: str | Sequence[str],
        target_key: str,
        target_bucket: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        method: Literal["GET", "POST"] = "GET",
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
        http_conn_id: str | None = "http_default",
        pages_per_chunk: int | str | None = None,
        chunks: int | str | None = None,
        pages: int | str | None = None,
        groups: int | str | None = None,
        chunk_seconds: float | None = DEFAULT_LEG_SECONDS,
        chunk_bytes: int | None = None,
        stamps: Mapping[str, Any] | None = DEFAULT_STAMPS,
        on_stamp_conflict: OnStampConflict = "fail",
        transforms: Sequence[Any] = (),
        secret_conn_ids: Mapping[str, str] | None = None,
        compression: Compression = "gzip",
        level: int | None = None,
        rejects: Rejects | Mapping[str, Any] | None = None,
        deadline_seconds: float | None = None,
        on_exists: OnExists = "replace",
        metadata: Mapping[str, str] | None = None,
        extra_args: Mapping[str, Any] | None = None,
        on_existing: OnExisting = "resume",
        max_pages: int | None = None,
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
        page_retry: RetryPolicy | None = None,
        rate_limit: tuple[int, float] | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float | None = None,
        allowed_origins: Sequence[str] = (),
        non_finite: NonFinite = "fail",
        null_is_empty: bool = False,
        max_record_bytes: int = 64 * MiB,
        max_envelope_bytes: int = 8 * MiB,
        **kwargs: Any,
    ) -> None:
        super().__init__(staging_uri=staging_uri, staging_extra_args=staging_extra_args, **kwargs)
        self.endpoint = endpoint
        self.paginator = paginator
        self.records_path = records_path
        self.target_key = target_key
        self.target_bucket = target_bucket
        self.method = method
        self.query = query
        self.headers = headers
        self.json = json
        self.http_conn_id = http_conn_id
        self.pages_per_chunk = pages_per_chunk
        self.chunks = chunks
        self.pages = pages
        self.groups = groups
        self.chunk_seconds = chunk_seconds
        self.chunk_bytes = chunk_bytes
        self.stamps = stamps
        self.on_stamp_conflict = on_stamp_conflict
        self.transforms = transforms
        self.secret_conn_ids = secret_conn_ids
        self.compression = compression
        self.level = level
        self.rejects = rejects
        self.deadline_seconds = deadline_seconds
        self.on_exists = on_exists
        self.metadata = metadata
        self.extra_args = extra_args
        self.on_existing = on_existing
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
        self.page_retry = page_retry
        self.rate_limit = rate_limit
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.allowed_origins = allowed_origins
        self.non_finite = non_finite
        self.null_is_empty = null_is_empty
        self.max_record_bytes = max_record_bytes
        self.max_envelope_bytes = max_envelope_bytes

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Any,
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        # ingest_date and ingest_ts, as the ingest has them
        values: Any = {**context, **run_times(context)}
        super()._do_render_template_fields(parent, template_fields, values, jinja_env, seen_oids)

    def staging(self) -> Staging:
        """The staging directory, beside the target if nothing else is said."""
        # an API has no place on S3
        self.s3_bucket, self.s3_key = self.target_bucket, self.target_key
        return super().staging()

    def execute(self, context: Context) -> list[int]:
        """Plan, and return the groups.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            check_choices(
                self,
                on_existing=OnExisting,
                method=Literal["GET", "POST"],
                compression=Compression,
                non_finite=NonFinite,
                on_stamp_conflict=OnStampConflict,
            )
            staging, config = self.staging(), self._config()
            check_map_length(config.groups)
            api = PagedApiHook(self.http_conn_id).get_conn()
            with api.session:
                planned = plan_pages(
                    staging,
                    self._source(api),
                    config,
                    api.session,
                    Pages(
                        pages_per_chunk=_number("pages_per_chunk", self.pages_per_chunk),
                        chunks=_number("chunks", self.chunks),
                        pages=_number("pages", self.pages),
                    ),
                    secrets=passwords(self.secret_conn_ids),
                    on_existing=self.on_existing,
                )
        plan = planned.plan
        self.log.info(
            "%s %s: %s in %d groups; %s",
            "resuming" if planned.resumed else "planned",
            plan.source.uri,
            _cut(plan),
            plan.groups,
            staging.uri,
        )
        told = {"dispatch": plan.dispatch, "staging_uri": staging.uri, "target": plan.config.target.uri}
        for name, value in told.items():
            context["ti"].xcom_push(key=name, value=value)
        context["ti"].xcom_push(key="summary", value=_summary(planned, staging))
        return list(range(plan.groups))

    def _config(self) -> Config:
        target = target_of(
            self.target_bucket,
            self.target_key,
            on_exists=self.on_exists,
            metadata=dict(self.metadata or {}),
            extra_args=dict(self.extra_args or {}),
        )
        parameters = {
            "groups": self.groups,
            "rejects": self.rejects,
            "deadline_seconds": self.deadline_seconds,
            "output_compression": self.compression,
        }
        # the variables of files have no meaning here
        return config_of(target, parameters, {})

    def _source(self, api: ApiConnection) -> ApiSource:
        paginator = (
            paginator_from_json(self.paginator) if isinstance(self.paginator, Mapping) else self.paginator
        )
        return api_source(
            request=BaseRequest(
                url=api.url(self.endpoint),
                method=self.method,
                params=self.query or {},
                headers=self.headers or {},
                json=self.json,
            ),
            paginator=paginator,
            records_path=self.records_path,
            connection=None if api.bare else self.http_conn_id,
            stamps=self.stamps or {},
            transforms=self.transforms,
            leg_pages=_number("pages_per_chunk", self.pages_per_chunk),
            leg_bytes=self.chunk_bytes,
            leg_seconds=self.chunk_seconds,
            on_stamp_conflict=self.on_stamp_conflict,
            level=self.level,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout or api.timeout or 60.0,
            retry=self.page_retry or RetryPolicy(),
            rate_limit=None if self.rate_limit is None else (self.rate_limit[0], self.rate_limit[1]),
            allowed_origins=tuple(self.allowed_origins),
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
            error_paths=tuple(self.error_paths),
            ok_path=self.ok_path,
            limits=SplitLimits(record=self.max_record_bytes, envelope=self.max_envelope_bytes),
            non_finite=self.non_finite,
            null_is_empty=self.null_is_empty,
        )


def _number(name: str, value: int | str | None) -> int | None:
    """A whole number, which a template gives as text."""
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} is {value!r}: it must be a whole number") from None


def _cut(plan: Plan) -> str:
    if isinstance(plan.source, ApiSource) and plan.source.cut == "legs":
        return "a cursor run, whose chunks are made one after the other"
    total = plan.layout.details["total"]
    return f"{plan.chunks} chunks of {'an undeclared number of' if total is None else total} records"


def _summary(planned: Planned, staging: Staging) -> dict[str, Any]:
    plan = planned.plan
    source = plan.source
    summary = {
        "staging_uri": staging.uri,
        "dispatch": plan.dispatch,
        "source": {"uri": source.uri, "etag": source.etag},
        "target": plan.config.target.uri,
        "cut": source.cut if isinstance(source, ApiSource) else None,
        "declared_total": plan.layout.details["total"],
        "chunks": plan.chunks,
        "groups": plan.groups,
        "resumed": planned.resumed,
        "requests": planned.requests,
        "bytes_read": planned.bytes_read,
        "warnings": list(plan.warnings),
    }
    plain: dict[str, Any] = plain_json(msgspec.to_builtins(summary))
    return plain
