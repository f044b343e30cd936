"""The processor of the last chunk merges: a dispatch that nobody waits for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.model import MergeReceipt
from chunkwise.core.dispatch.process import Doubtful, process_chunk
from chunkwise.core.dispatch.staging import Staging, parse_state
from chunkwise.core.errors import DispatchNotFound, ObjectChanged
from chunkwise.core.storage import objects
from chunkwise.core.storage.objects import MAX_KEYS, Listed

log = logging.getLogger(__name__)


def all_reported(staging: Staging) -> bool:
    """Whether every chunk is done, or doubtful, which the merge finds out about.

    A processor deletes its manifest when its chunk is done, so that the manifests that are left are what is
    left to do. S3 lists what was written before: of two last processors at once at least one finds nothing
    left. One LIST where all is done, two where it is not.
    """
    left = list(islice(staging.list(f"{staging.prefix}manifests/"), MAX_KEYS))
    return len(left) < MAX_KEYS and all(_reported(staging, manifest) for manifest in left)


def merge_if_last(
    client: Any,
    staging: Staging,
    *,
    owner: str,
    run: str,
    attempt: tuple[int, str] | None = None,
    before: Callable[[], None] | None = None,
    stop: Callable[[], bool] | None = None,
    secrets: Mapping[str, str] | None = None,
    lambda_client: Any = None,
) -> MergeReceipt | None:
    """Merge, if the plan asks the last processor to, and every chunk has reported.

    Delivery: see :func:`~chunkwise.core.dispatch.merge.merge_parts`. Of several last ones at once one
    publishes, and the others find that it has been done.

    :param client: boto3 S3 client.
    :param owner: who merges, for whoever finds the lease.
    :param run: which run of it.
    :param attempt: chunk and name of the caller's own attempt: taken back if another last processor has
        cleaned up while it worked.
    :param before: called before the merge begins; may raise to leave it to somebody else.
    :param stop: for chunks that are processed again here.
    :param secrets: for the protector of these.
    :param lambda_client: the same.
    :return: ``None``: there is nothing to merge, yet or any more.
    :raises ChunkwiseError: see there.
    """
    if not all_reported(staging):
        return None
    plan = staging.find()
    if plan is None and attempt is not None:
        withdraw(staging, *attempt)
    if plan is None or plan.config.last_merge is None:
        return None
    if before is not None:
        before()

    def again(chunks: Sequence[int]) -> None:
        for chunk in chunks:
            try:
                process_chunk(client, staging, chunk, secrets=secrets, lambda_client=lambda_client, stop=stop)
            except Doubtful as error:
                log.warning("%s", error)

    log.info("all %d chunks in %s have reported: merging", plan.chunks, staging.uri)
    try:
        return merge_parts(
            client,
            staging,
            owner=owner,
            run=run,
            run_missing=again,
            keep_staging=plan.config.last_merge.keep_staging,
            delete_input=plan.config.last_merge.delete_input,
        )
    except DispatchNotFound:
        log.info("another last processor has merged and cleaned up %s", staging.uri)
        return None


def withdraw(staging: Staging, chunk: int, attempt: str) -> bool:
    """Take back what an attempt has left in a directory that was cleaned up while it worked.

    The same event may be delivered twice: of two attempts at the last chunk one is done first, merges and
    cleans up, and the other one is still at work.

    :return: whether the directory was cleaned up.
    """
    if staging.body(staging.plan_key) is not None:
        return False
    found = staging.done_of(chunk)
    if found is not None and found[0].attempt == attempt:
        done, etag = found
        with suppress(ObjectChanged):
            objects.delete(
                staging.client,
                staging.bucket,
                staging.done_key(chunk),
                if_match=etag,
                extra_args=staging.extra_args,
            )
        staging.delete(*(ref.key for ref in (done.part, done.quarantine) if ref is not None))
    staging.delete(
        staging.started_key(chunk, attempt),
        *(staging.failed_key(chunk, attempt, doubtful=doubtful) for doubtful in (False, True)),
    )
    return True


def _reported(staging: Staging, manifest: Listed) -> bool:
    """Whether the chunk of a manifest that is left has reported nevertheless."""
    name = manifest.key.rpartition("/")[2].removesuffix("manifest.json")
    latest = None
    for item in staging.list(f"{staging.state_prefix}{name}"):
        state = parse_state(item.key)
        if state is None:
            continue
        if state.kind == "done":
            return True  # its processor was killed before it deleted the manifest
        if latest is None or item.last_modified >= latest[0]:
            latest = item.last_modified, state.kind
    return latest is not None and latest[1] == "doubtful"
