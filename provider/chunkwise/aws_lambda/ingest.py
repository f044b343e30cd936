"""The processor of a paged API: one range of its pages, or one leg of a cursor run.

It is the processor of :mod:`chunkwise.aws_lambda.processor`: a manifest says what its chunk is, so one
function may serve both. Its answer also says whether the API goes on.
"""

from __future__ import annotations

from typing import Any

from chunkwise.aws_lambda import clients, environment, processor
from chunkwise.aws_lambda.durable import durable
from chunkwise.aws_lambda.references import read
from chunkwise.core.dispatch.staging import Staging


@durable
def handler(event: Any, context: Any) -> dict[str, Any]:
    """Ingest what the event names, see :func:`chunkwise.aws_lambda.processor.handler`.

    **Cursor runs.** A leg ends with a page, when it has had its share or a fifth of the function's time is
    left, and whichever comes first. Its done record holds the next cursor, which no answer and no log does,
    and the manifest of the next leg is there by then: who waits for the chunk invokes the function for it,
    or the manifest's own event does.

    **Credentials** come from ``CHUNKWISE_SECRETS``, by the name that the plan has for the API's connection:
    the JSON of an Airflow HTTP connection, with its host. They are sent to that origin only.

    :return: as the processor's; of one manifest with ``"next"``: whether another leg follows it.
    :raises ChunkwiseError: see there.
    """
    answer: dict[str, Any] = processor.handler(event, context)
    if answer.get("state") != "done":
        return answer
    reference = read(event).references[0]
    extra_args = environment.settings().staging_extra_args
    staging = Staging(clients.s3(), reference.bucket, reference.prefix, extra_args)
    found = staging.done_of(reference.chunk)
    pages = None if found is None else found[0].pages
    return {**answer, "next": pages is not None and pages.next is not None}
