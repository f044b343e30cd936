"""Go on with a dispatch, wherever it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chunkwise.core.dispatch.cancel import go_on
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.model import Done, MergeReceipt
from chunkwise.core.dispatch.pages.job import Connect
from chunkwise.core.dispatch.pages.legs import grows
from chunkwise.core.dispatch.plan import repair
from chunkwise.core.dispatch.process import process_group
from chunkwise.core.dispatch.spec import Source, Target
from chunkwise.core.dispatch.staging import Staging


def resume(
    client: Any,
    staging: Staging,
    *,
    owner: str,
    run: str,
    secrets: Mapping[str, str] | None = None,
    lambda_client: Any = None,
    on_chunk: Callable[[Done], None] | None = None,
    in_flight: int = 1,
    keep_staging: bool = False,
    delete_input: bool = False,
    expected: tuple[Source | str, Target] | None = None,
    connect: Connect | None = None,
) -> MergeReceipt:
    """Process exactly the chunks that are missing, here, and merge.

    :param client: boto3 S3 client.
    :param staging: of the dispatch.
    :param owner: see :func:`~chunkwise.core.dispatch.merge.merge_parts`, as for all that is not named here.
    :param run: see there.
    :param on_chunk: called with each done record.
    :param in_flight: chunks at once, in threads.
    :raises ChunkwiseError: one of its kinds; what is done is kept.
    """
    plan = staging.find()
    if plan is not None:
        go_on(staging)
        missing = repair(staging, plan)
        groups = {chunk % plan.groups for chunk in missing}
        for group in sorted(groups | ({0} if grows(plan) else set())):
            process_group(
                client,
                staging,
                group,
                secrets=secrets,
                lambda_client=lambda_client,
                on_chunk=on_chunk,
                in_flight=in_flight,
                connect=connect,
            )
    return merge_parts(
        client,
        staging,
        owner=owner,
        run=run,
        secrets=secrets,
        lambda_client=lambda_client,
        keep_staging=keep_staging,
        delete_input=delete_input,
        expected=expected,
        connect=connect,
    )
