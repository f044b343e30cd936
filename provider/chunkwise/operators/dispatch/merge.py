"""Prove and publish, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chunkwise._aws import aws_template_fields
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.places import source_of, target_of
from chunkwise.core.errors import Killed
from chunkwise.edge import connect, lambda_client, passwords, permanent_fails_at_once, publish_receipt, who
from chunkwise.lineage import collect_dispatch, dispatch_lineage
from chunkwise.links.s3 import S3ObjectLink
from chunkwise.operators.dispatch.staged import StagedOperator
from chunkwise.staged import STAGED
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context


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
    :param dispatch: id of the dispatch, from the plan's summary: by it such a try recognises the object where
        the source is an API. (templated)
    :param keep_staging: leave the staging directory, for :class:`CleanupDispatchOperator`.
    :param delete_input: remove the source in the end, if it still is the object that was read.
    :param copies_in_flight: server-side copies at once.
    :param secret_conn_ids: as for :class:`ProcessChunksOperator`, for chunks that are processed again.
        (templated)
    """

    operator_extra_links = (S3ObjectLink(),)
    template_fields: Sequence[str] = aws_template_fields(
        *STAGED, "target_key", "target_bucket", "dispatch", "secret_conn_ids"
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
        dispatch: str | None = None,
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
        self.dispatch = dispatch
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
        with permanent_fails_at_once(self.secret_conn_ids):
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
                    connect=connect,
                )
            finally:
                self._merging = False
        found: dict[str, Any] = plain_json(receipt.to_json())
        self._receipt = found
        self.log.info("%s", _merged(found))
        publish_receipt(context, self.outlets, found)
        if found["uri"] is not None and "uri" in found["source"]:
            collect_dispatch(self, found["source"]["uri"], found["uri"])
        return found

    def on_kill(self) -> None:
        """End now: the open upload is aborted and the lease is given back on the way out."""
        if self._merging:
            self._merging = False
            # called by the handler of SIGTERM, in the thread that merges: whatever it does is left
            raise Killed("the merge was told to end; the next one goes on")

    def _expected(self) -> tuple[Any, Any] | None:
        if self.dispatch and self.target_key:
            return self.dispatch, target_of(self.target_bucket, self.target_key)
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


def _merged(receipt: Mapping[str, Any]) -> str:
    source = receipt["source"].get("uri", "its source")
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
