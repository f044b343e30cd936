"""The objects that an event of S3 names, in whatever envelope it comes."""

from __future__ import annotations

from typing import Any

from chunkwise.core.events import s3_records
from chunkwise.core.events.model import Ignored, ObjectCreated, Rejected
from chunkwise.core.events.parse import parse


def created(event: Any) -> tuple[list[ObjectCreated], list[str]] | None:
    """The objects that were written, and why each of the event's other parts names none.

    :return: ``None``: the event is of no known form.
    """
    found = parse(event)
    if not s3_records.is_event(event) and all(
        isinstance(one, Rejected) and not isinstance(one, Ignored) for one in found
    ):
        return None
    objects, rejected = [], []
    for number, one in enumerate(found):
        if isinstance(one, ObjectCreated):
            objects.append(one)
        elif isinstance(one, Rejected):
            rejected.append(one.reason)
        else:
            rejected.append(f"record {number} is {one.event!r}, not ObjectCreated")
    return objects, rejected
