"""Put files on record that can never be added as they are, so that nobody must ask for them again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from chunkwise.core.delta.model import Verdict
from chunkwise.core.delta.places import Table
from chunkwise.core.errors import ObjectExists
from chunkwise.core.storage import objects

_KINDS = ("rejected", "schema_too_new")


def put_on_record(
    client: Any, uri: str, verdicts: Sequence[Verdict], *, extra_args: Mapping[str, Any] | None = None
) -> list[Verdict]:
    """Write one small object for each rejected file: its URI and why, no data. The file stays where it is.

    The name of the object is made from the file's URI and the reason, so that a file that comes again is not
    written again.

    :param uri: ``s3://bucket/prefix`` below which they are written.
    :return: the verdicts, ``quarantined`` where they were.
    :raises ConfigError: ``uri`` is none.
    :raises StorageError: S3 refuses.
    """
    place = Table.at(uri)
    found = []
    for verdict in verdicts:
        if verdict.kind not in _KINDS:
            found.append(verdict)
            continue
        note = {
            "uri": verdict.uri,
            "verdict": verdict.kind,
            "reason": verdict.reason,
            "detail": verdict.detail,
        }
        body = msgspec.json.encode(note)
        name = hashlib.blake2b(body, digest_size=16).hexdigest()
        with contextlib.suppress(ObjectExists):  # it was put on record before
            objects.put_new(client, place.bucket, place.key(f"{name}.json"), body, extra_args=extra_args)
        found.append(replace(verdict, kind="quarantined"))
    return found
