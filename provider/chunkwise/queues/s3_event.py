"""S3 notifications for Airflow's ``MessageQueueTrigger``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.messaging.providers.base_provider import BaseMessageQueueProvider

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger


class S3EventMessageQueueProvider(BaseMessageQueueProvider):
    """``MessageQueueTrigger(scheme="s3+sqs", sqs_queue=..., prefix="landing/")``.

    The arguments are those of :class:`~chunkwise.triggers.s3_event.S3EventTrigger`, which it becomes.
    """

    scheme = "s3+sqs"

    def trigger_class(self) -> type[BaseEventTrigger]:
        """What ``MessageQueueTrigger`` becomes."""
        from chunkwise.triggers.s3_event import S3EventTrigger

        return S3EventTrigger

    def scheme_matches(self, scheme: str) -> bool:
        """Whether this is ours."""
        return scheme == self.scheme

    def queue_matches(self, queue: str) -> bool:  # noqa: ARG002 - the signature is Airflow's
        """Never: URLs of SQS queues are amazon's provider's."""
        return False
