"""A folder is compacted by one at a time."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Final

from chunkwise.core.compact.model import Options
from chunkwise.core.compacted import is_named
from chunkwise.core.errors import UploadFailed
from chunkwise.core.storage import Lease, abort_below
from chunkwise.core.storage.failures import CALL_ERRORS, reason

log = logging.getLogger(__name__)

#: readers pass over names that begin with an underscore
LOCK: Final = "_chunkwise/compact.lock"
_TTL: Final = 60.0
_REFUSED: Final[tuple[type[Exception], ...]] = (*CALL_ERRORS, UploadFailed)


class Held:
    """The lease of a folder, waited for.

    It saves work; what nobody may do twice is decided by names and conditions. Whoever takes it ends the
    uploads of outputs that others have left open, so that nobody who was suspended completes one later.

    :param client: boto3 S3 client.
    :param bucket: of the folder.
    :param folder: of outputs; a prefix with a slash at its end, or nothing.
    :param owner: who compacts, for whoever finds the lease (host, task).
    :param run: which run of it.
    """

    def __init__(self, client: Any, bucket: str, folder: str, options: Options, owner: str, run: str) -> None:
        self._client = client
        self._bucket = bucket
        self._folder = folder
        self._options = options
        self._lease = Lease(
            client, bucket, folder + LOCK, owner=owner, run=run, ttl=_TTL, extra_args=options.extra_args
        )

    def __enter__(self) -> Lease:
        self._lease.wait(look=self._look)
        try:
            self._end_uploads()
        except BaseException:
            self._lease.release()
            raise
        return self._lease

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.release()

    def _look(self) -> bool:
        self._options.ask()
        return True

    def _end_uploads(self) -> None:
        try:
            abort_below(
                self._client,
                self._bucket,
                f"{self._folder}compacted-",
                named=lambda key: is_named(key.removeprefix(self._folder)),
                extra_args=self._options.extra_args,
            )
        except _REFUSED as error:
            log.warning(
                "Uploads that an earlier run may have left open in s3://%s/%s were not ended: %s",
                self._bucket,
                self._folder,
                reason(error),
            )
