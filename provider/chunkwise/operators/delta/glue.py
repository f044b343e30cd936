"""The Glue Data Catalog says of a Delta table what its log says, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chunkwise._aws import AwsBaseOperator, GlueCatalogHook, aws_template_fields
from chunkwise.edge import aws_client, permanent_fails_at_once, publish_receipt
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context

    from chunkwise.core.delta.glue import OnForeign


class DeltaToGlueOperator(AwsBaseOperator[GlueCatalogHook]):  # type: ignore[misc]  # amazon's are not typed
    """Create a Delta table in the Glue Data Catalog, or bring the one there to the table's schema.

    The catalog gets what Athena's own ``CREATE EXTERNAL TABLE`` writes for a native Delta table, without a
    query of Athena: real columns with those that it is partitioned by, the Delta schema, and the version that
    it was read from. Engines read the data by the log; the catalog's columns are what Lake Formation, views,
    filters and crawlers of metadata go by. Columns that the log has no more are removed; properties of
    others, description, owner, and what was written about columns in the catalog stay.

    **Delivery.** Any number of tasks, crawlers and people may write the same table: an update is refused by
    Glue where somebody was faster, and made anew from what is there then; no change is lost. A task that is
    killed or retried does no harm. An older reading of the log never replaces a newer one.

    **Cost.** The log, and one call of Glue where nothing changed, two where something did. No archived
    versions of the table are kept.

    **Permissions.** ``glue:GetTable``, ``glue:CreateTable`` and ``glue:UpdateTable`` on the catalog, the
    database and the table; ``glue:CreateDatabase`` for ``create_database``; ``glue:GetDatabase`` for
    ``compare_only``; of S3 ``s3:ListBucket`` for the table's prefix and ``s3:GetObject`` on its
    ``_delta_log/*`` and ``_chunkwise/ledger/*``. Under Lake Formation the task needs its permissions to
    create and alter tables, too.

    **Return value.** ``action`` (``"created"``, ``"updated"``, ``"unchanged"``), ``columns_added``,
    ``columns_removed``, ``columns_changed`` (the first 50 of each; ``columns_total`` has how many there are)
    and ``other_changes``, the table's ``version`` and names; never
    data. Outlet assets get the same as the extra of their event; an outlet alias gets an event of the table
    only if something changed.

    :param table_uri: ``s3://bucket/prefix`` of the Delta table. (templated)
    :param database: of the catalog. (templated)
    :param table: its name in the catalog; default: the last folder of ``table_uri``. Glue writes names in
        lower case. (templated)
    :param create_database: whether a database that is missing is made.
    :param on_foreign: what to do where the name belongs to something that is not this Delta table: ``"fail"``
        and say what it is, or ``"replace"`` its definition.
    :param catalog_id: account that has the catalog; default: the connection's. (templated)
    :param compare_only: only say what would be done.
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"RequestPayer": "requester"}``. (templated)
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = GlueCatalogHook
    template_fields: Sequence[str] = aws_template_fields(
        "table_uri", "database", "table", "catalog_id", "s3_extra_args"
    )
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        table_uri: str,
        database: str,
        table: str | None = None,
        create_database: bool = True,
        on_foreign: OnForeign = "fail",
        catalog_id: str | None = None,
        compare_only: bool = False,
        s3_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table_uri = table_uri
        self.database = database
        self.table = table
        self.create_database = create_database
        self.on_foreign = on_foreign
        self.catalog_id = catalog_id
        self.compare_only = compare_only
        self.s3_extra_args = s3_extra_args

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare and write, and return what changed.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        from chunkwise.core.delta.glue import sync
        from chunkwise.core.delta.glue_entry import Entry
        from chunkwise.core.delta.places import Table

        with permanent_fails_at_once():
            place = Table.at(self.table_uri)
            done = sync(
                self.hook.conn,
                aws_client("s3", self._hook_parameters),
                place,
                Entry.of(place, self.database, self.table, self.catalog_id),
                create_database=self.create_database,
                on_foreign=self.on_foreign,
                compare_only=self.compare_only,
                extra_args=self.s3_extra_args,
            )
        receipt: dict[str, Any] = plain_json(done.to_json())
        changed = receipt["action"] != "unchanged" and not self.compare_only
        publish_receipt(context, self.outlets, receipt, [receipt] if changed else [])
        return receipt
