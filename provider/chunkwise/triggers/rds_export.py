"""Wait for an export of RDS or Aurora in the triggerer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

# aiohttp's own errors come from the body of an answer: everything before it is botocore's
from aiohttp import ClientError as BrokenAnswer
from airflow.triggers.base import TriggerEvent

from chunkwise._aws import RdsHook, S3Hook, async_client
from chunkwise.core.errors import RdsExportError
from chunkwise.core.rds_export import look_async
from chunkwise.core.rds_export.completeness import looking
from chunkwise.core.storage.polling import Patience
from chunkwise.triggers._aws import AwsTrigger


class RdsExportTrigger(AwsTrigger):
    """Poll an export until it is complete, or cannot become so.

    It only looks: it may run twice or start again at any time without harm. One client of RDS and one of S3
    serve all its polls. A poll is one DescribeExportTasks; once the task is complete it is also a listing of
    the export (one LIST per 1,000 files) and one GET for each info file. It yields one event:
    ``{"status": "complete", "report": {...}}``, or ``{"status": "error", "error": ..., "message": ...}``
    with the name of one of Chunkwise's errors.

    A poll that fails for a reason that may pass (no connection, throttling, 5xx) is tried again with the next
    one, five times in a row at most; any other failure ends the trigger, and so the try of its task.

    :param export_task_identifier: of the task.
    :param tables: that must be whole; ``None``: all that the task exports.
    :param grace: seconds after the end of the task from when on something missing is an error.
    :param extra_args: more arguments of the S3 calls.
    :param poll_interval: seconds between two polls.
    :param connection: see :class:`~chunkwise.triggers._aws.AwsTrigger`.
    """

    def __init__(
        self,
        *,
        export_task_identifier: str,
        tables: Sequence[str] | None = None,
        grace: float = 900.0,
        extra_args: Mapping[str, Any] | None = None,
        poll_interval: float = 60.0,
        **connection: Any,
    ) -> None:
        super().__init__(**connection)
        self.export_task_identifier = export_task_identifier
        self.tables = None if tables is None else list(tables)
        self.grace = grace
        self.extra_args = dict(extra_args or {})
        self.poll_interval = poll_interval

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, and yield once."""
        async with (
            await async_client(RdsHook(**self.connection())) as rds,
            await async_client(S3Hook(**self.connection())) as s3,
        ):
            yield await self._wait(rds, s3)

    async def _wait(self, rds: Any, s3: Any) -> TriggerEvent:
        patience = Patience(f"export {self.export_task_identifier}", broken=(BrokenAnswer,))
        while True:
            one = looking(self.export_task_identifier, tables=self.tables, grace=self.grace)
            try:
                found = await look_async(one, rds=rds, s3=s3, extra_args=self.extra_args)
            except RdsExportError as error:
                return TriggerEvent({"status": "error", "error": type(error).__name__, "message": str(error)})
            except patience.errors as error:
                patience.failed(error)
            else:
                patience.fine()
                self.log.info("%s", found.line)
                if found.report is not None:
                    return TriggerEvent({"status": "complete", "report": found.report.to_json()})
            await asyncio.sleep(self.poll_interval)
