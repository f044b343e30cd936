"""Remove what a dispatch left, as a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chunkwise.core.choices import check_choices
from chunkwise.core.dispatch.finish import When, clean_up
from chunkwise.edge import permanent_fails_at_once
from chunkwise.operators.dispatch.staged import StagedOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


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
