"""What a Delta table is, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.choices import check_bounds
from chunkwise.edge import permanent_fails_at_once
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context


class DeltaMetadataOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Read what a Delta table is: its version, number of files, bytes and rows, metadata and protocol.

    It reads the log from its newest checkpoint on, and no file of the table. Nothing is written.

    **Return value.** ``uri``, ``version``, ``files``, ``bytes``, ``rows`` (``None`` where the log does not
    say it of every file), ``columns`` (how many), ``metadata`` (``id``, ``name``, ``description``,
    ``partition_columns``, ``schema``, ``configuration``, ``created_time``), ``protocol``, ``transactions``
    (last batch by source) and ``transactions_total``; never data. The schema has the first columns only where
    there are more than ``max_reported``: compare ``columns``.

    :param table_uri: ``s3://bucket/prefix`` of the table. (templated)
    :param max_reported: columns in ``schema``, fields within them included, and sources in ``transactions``
        at most; some 80 bytes for each.
    :param s3_extra_args: more arguments of the S3 calls, e.g. ``{"RequestPayer": "requester"}``. (templated)
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields("table_uri", "s3_extra_args")
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        table_uri: str,
        max_reported: int = 500,
        s3_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.table_uri = table_uri
        self.max_reported = max_reported
        self.s3_extra_args = s3_extra_args

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002 - the signature is Airflow's
        """Read.

        :raises AirflowFailException: there is no such table, or it cannot be read.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        from chunkwise.core.delta.census import delta_metadata
        from chunkwise.core.delta.places import Table

        with permanent_fails_at_once():
            check_bounds(self, "max_reported")
            info = delta_metadata(self.hook.conn, Table.at(self.table_uri), extra_args=self.s3_extra_args)
        found: dict[str, Any] = plain_json(info.to_json(most=self.max_reported))
        return found
