"""What a processor is told to work on: references to manifests, never config or data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from chunkwise.aws_lambda import arrived
from chunkwise.core.errors import ConfigError
from chunkwise.core.events.model import ObjectCreated

_KEY: Final = re.compile(r"(?P<prefix>.+/)manifests/chunk_(?P<chunk>[0-9]{4})\.manifest\.json", re.DOTALL)
_ATTEMPT: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SCHEME: Final = "s3://"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """One chunk.

    :param bucket: of the staging directory.
    :param prefix: of the staging directory, with a slash at its end.
    :param chunk: number, from 0.
    :param attempt: name of the attempt; ``None``: one of the processor's own.
    :param announced: by an S3 event: the manifest was there when it was sent.
    """

    bucket: str
    prefix: str
    chunk: int
    attempt: str | None = None
    announced: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"chunk {self.chunk} of s3://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What an event asks for.

    :param references: the chunks.
    :param rejected: why each of the other records is none.
    :param single: whether the answer is that of one chunk.
    """

    references: tuple[Reference, ...]
    rejected: tuple[str, ...] = ()
    single: bool = False


def read(event: Any) -> Asked:
    """The chunks that an event names: ``{"manifest": uri, "attempt": name}``, ``{"manifests": [...]}`` of
    these, or the S3 ObjectCreated event of manifests, in any envelope.

    :raises ConfigError: it is none of these, or names no manifest.
    """
    if isinstance(event, Mapping) and "manifest" in event:
        return Asked(references=(_reference(event, "the event"),), single=True)
    if isinstance(event, Mapping) and isinstance(event.get("manifests"), list) and event["manifests"]:
        references = [_reference(one, f"manifests[{at}]") for at, one in enumerate(event["manifests"])]
        return Asked(references=tuple(references))
    found = arrived.created(event)
    if found is not None:
        return _of_event(*found)
    raise ConfigError(
        'the event must be {"manifest": "s3://..."}, {"manifests": [...]} or an S3 ObjectCreated event of'
        " manifests, directly or by way of EventBridge, SQS or SNS; this one is none of these"
    )


def _of_event(created: list[ObjectCreated], others: list[str]) -> Asked:
    references, rejected = [], list(others)
    for record in created:
        match = _KEY.fullmatch(record.key)
        if match is None:
            rejected.append(
                f"{record.uri} is no manifest: filter the notification by the suffix .manifest.json"
            )
            continue
        references.append(
            Reference(bucket=record.bucket, prefix=match["prefix"], chunk=int(match["chunk"]), announced=True)
        )
    return Asked(references=tuple(references), rejected=tuple(rejected))


def _reference(value: Any, name: str) -> Reference:
    uri = value.get("manifest") if isinstance(value, Mapping) else value
    attempt = value.get("attempt") if isinstance(value, Mapping) else None
    if not isinstance(uri, str) or not uri.startswith(_SCHEME):
        raise ConfigError(f"{name}: manifest must be s3://bucket/.../manifests/chunk_0000.manifest.json")
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    match = _KEY.fullmatch(key)
    if not bucket or match is None:
        raise ConfigError(
            f"{name}: {uri} is not of the form s3://bucket/.../manifests/chunk_0000.manifest.json"
        )
    if attempt is not None and (not isinstance(attempt, str) or not _ATTEMPT.fullmatch(attempt)):
        raise ConfigError(f"{name}: attempt must be 1 to 100 letters, digits, '-' or '_'")
    return Reference(bucket=bucket, prefix=match["prefix"], chunk=int(match["chunk"]), attempt=attempt)
