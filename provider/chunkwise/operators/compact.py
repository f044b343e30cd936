"""Many small Parquet files become few, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.choices import check_bounds, flag
from chunkwise.core.errors import ConfigError
from chunkwise.edge import permanent_fails_at_once, publish_receipt, who
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise.core.compact.earlier import Done
    from chunkwise.core.compact.model import Compacted, Options, Sources


class ParquetCompactOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Merge many small Parquet files into few of about ``target_bytes``: of a prefix, or of a Delta table.

    Files of different folders (``ds=2024-01-01/``), and of different columns or types, are never mixed, and
    their rows stay in the order of their keys. Where row groups are large (8 MiB on average), S3 copies them
    itself and only footers pass through the worker; smaller ones are read and written again as larger ones,
    in memory that does not depend on how many there are. The return value says which way, and why. Outputs
    keep codec, dictionaries, page indexes and metadata where their sources agree; row groups that are written
    anew have no bloom filters.

    **A prefix** (``prefix_uri``) has no transactions. With ``sources="keep"`` outputs go to another prefix
    (``output_uri``). With ``sources="delete"`` they may stand beside their sources, which are deleted once
    their output is published and its footer was read back: from one moment to the other *readers see rows
    twice*, but for readers of another ``output_uri``. An object that was overwritten since it was merged is
    left, and merged the next time. Delta, Iceberg and Hudi tables are refused.

    **A Delta table** (``table_uri``) gets one commit that puts new files in the place of the small ones and
    changes no row. The old files stay until a vacuum, for readers of earlier versions. Appends at the same
    time cost an attempt; a file that somebody else removed or rewrote meanwhile is left out. What arrived
    before and arrives again adds nothing, nor does an event of a new file. deltalake (1.6) must not overwrite
    or optimize the table at the same time: it ignores removes that change no data, and doubles or keeps rows,
    with its own compaction in our place as well.

    **Only what is settled** should be compacted (``min_age_minutes``, or a ``partition`` that is closed): a
    producer who deletes or overwrites a file of a table afterwards changes nothing in it, for its rows live
    on in another file.

    **Delivery.** Every row is there at least once at every moment, whatever is killed, retried or runs twice,
    and once at the end of a run. An output of a prefix is named by a digest of its sources and says in its
    footer which files it stands for: a repetition finds it, deletes what is left of them, and merges nothing
    twice, even if a producer writes a merged file again (which stays beside the output until its folder has
    files to merge). A folder is worked on by one task at a time. With ``sources="keep"`` the outputs are the
    only memory of what was merged: whoever moves or deletes them has everything merged again, and a source
    that is overwritten is a new file, whose rows come on top.

    **Cost of a prefix.** LIST requests: one per 1,000 objects below it; four for ``prefix_uri`` and for each
    folder above it, the bucket included, for that might be a table, and the same for ``output_uri``; for each
    folder with work one per 1,000 objects in it, and with ``output_uri`` one per 1,000 outputs of it; and if
    sources are deleted that have their outputs elsewhere, one for each folder with a single small file. A
    folder with work has three requests for its lease and open uploads, and one more for each 20 seconds of
    work; and each source is deleted by one.

    **Cost of a table.** Three listings of its log and ledger, and each log entry since the last checkpoint is
    read twice.

    **Cost of both.** One GET for each footer of a small file, or of an output in a folder with work, and one
    more for each file that is merged (several for those above 8 MiB); for each output four, in a table five,
    and those for its parts. A killed task may leave an open upload, which the next one aborts (in a table: a
    lifecycle rule), and in a table a file that no commit names, for a vacuum. A try after the first one lists
    what lies below the outputs' prefix, or the log, once more, and reads what was written since the run
    began: footers of outputs, or log entries, 1,000 at most.

    **Return value.** Counts, bytes before and after, bytes that passed through the worker or were copied by
    S3, each output with its way, the files that were not merged, with a reason, and what earlier tries did;
    never data. Outlet assets get the same as the extra of their event; an outlet alias gets an event for the
    prefix or the table if something was merged, in the form of
    :class:`~chunkwise.core.delta.news.News`: no row is new.

    **What an earlier try has merged** is told at least once, too. Airflow drops the events of a try that
    fails or is killed: the try that succeeds, after a retry or a clear, finds its commits in the log of a
    table, and its outputs below a prefix, whose footers name the task and its run. An outlet alias gets an
    event for each of these commits, or one for all of these outputs. An output that somebody else has merged
    again since is told by whoever did; one that was moved or deleted is told by nobody.

    :param prefix_uri: ``s3://bucket/prefix`` of a folder; folders below it belong to it. (templated)
    :param table_uri: ``s3://bucket/prefix`` of a Delta table, instead. (templated)
    :param partition: of the table: values of some or all partition columns; default: all. (templated)
    :param output_uri: ``s3://bucket/prefix`` for outputs, which keep their folders; default: beside their
        sources. (templated)
    :param sources: ``"keep"`` or ``"delete"`` the files of a prefix that were merged.
    :param target_bytes: of the sources of an output.
    :param small_bytes: smaller files are merged; default: half of ``target_bytes``.
    :param min_files: fewer are not merged.
    :param suffix: of the files of a prefix.
    :param pattern: glob of their whole key: ``*`` does not cross a ``/``, ``**`` does. (templated)
    :param min_age_minutes: files that were written since are left for the next time.
    :param row_group_bytes: of rows in memory that become a row group, where rows are written anew.
    :param join_row_group_bytes: average size from which on row groups are copied as they are.
    :param preview: look and decide only; the return value says what would be done. (templated)
    :param concurrency: footers that are read at a time, as far as the connections of the client go
        (``botocore_config={"max_pool_connections": 32}``).
    :param checkpoint_every: of a table, commits between two checkpoints; 0: none are written, and deltalake
        is not needed.
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param max_reported: outputs, sources of each, and files not merged that are named at most.
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "prefix_uri", "table_uri", "partition", "output_uri", "pattern", "preview", "s3_extra_args"
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"partition": "json", "s3_extra_args": "json"}
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        prefix_uri: str | None = None,
        table_uri: str | None = None,
        partition: Mapping[str, str | None] | None = None,
        output_uri: str | None = None,
        sources: Sources = "keep",
        target_bytes: int = 128 << 20,
        small_bytes: int | None = None,
        min_files: int = 2,
        suffix: str = ".parquet",
        pattern: str | None = None,
        min_age_minutes: float = 0,
        row_group_bytes: int = 64 << 20,
        join_row_group_bytes: int = 8 << 20,
        preview: bool | str = False,
        concurrency: int = 16,
        checkpoint_every: int = 10,
        s3_extra_args: Mapping[str, Any] | None = None,
        max_reported: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.prefix_uri = prefix_uri
        self.table_uri = table_uri
        self.partition = partition
        self.output_uri = output_uri
        self.sources = sources
        self.target_bytes = target_bytes
        self.small_bytes = small_bytes
        self.min_files = min_files
        self.suffix = suffix
        self.pattern = pattern
        self.min_age_minutes = min_age_minutes
        self.row_group_bytes = row_group_bytes
        self.join_row_group_bytes = join_row_group_bytes
        self.preview = preview
        self.concurrency = concurrency
        self.checkpoint_every = checkpoint_every
        self.s3_extra_args = s3_extra_args
        self.max_reported = max_reported

    def execute(self, context: Context) -> dict[str, Any]:
        """Merge, and return the counts.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            check_bounds(self, "checkpoint_every", "min_age_minutes", "max_reported")
            done, earlier = self._table(context) if self._is_table() else self._prefix(context)
            last = earlier[max(0, len(earlier) - self.max_reported) :]
            receipt: dict[str, Any] = plain_json(
                {
                    **done.to_json(most=self.max_reported),
                    "earlier": [one.to_json() for one in last],
                    "earlier_total": len(earlier),
                }
            )
            for one in receipt["not_merged"]:
                self.log.warning("%s %s: %s", one["reason"], one["uri"], one["detail"])
            told = [one.news for one in earlier]
            if done.news is not None:
                told.append(done.news)
            publish_receipt(context, self.outlets, receipt, told)
        return receipt

    def _is_table(self) -> bool:
        if bool(self.prefix_uri) == bool(self.table_uri):
            raise ConfigError("give either prefix_uri or table_uri").naming("prefix_uri", "table_uri")
        if self.prefix_uri:
            if self.partition:
                raise ConfigError("partition is for tables: name the folder by prefix_uri").naming(
                    "partition"
                )
            return False
        others = {
            "output_uri": self.output_uri,
            "pattern": self.pattern,
            "sources": self.sources != "keep",
        }
        for name, value in others.items():
            if value:
                raise ConfigError(
                    f"{name} is for prefixes: a table's log says which files it has, and a vacuum deletes"
                    " those that it has no more"
                ).naming(name)
        return True

    def _prefix(self, context: Context) -> tuple[Compacted, list[Done]]:
        # here, not above: DAGs are parsed often
        from chunkwise.core.compact.earlier import earlier_of_prefix
        from chunkwise.core.compact.prefix import compact_prefix
        from chunkwise.core.compact.where import Where
        from chunkwise.operators.delta.settings import tried_since, work_of

        assert self.prefix_uri is not None
        where = Where(
            uri=self.prefix_uri, output_uri=self.output_uri, sources=self.sources, pattern=self.pattern
        )
        options, preview = self._options(), flag("preview", self.preview)
        info, (owner, run) = work_of(context), who(context)
        earlier = earlier_of_prefix(self.hook.conn, where, info, tried_since(context), options)
        done = compact_prefix(
            self.hook.conn, where, options=options, preview=preview, owner=owner, run=run, info=info
        )
        return done, earlier

    def _table(self, context: Context) -> tuple[Compacted, list[Done]]:
        # here, not above: a process that used deltalake must not fork
        from chunkwise.core.compact.earlier import earlier_of_table
        from chunkwise.core.compact.table import compact_table
        from chunkwise.core.delta import Policy, Table
        from chunkwise.operators.delta.settings import settings_of

        assert self.table_uri is not None
        table, preview = Table.at(self.table_uri), flag("preview", self.preview)
        settings = settings_of(
            self.hook,
            context,
            Policy(),
            checkpoint_every=self.checkpoint_every,
            extra_args=self.s3_extra_args,
        )
        earlier = earlier_of_table(self.hook.conn, table, settings)
        done = compact_table(
            self.hook.conn,
            table,
            partition=self.partition,
            options=self._options(),
            settings=settings,
            preview=preview,
        )
        return done, earlier

    def _options(self) -> Options:
        from chunkwise.core.compact.model import Options

        return Options(
            target_bytes=self.target_bytes,
            small_bytes=self.small_bytes,
            min_files=self.min_files,
            suffix=self.suffix,
            min_age=timedelta(minutes=self.min_age_minutes),
            row_group_bytes=self.row_group_bytes,
            join_row_group_bytes=self.join_row_group_bytes,
            concurrency=self.concurrency,
            extra_args=self.s3_extra_args,
        )
