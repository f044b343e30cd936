"""Large files on S3, chunk by chunk: plan, process, merge and clean up as tasks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec
from airflow.sdk import conf

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.choices import check_choices
from chunkwise.core.dispatch import settings
from chunkwise.core.dispatch.estimate import estimate
from chunkwise.core.dispatch.finish import When, clean_up
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.model import Done, Plan
from chunkwise.core.dispatch.places import source_of, staging_of, target_of
from chunkwise.core.dispatch.plan import Planned, plan_dispatch
from chunkwise.core.dispatch.process import process_group
from chunkwise.core.dispatch.spec import Mode, OnExisting, OutputCompression, OutputFormat, Rejects
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError, Killed
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.storage import OnExists
from chunkwise.core.units import MiB
from chunkwise.edge import lambda_client, passwords, permanent_fails_at_once, publish_receipt, who
from chunkwise.lineage import collect_dispatch, dispatch_lineage
from chunkwise.links.s3 import S3ObjectLink
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

Compute = Literal["worker"]
"""Where chunks are processed: in the task itself."""

#: what each operator of a dispatch needs to find its staging directory
STAGED: Final = ("s3_bucket", "s3_key", "staging_uri", "staging_extra_args")
#: boundaries that a preview writes to the log
_SHOWN: Final = 20
#: seconds between two lines of progress of a group
_PROGRESS_SECONDS: Final = 5.0


class StagedOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """A task of a dispatch: it finds the staging directory, and so the plan, by the source or by its own URI.

    :param s3_key: key of the source, or a whole ``s3://bucket/key``. (templated)
    :param s3_bucket: its bucket, unless ``s3_key`` has it. (templated)
    :param staging_uri: ``s3://bucket/prefix`` below which staging directories stand; default: beside the
        source, as ``{key}.dispatch/``. A URI that ends with ``.dispatch/`` is the directory itself, and needs
        no ``s3_key``. (templated)
    :param staging_extra_args: more arguments of the S3 calls on what lies there, e.g.
        ``{"ServerSideEncryption": "aws:kms"}``. (templated)
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(*STAGED)

    def __init__(
        self,
        *,
        s3_key: str | None = None,
        s3_bucket: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_key = s3_key
        self.s3_bucket = s3_bucket
        self.staging_uri = staging_uri
        self.staging_extra_args = staging_extra_args

    def staging(self) -> Staging:
        """The staging directory.

        :raises ConfigError: the parameters do not say where it is.
        """
        return staging_of(
            self.hook.conn,
            s3_bucket=self.s3_bucket,
            s3_key=self.s3_key,
            staging_uri=self.staging_uri,
            extra_args=self.staging_extra_args,
        )


class PlanDispatchOperator(StagedOperator):
    """Cut an object on S3 into chunks on record boundaries; return a short list of groups to map over.

    The plan reads metadata and a small window near each cut, whatever the size of the file; nothing is
    transformed. It is written to the staging directory, with one manifest per chunk, and pins the source by
    its ETag: a source that changes later is an error, never a mixture.

    **Return value.** The numbers of the groups that the chunks are shared out to, ``[0, 1, ... 63]``: never
    the chunks, for every mapped task pulls the whole list. 9,999 chunks need no more tasks than 64 do. The
    XCom ``summary`` has the counts, the staging directory and an estimate of cost. A preview writes nothing
    and returns ``[]``, so that the tasks mapped over it, and those after them, are skipped.

    **Again.** A second run goes on with the dispatch that it finds if source and config are still the same;
    else it fails and names the field that differs (``on_existing``).

    **Environment.** Where a parameter is ``None``, the worker's variables count, with S3 Protector's names
    and ranges: ``LARGE_FILE_DISPATCH_THRESHOLD_BYTES``, ``LARGE_FILE_CHUNK_SIZE_BYTES``, ``FILE_CHUNK_SIZE``,
    ``OUTPUT_FILE_FORMAT``, ``OUTPUT_FILE_COMPRESSION_TYPE``. Parameters may be smaller. A ``mapping.json``
    may set sizes for its folder, which win.

    :param s3_key: see :class:`StagedOperator`, as for the other parameters that are not listed here.
    :param target_key: key of the object that is written, or a whole ``s3://bucket/key``. (templated)
    :param target_bucket: its bucket, unless ``target_key`` has it. (templated)
    :param version_id: of the source; default: what stands there when the plan is made. (templated)
    :param format: ``"csv"``, ``"jsonl"``, ``"json"`` or ``"parquet"``; default: by the mapping, or the key's
        suffix. (templated)
    :param options: of that format, see its module in :mod:`chunkwise.core.formats`. (templated)
    :param compression: of the source as a whole: ``"gzip"``, ``"zstd"`` or ``"none"``; default: by the key's
        suffix. (templated)
    :param output_format: another format to convert to; default ``"preserve_input_format"``. (templated)
    :param output_options: of that format. (templated)
    :param output_compression: ``"gzip"``, ``"zstd"``, ``"none"``; for Parquet its codec; default
        ``"preserve"``. (templated)
    :param mode: ``"assume"`` boundaries near each cut, which the merge proves, or ``"exact"``: a pass over
        the whole source first. (templated)
    :param threshold_bytes: a smaller source is one chunk; ``0``: every source is cut; default 250 MiB.
        (templated)
    :param chunk_bytes: of a chunk, default 150 MiB; grows where more than 9,999 chunks were needed.
        (templated)
    :param groups: how many groups at most, default 64; not more than ``[core] max_map_length``. (templated)
    :param batch_rows: rows worked on at once, at most; default 100,000.
    :param batch_bytes: bytes of the same, which bound memory; default 8 MiB.
    :param mapping: which columns are protected: a dictionary in the form of ``mapping.json``, ``"auto"`` for
        the ``mapping.json`` beside the source or in the nearest folder above it, or ``None``. A snapshot goes
        into the plan. (templated)
    :param protector: who protects them: a :class:`~chunkwise.core.protect.protector.ProtectorSpec`, or the
        same as a dictionary. A mapping with columns to protect and no protector is an error, and so is the
        opposite. (templated)
    :param rejects: how many bad rows may be put aside, a :class:`~chunkwise.core.dispatch.spec.Rejects` or a
        dictionary; default: not one. (templated)
    :param deadline_seconds: a started chunk that reported nothing for so long is lost; default an hour.
    :param on_exists: the target has an object already: ``"replace"`` what the plan saw there, ``"skip"`` or
        ``"fail"``.
    :param metadata: user metadata of the target. (templated)
    :param extra_args: more arguments of the S3 calls that write the target. (templated)
    :param on_existing: there is a dispatch in the staging directory: ``"resume"`` it, ``"restart"`` or
        ``"fail"``. (templated)
    :param preview: plan and estimate only. (templated)
    :param reads_in_flight: ranged reads at once.
    """

    template_fields: Sequence[str] = aws_template_fields(
        *STAGED,
        "target_key",
        "target_bucket",
        "version_id",
        "format",
        "options",
        "compression",
        "output_format",
        "output_options",
        "output_compression",
        "mode",
        "threshold_bytes",
        "chunk_bytes",
        "groups",
        "mapping",
        "protector",
        "rejects",
        "metadata",
        "extra_args",
        "on_existing",
        "preview",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("options", "output_options", "mapping", "protector", "rejects", "metadata", "extra_args"), "json"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        s3_key: str,
        target_key: str,
        s3_bucket: str | None = None,
        target_bucket: str | None = None,
        version_id: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        format: str | None = None,  # noqa: A002 - the name that the config, the mapping and users have for it
        options: Mapping[str, Any] | None = None,
        compression: str | None = None,
        output_format: OutputFormat | None = None,
        output_options: Mapping[str, Any] | None = None,
        output_compression: OutputCompression | None = None,
        mode: Mode | None = None,
        threshold_bytes: int | str | None = None,
        chunk_bytes: int | str | None = None,
        groups: int | str | None = None,
        batch_rows: int | None = None,
        batch_bytes: int | None = None,
        mapping: Mapping[str, Any] | str | None = settings.AUTO,
        protector: ProtectorSpec | Mapping[str, Any] | None = None,
        rejects: Rejects | Mapping[str, Any] | None = None,
        deadline_seconds: float | None = None,
        on_exists: OnExists = "replace",
        metadata: Mapping[str, str] | None = None,
        extra_args: Mapping[str, Any] | None = None,
        on_existing: OnExisting = "resume",
        preview: bool | str = False,
        reads_in_flight: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            s3_key=s3_key,
            s3_bucket=s3_bucket,
            staging_uri=staging_uri,
            staging_extra_args=staging_extra_args,
            **kwargs,
        )
        self.target_key = target_key
        self.target_bucket = target_bucket
        self.version_id = version_id
        self.format = format
        self.options = options
        self.compression = compression
        self.output_format = output_format
        self.output_options = output_options
        self.output_compression = output_compression
        self.mode = mode
        self.threshold_bytes = threshold_bytes
        self.chunk_bytes = chunk_bytes
        self.groups = groups
        self.batch_rows = batch_rows
        self.batch_bytes = batch_bytes
        self.mapping = mapping
        self.protector = protector
        self.rejects = rejects
        self.deadline_seconds = deadline_seconds
        self.on_exists = on_exists
        self.metadata = metadata
        self.extra_args = extra_args
        self.on_existing = on_existing
        self.preview = preview
        self.reads_in_flight = reads_in_flight

    def execute(self, context: Context) -> list[int]:
        """Plan, and return the groups.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            check_choices(self, on_existing=OnExisting)
            preview = _flag("preview", self.preview)
            client = self.hook.conn
            staging = self.staging()
            source = source_of(self.s3_bucket, self.s3_key or "", self.version_id)
            target = target_of(
                self.target_bucket,
                self.target_key,
                on_exists=self.on_exists,
                metadata=dict(self.metadata or {}),
                extra_args=dict(self.extra_args or {}),
            )
            mapping = settings.mapping_of(client, source, self.mapping)
            config = settings.config_of(target, {**self._parameters(), "mapping": mapping})
            _check_map_length(config.groups)
            planned = plan_dispatch(
                client,
                source,
                config,
                staging,
                on_existing=self.on_existing,
                write=not preview,
                reads_in_flight=self.reads_in_flight,
            )
        summary = _summary(planned, staging)
        self._log(planned, summary, staging, preview=preview)
        context["ti"].xcom_push(key="summary", value=summary)
        return [] if preview else list(range(planned.plan.groups))

    def _parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in settings.PARAMETERS}

    def _log(self, planned: Planned, summary: dict[str, Any], staging: Staging, *, preview: bool) -> None:
        plan, cost = planned.plan, summary["estimate"]
        what = "preview of" if preview else "resuming" if planned.resumed else "planned"
        self.log.info(
            "%s %s: %d chunks of at most %.1f MiB in %d groups, %s boundaries, %d requests, %.2f MB read; %s",
            what,
            plan.source.uri,
            plan.chunks,
            cost["largest_chunk"] / MiB,
            plan.groups,
            "exact" if plan.exact else "assumed",
            planned.requests,
            planned.bytes_read / 1e6,
            staging.uri,
        )
        if preview:
            positions = [boundary.position for boundary in plan.boundaries]
            more = f" ... {positions[-1]}" if len(positions) > _SHOWN else ""
            self.log.info("boundaries: %s%s", " ".join(map(str, positions[:_SHOWN])), more)
            self.log.info(
                "on Lambda: %.0f GB-seconds, $%.4f; S3 requests $%.4f; %.1f s for the largest chunk",
                cost["gb_seconds"],
                cost["lambda_dollars"],
                cost["s3_dollars"],
                cost["seconds_per_chunk"],
            )


class ProcessChunksOperator(StagedOperator):
    """Process one group of a dispatch: read its chunks, protect, write their parts.

    Map it over the plan: ``ProcessChunksOperator.partial(...).expand(group=plan.output)``.

    **Delivery.** A try, a cleared task or a second run does only what the group lacks. Of two attempts at a
    chunk one wins; the other one's part is removed. A chunk that fails does not keep the rest of its group
    from being done. A task that is killed leaves the parts that are done, and at worst an open upload of one
    part, which a lifecycle rule ``AbortIncompleteMultipartUpload`` removes.

    **Memory.** ``chunks_in_flight`` times a few batches, whatever the size of the chunks.

    :param group: its number, one of what :class:`PlanDispatchOperator` returned.
    :param s3_key: see :class:`StagedOperator`, as for the other parameters that are not listed here.
    :param compute: where the work is done: ``"worker"``, in this task.
    :param secret_conn_ids: for a protector that needs a key: Airflow connections whose passwords they are, by
        the name that its spec uses. (templated)
    :param chunks_in_flight: chunks of the group at once, in threads.
    """

    template_fields: Sequence[str] = aws_template_fields(*STAGED, "group", "secret_conn_ids")
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        group: int | str,
        s3_key: str | None = None,
        s3_bucket: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        compute: Compute = "worker",
        secret_conn_ids: Mapping[str, str] | None = None,
        chunks_in_flight: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            s3_key=s3_key,
            s3_bucket=s3_bucket,
            staging_uri=staging_uri,
            staging_extra_args=staging_extra_args,
            **kwargs,
        )
        self.group = group
        self.compute = compute
        self.secret_conn_ids = secret_conn_ids
        self.chunks_in_flight = chunks_in_flight
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Process what the group lacks, and return its counts.

        :raises AirflowFailException: chunks failed, and would fail again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            check_choices(self, compute=Compute)
            staging = self.staging()
            plan = staging.load()
            group = _group_of(self.group, plan)
            receipt = process_group(
                self.hook.conn,
                staging,
                group,
                secrets=passwords(self.secret_conn_ids),
                lambda_client=lambda_client(plan, self._hook_parameters),
                attempt=f"try{context['ti'].try_number}",
                stop=lambda: self._killed,
                on_chunk=_GroupLog(self.log.info, len(plan.members(group))),
                in_flight=self.chunks_in_flight,
            )
        counts = plain_json(receipt.to_json())
        self.log.info(
            "group %d: %d chunks done, %d were done before, %d rows read, %d written, %.1f MB in %.1f s,"
            " peak memory %.0f MiB",
            group,
            receipt.chunks - receipt.doubtful,
            receipt.done_before,
            receipt.rows_in,
            receipt.rows_out,
            receipt.bytes_in / 1e6,
            receipt.seconds,
            receipt.peak_rss / MiB,
        )
        return dict(counts)

    def on_kill(self) -> None:
        """End after the batch that is worked on; its open upload is aborted."""
        self._killed = True


class MergePartsOperator(StagedOperator):
    """Prove that the parts are the whole source, and publish them as one object, copied by S3 itself.

    **Delivery.** The object appears by one conditional request, or not at all. Of two merges at once one
    publishes, and the other returns that it was done. On any error the staging directory stays, and the next
    try goes on. Chunks whose cut had been assumed wrongly are cut exactly and processed again, here.

    **Return value.** The receipt: ``uri``, ``rows_in``, ``rows_out``, ``rejected``, ``bytes``, ``etag``,
    checksums, ``copied_bytes`` and ``uploaded_bytes`` and more; never data. The events of the task's outlet
    assets carry the same.

    :param s3_key: see :class:`StagedOperator`, as for the other parameters that are not listed here.
    :param target_key: as in the plan: lets a try after a finished and cleaned up merge find that the work is
        done. (templated)
    :param target_bucket: its bucket, unless ``target_key`` has it. (templated)
    :param keep_staging: leave the staging directory, for :class:`CleanupDispatchOperator`.
    :param delete_input: remove the source in the end, if it still is the object that was read.
    :param copies_in_flight: server-side copies at once.
    :param secret_conn_ids: as for :class:`ProcessChunksOperator`, for chunks that are processed again.
        (templated)
    """

    operator_extra_links = (S3ObjectLink(),)
    template_fields: Sequence[str] = aws_template_fields(
        *STAGED, "target_key", "target_bucket", "secret_conn_ids"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        s3_key: str | None = None,
        s3_bucket: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        target_key: str | None = None,
        target_bucket: str | None = None,
        keep_staging: bool = False,
        delete_input: bool = False,
        copies_in_flight: int = 8,
        secret_conn_ids: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            s3_key=s3_key,
            s3_bucket=s3_bucket,
            staging_uri=staging_uri,
            staging_extra_args=staging_extra_args,
            **kwargs,
        )
        self.target_key = target_key
        self.target_bucket = target_bucket
        self.keep_staging = keep_staging
        self.delete_input = delete_input
        self.copies_in_flight = copies_in_flight
        self.secret_conn_ids = secret_conn_ids
        self._merging = False
        self._receipt: dict[str, Any] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Merge, and return the receipt.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            staging = self.staging()
            plan = staging.find()
            if plan is not None:
                self._link(context, plan.config.target.bucket, plan.config.target.key)
            owner, run = who(context)
            try:
                self._merging = True
                receipt = merge_parts(
                    self.hook.conn,
                    staging,
                    owner=owner,
                    run=run,
                    keep_staging=self.keep_staging,
                    delete_input=self.delete_input,
                    copies_in_flight=self.copies_in_flight,
                    secrets=passwords(self.secret_conn_ids),
                    lambda_client=lambda_client(plan, self._hook_parameters),
                    expected=self._expected(),
                )
            finally:
                self._merging = False
        found: dict[str, Any] = plain_json(receipt.to_json())
        self._receipt = found
        self.log.info("%s", _merged(found))
        publish_receipt(context, self.outlets, found)
        if found["uri"] is not None:
            collect_dispatch(self, found["source"]["uri"], found["uri"])
        return found

    def on_kill(self) -> None:
        """End now: the open upload is aborted and the lease is given back on the way out."""
        if self._merging:
            self._merging = False
            # called by the handler of SIGTERM, in the thread that merges: whatever it does is left
            raise Killed("the merge was told to end; the next one goes on")

    def _expected(self) -> tuple[Any, Any] | None:
        if not self.target_key or not self.s3_key:
            return None
        return source_of(self.s3_bucket, self.s3_key), target_of(self.target_bucket, self.target_key)

    def _link(self, context: Context, bucket: str, key: str) -> None:
        # before the merge: Airflow asks for the link of a failed task too
        S3ObjectLink.persist(
            context=context,
            operator=self,
            region_name=self.hook.conn_region_name,
            aws_partition=self.hook.conn_partition,
            bucket_name=bucket,
            key=key,
        )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """The source as input; the object with its row count and size as output."""
        return None if self._receipt is None else dispatch_lineage(self._receipt)


class CleanupDispatchOperator(StagedOperator):
    """Remove the staging directory of a dispatch, where the merge was told to keep it.

    :param s3_key: see :class:`StagedOperator`, as for the other parameters.
    :param when: ``"on_success"``: only if the target is there and was published by this dispatch, whatever
        the states of tasks say; ``"always"``: in any case, which throws away what is done of a dispatch that
        failed.
    """

    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        s3_key: str | None = None,
        s3_bucket: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        when: When = "on_success",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            s3_key=s3_key,
            s3_bucket=s3_bucket,
            staging_uri=staging_uri,
            staging_extra_args=staging_extra_args,
            **kwargs,
        )
        self.when = when

    def execute(self, context: Context) -> bool:  # noqa: ARG002 - the signature is Airflow's
        """Clean up; whether something was removed.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            check_choices(self, when=When)
            staging = self.staging()
            removed = clean_up(self.hook.conn, staging, when=self.when)
        self.log.info(
            "%s is %s", staging.uri, "removed" if removed else "kept, or was not there: nothing to clean up"
        )
        return removed


class _GroupLog:
    """Write a line about a group every few seconds."""

    def __init__(self, log: Any, total: int) -> None:
        self._log = log
        self._total = total
        self._done = self._rows = self._bytes = 0
        self._began = self._next = time.monotonic()

    def __call__(self, done: Done) -> None:
        """Told after each chunk."""
        self._done += 1
        self._rows += done.rows_in
        self._bytes += done.bytes_in
        now = time.monotonic()
        if now < self._next and self._done < self._total:
            return
        self._next = now + _PROGRESS_SECONDS
        self._log(
            "chunk %d done, %d of %d of this group in this try: %d rows, %.1f MB, %.1f MB/s",
            done.chunk,
            self._done,
            self._total,
            self._rows,
            self._bytes / 1e6,
            self._bytes / 1e6 / max(now - self._began, 1e-3),
        )


def _group_of(group: int | str, plan: Plan) -> int:
    try:
        number = int(group)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < plan.groups:
        raise ConfigError(
            f"group is {group!r}: the plan of {plan.source.uri} has groups 0 to {plan.groups - 1}; map over"
            " what the plan returned"
        )
    return number


def _flag(name: str, value: Any) -> bool:
    """A boolean, which a template gives as text."""
    if isinstance(value, str):
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
        if value.strip().lower() not in words:
            raise ConfigError(f"{name} is {value!r}: it must be true or false")
        return words[value.strip().lower()]
    return bool(value)


def _check_map_length(groups: int) -> None:
    # Airflow's own message names neither the limit nor its setting
    limit = conf.getint("core", "max_map_length", fallback=1024)
    if groups > limit:
        raise ConfigError(
            f"groups is {groups}, and Airflow maps over at most {limit} ([core] max_map_length): choose"
            " fewer; a group has any number of chunks"
        )


def _summary(planned: Planned, staging: Staging) -> dict[str, Any]:
    plan = planned.plan
    summary = {
        "staging_uri": staging.uri,
        "dispatch": plan.dispatch,
        "source": {"uri": plan.source.uri, "etag": plan.source.etag, "size": plan.source.size},
        "target": plan.config.target.uri,
        "format": plan.format,
        "output_format": plan.output.format,
        "chunks": plan.chunks,
        "groups": plan.groups,
        "chunk_bytes": plan.chunk_bytes,
        "exact": plan.exact,
        "resumed": planned.resumed,
        "requests": planned.requests,
        "bytes_read": planned.bytes_read,
        "estimate": estimate(plan).to_json(),
    }
    plain: dict[str, Any] = plain_json(msgspec.to_builtins(summary))
    return plain


def _merged(receipt: Mapping[str, Any]) -> str:
    source = receipt["source"]["uri"]
    if receipt["skipped"]:
        return f"the target of {source} exists already and is left alone: nothing was published"
    if receipt["already"]:
        return f"{receipt['uri']} had been published from {source} already"
    return (
        f"{receipt['uri']} is there, {receipt['bytes'] / 1e6:.1f} MB: {receipt['rows_out']} rows from"
        f" {receipt['rows_in']} of {source}, {receipt['rejected']} put aside; {receipt['chunks']} chunks,"
        f" {receipt['copied_bytes'] / 1e6:.1f} MB copied by S3, {receipt['uploaded_bytes'] / 1e6:.3f} MB"
        f" uploaded, {receipt['seconds']:.1f} s"
    )
