"""Cut a file into chunks, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec
from airflow.sdk import conf

from chunkwise._aws import aws_template_fields
from chunkwise.core.choices import check_choices, flag
from chunkwise.core.dispatch import settings
from chunkwise.core.dispatch.estimate import estimate
from chunkwise.core.dispatch.places import source_of, target_of
from chunkwise.core.dispatch.plan import Planned, plan_dispatch
from chunkwise.core.dispatch.spec import Mode, OnExisting, OutputCompression, OutputFormat, Rejects
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.storage import OnExists
from chunkwise.core.units import MiB
from chunkwise.edge import permanent_fails_at_once
from chunkwise.operators.dispatch.staged import StagedOperator
from chunkwise.staged import STAGED
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

#: boundaries that a preview writes to the log
_SHOWN: Final = 20


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
            preview = flag("preview", self.preview)
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
            check_map_length(config.groups)
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


def check_map_length(groups: int) -> None:
    """:raises ConfigError: Airflow cannot map over so many groups."""
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
        "source": {"uri": plan.source.uri, "etag": plan.source.etag, "size": plan.object.size},
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
