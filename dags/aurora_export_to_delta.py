"""A daily export of an Aurora cluster to S3 becomes one partition of a Delta table for each of its tables.

``aurora_export_to_delta`` starts the export, waits until every file of it is there, copies the files on the
server side to ``{table}/ds=YYYY-MM-DD/`` and commits each table in a task of its own. A second run for the
same day changes nothing; another export of the same day takes the place of the first, in one commit per
table. ``on_exported_table`` runs when tables are complete.

It needs the extra ``delta``, the connection ``aws_default``, and what RDS needs for exports: a bucket in the
region of the cluster, a role that RDS may take to write there, and a KMS key which that role, and whoever
copies, may use.

What to know of the amazon provider's operator that starts the export:

* By default it waits in the worker, 20 minutes at most, and then fails while the export goes on; it counts
  neither skipped tables nor files. ``wait_for_completion=False``, and the sensor does the rest.
* A name can be used once per account and region, for ever: a second start is an error. That is why it is
  skipped where the export is there already, so that a run can be cleared.
* Names have letters, digits and single hyphens only, 60 at most, and begin with a letter.
* Five exports may run at once in an account; a partial one (``export_only``) costs as much as a whole one.
* Tables with a slash in their name, or with ``,;{}()=`` or a space in that of a column, are skipped without
  an error: the sensor names them.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.amazon.aws.hooks.rds import RdsHook
from airflow.providers.amazon.aws.operators.rds import RdsStartExportTaskOperator
from airflow.sdk import DAG, AssetAlias, task

from chunkwise.operators.rds_export import RdsExportToDeltaOperator, RelayoutRdsExportOperator
from chunkwise.sensors.rds_export import RdsExportSensor

BUCKET = os.environ.get("CHUNKWISE_BUCKET", "chunkwise-demo")
ACCOUNT = os.environ.get("CHUNKWISE_ACCOUNT", "123456789012")
REGION = os.environ.get("CHUNKWISE_REGION", "us-east-1")
CLUSTER = os.environ.get("CHUNKWISE_CLUSTER", "shop")

# A name of its own for each day, also of runs without a logical date. An export that failed needs another
# one: start a run with the configuration {"export": "shop-2024-03-01-again"}.
EXPORT = f"{{{{ (dag_run.conf or {{}}).get('export') or '{CLUSTER}-' ~ (dag_run.run_after | ds) }}}}"
TABLES = AssetAlias("exported_tables")

with DAG(
    "aurora_export_to_delta",
    schedule="0 3 * * *",
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
    tags=["chunkwise"],
):

    @task.short_circuit(ignore_downstream_trigger_rules=False)
    def is_new(export: str) -> bool:
        """Whether the export must be started: not by a run that is repeated."""
        client = RdsHook(aws_conn_id="aws_default").conn
        try:
            return not client.describe_export_tasks(ExportTaskIdentifier=export)["ExportTasks"]
        except client.exceptions.ExportTaskNotFoundFault:
            return True

    start = RdsStartExportTaskOperator(
        task_id="start",
        export_task_identifier=EXPORT,
        source_arn=f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:{CLUSTER}",
        s3_bucket_name=BUCKET,
        s3_prefix="exports",
        iam_role_arn=f"arn:aws:iam::{ACCOUNT}:role/rds-export",
        kms_key_id=f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/rds-export",
        wait_for_completion=False,
        # Its answer may have been lost: the check before it finds the export, and a second start fails.
        retries=0,
    )

    complete = RdsExportSensor(
        task_id="complete",
        export_task_identifier=EXPORT,
        poke_interval=60,
        timeout=timedelta(hours=12).total_seconds(),
        # Also where nothing was started.
        trigger_rule="none_failed",
    )

    relayout = RelayoutRdsExportOperator(
        task_id="relayout",
        export=complete.output,
        target_uri=f"s3://{BUCKET}/aurora",
    )

    @task
    def tables(relayouted: dict[str, Any]) -> list[dict[str, Any]]:
        """References, one for each table."""
        return relayouted["tables"]

    commit = RdsExportToDeltaOperator.partial(task_id="commit", outlets=[TABLES]).expand(
        table=tables(relayout.output)
    )

    is_new(EXPORT) >> start >> complete


with DAG(
    "on_exported_table",
    schedule=[TABLES],
    start_date=datetime(2023, 12, 1, tzinfo=UTC),
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    tags=["chunkwise"],
):

    @task
    def news(triggering_asset_events: Any = None) -> list[str]:
        """One event for each table that is complete; a run may have several of one table."""
        return [
            f"{event.extra['table']} of {event.extra['export']}: {event.extra['files']} files, "
            f"in {event.extra['uri']} at version {event.extra['version']}"
            for events in triggering_asset_events.values()
            for event in events
        ]

    news()
