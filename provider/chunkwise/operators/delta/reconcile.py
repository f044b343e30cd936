"""What no event told of a Delta table: a comparison of what lies on S3 with its log, and its repair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.choices import check_bounds
from chunkwise.edge import permanent_fails_at_once, publish_receipt
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise.core.delta import Settings
    from chunkwise.core.delta.model import OnNanoseconds, OnOverwrite, SchemaPolicy
    from chunkwise.core.delta.reconcile import Repair


class ReconcileDeltaOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Compare what lies below the root of a Delta table with its log and its ledger; mend it if asked to.

    Notifications are no promise: queues are purged, configurations change, objects are deleted, overwritten
    and put back. Without ``repair`` nothing is written (a dry run). The differences:

    * ``missing``: the log has it and S3 has not, so that readers fail. Repair removes it from the table. Of a
      file that a compaction wrote, the difference has ``made_of`` and ``sources``: files that had its rows
      and are still there, until a vacuum. To get the rows back, copy these to other names, and add them.
    * ``stale``: another object (ETag, size) stands there than the log says. Repair as ``on_overwrite`` says.
    * ``orphan``: the table never had it. Repair adds it like an arrival, with a verdict.
    * ``pending``: one of the last two, and written within ``grace_minutes``. Left alone.
    * ``reused``: another object of the name of a file that was rewritten or deleted; it needs a new name.
    * ``unproven``: an orphan from before the log and the ledger began; its rows may live on in another file.
      Left alone; S3ParquetToDeltaOperator adds it with ``on_unproven="add"``, if you know better.

    A file that was compacted away is none of these, whether a vacuum has deleted it or not: it is counted as
    ``retired``. Nor is a file of a table below this one (``nested``) or beside it (``elsewhere``, as in
    shallow clones).

    **Delivery.** Every repair is decided again by the append that does it, on the table that its commit lands
    on: rows are added once, whatever other writers do meanwhile, and a task that was killed or runs twice
    goes on with what is left. **A writer that fails leaves orphans, too**, which have rows that another file
    has (an aborted compaction or overwrite): do not repair orphans where engines write into the same folders,
    or let ``suffix`` tell arrivals from their files. Chunkwise's own compactions, drains of queues and copies
    of exports mark theirs: such an orphan is told, and never added.

    **Cost.** One LIST request per 1,000 objects, one more per 1,000 differences, and reading the log. One GET
    for each file that is mended, one commit for 1,000 of them. One GET for the log entry of each missing file
    that a compaction wrote, and of ``max_reported`` others at most; one LIST for each of its first
    ``max_reported`` sources, of as many such files. Memory: some 400 bytes for each file that the table has
    and 40 for each that it ever had, however many objects and differences there are.

    **Return value.** Counts, bounded examples, and what was repaired; all differences go to ``report_uri``.
    Outlet assets get the same as the extra of their event; an outlet alias gets an event for the table if it
    has a new version, of all commits of this try together, and one for each commit of an earlier try, which
    Airflow told nobody of (of the newest 1,000 in the log): all in the form of
    :class:`~chunkwise.core.delta.news.News`.

    :param table_uri: ``s3://bucket/prefix`` of the table. (templated)
    :param repair: kinds of differences to mend, of ``"orphan"``, ``"stale"`` and ``"missing"``. (templated)
    :param suffix: of the objects that can be files of the table.
    :param grace_minutes: objects that were written since are pending. Let it be longer than events and
        commits take; S3 dates a multipart upload by its beginning.
    :param schema_policy: for orphans, see S3ParquetToDeltaOperator, as the following four.
    :param on_overwrite: see there.
    :param on_nanoseconds: see there.
    :param quarantine_uri: see there. (templated)
    :param checkpoint_every: see there.
    :param concurrency: footers that are read at a time.
    :param report_uri: ``s3://bucket/key`` of a full report, one JSON object per line. (templated)
    :param fail_on_differences: fail the task, after everything was done, if a difference is left that no
        waiting mends.
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
        (templated)
    :param max_reported: examples of each kind at most.
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "table_uri", "repair", "quarantine_uri", "report_uri", "s3_extra_args"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        table_uri: str,
        repair: Sequence[Repair] = (),
        suffix: str = ".parquet",
        grace_minutes: float = 60,
        schema_policy: SchemaPolicy = "fail",
        on_overwrite: OnOverwrite = "replace",
        on_nanoseconds: OnNanoseconds = "refuse",
        quarantine_uri: str | None = None,
        checkpoint_every: int = 10,
        concurrency: int = 16,
        report_uri: str | None = None,
        fail_on_differences: bool = False,
        s3_extra_args: Mapping[str, Any] | None = None,
        max_reported: int = 50,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table_uri = table_uri
        self.repair = repair
        self.suffix = suffix
        self.grace_minutes = grace_minutes
        self.schema_policy = schema_policy
        self.on_overwrite = on_overwrite
        self.on_nanoseconds = on_nanoseconds
        self.quarantine_uri = quarantine_uri
        self.checkpoint_every = checkpoint_every
        self.concurrency = concurrency
        self.report_uri = report_uri
        self.fail_on_differences = fail_on_differences
        self.s3_extra_args = s3_extra_args
        self.max_reported = max_reported

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare, mend what is to be mended, and return the counts.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        # here, not above: DAGs are parsed often, and a process that used deltalake must not fork
        from chunkwise.core.delta import Table, reconcile
        from chunkwise.core.delta.earlier import earlier_commits
        from chunkwise.core.delta.news import earlier_news

        with permanent_fails_at_once():
            check_bounds(self, "checkpoint_every", "concurrency", "grace_minutes", "max_reported")
            table, settings = Table.at(self.table_uri), self._settings(context)
            earlier = earlier_commits(self.hook.conn, table, settings)
            found = reconcile(
                self.hook.conn,
                table,
                repair=self.repair,
                settings=settings,
                suffix=self.suffix,
                grace=timedelta(minutes=self.grace_minutes),
                most=self.max_reported,
                report_uri=self.report_uri,
            )
            report: dict[str, Any] = plain_json(found.to_json())
            told = earlier_news(table.uri, earlier, "reconcile")
            if found.news is not None:
                told.append(found.news)
            publish_receipt(context, self.outlets, report, told)
            for verdict in report["repaired"]["not_repaired"]:
                self.log.warning("%s %s: %s", verdict["verdict"], verdict["uri"], verdict["detail"])
            found.check(fail_on_differences=self.fail_on_differences)
        return report

    def _settings(self, context: Context) -> Settings:
        from chunkwise.operators.delta.settings import policy_of, settings_of

        return settings_of(
            self.hook,
            context,
            policy_of(self),
            checkpoint_every=self.checkpoint_every,
            extra_args=self.s3_extra_args,
            concurrency=self.concurrency,
            quarantine_uri=self.quarantine_uri,
        )
