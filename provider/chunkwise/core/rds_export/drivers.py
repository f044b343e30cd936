"""Looks at an export through boto3, in a worker, and through aiobotocore, in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from chunkwise.core.errors import ExportDamaged
from chunkwise.core.rds_export.completeness import Ask, Describe, ListPage, Look, Looking
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.failures import CALL_ERRORS, code_of, status_of
from chunkwise.core.storage.listing import read_quickly
from chunkwise.core.storage.objects import server_time
from chunkwise.core.units import MiB

#: a few thousand tables with all their columns
_LARGEST_INFO: Final = 128 * MiB
#: what RDS says of a task that it does not know
_UNKNOWN: Final = frozenset({"ExportTaskNotFound", "ExportTaskNotFoundFault"})


def look(looking: Looking, *, rds: Any, s3: Any, extra_args: Mapping[str, Any] | None = None) -> Look:
    """Answer a look by boto3 clients.

    :param rds: client of RDS.
    :param s3: client of S3.
    :param extra_args: more arguments of the S3 calls.
    :raises RdsExportError: see :func:`~chunkwise.core.rds_export.completeness.looking`.
    """
    arguments = CallArguments(s3, extra_args)
    answer: Any = None
    while True:
        try:
            ask = looking.send(answer)
        except StopIteration as end:
            found: Look = end.value
            return found
        try:
            given = _client_of(ask, rds, s3, arguments)
            answer = _answer(ask, given)
            if "Body" in given:
                with given["Body"] as stream:
                    answer = stream.read()
        except CALL_ERRORS as error:
            answer = _none_of(ask, error)


async def look_async(
    looking: Looking, *, rds: Any, s3: Any, extra_args: Mapping[str, Any] | None = None
) -> Look:
    """The same by aiobotocore clients, without holding up the event loop.

    :param rds: client of RDS.
    :param s3: client of S3.
    """
    read_quickly(s3)
    arguments = CallArguments(s3, extra_args)
    answer: Any = None
    while True:
        # info files of many tables take a moment to decode
        ask = await asyncio.to_thread(_step, looking, answer)
        if isinstance(ask, Look):
            return ask
        try:
            given = await _client_of(ask, rds, s3, arguments)
            answer = _answer(ask, given)
            if "Body" in given:
                async with given["Body"] as stream:
                    answer = await stream.read()
        except CALL_ERRORS as error:
            answer = _none_of(ask, error)


def _step(looking: Looking, answer: Any) -> Ask | Look:
    try:
        return looking.send(answer)
    except StopIteration as end:
        found: Look = end.value
        return found


def _client_of(ask: Ask, rds: Any, s3: Any, arguments: CallArguments) -> Any:
    """What the client's method for an ask returns."""
    match ask:
        case Describe():
            return rds.describe_export_tasks(ExportTaskIdentifier=ask.export)
        case ListPage():
            token = {} if ask.token is None else {"ContinuationToken": ask.token}
            return s3.list_objects_v2(
                Bucket=ask.bucket, Prefix=ask.prefix, **token, **arguments.of("ListObjectsV2")
            )
        case _:
            return s3.get_object(Bucket=ask.bucket, Key=ask.key, **arguments.of("GetObject"))


def _answer(ask: Ask, given: Any) -> Any:
    if isinstance(ask, Describe):
        return given, server_time(given) or datetime.now(UTC)
    if not isinstance(ask, ListPage) and int(given["ContentLength"]) > _LARGEST_INFO:
        raise ExportDamaged(
            f"s3://{ask.bucket}/{ask.key} has {given['ContentLength']} bytes: too many for an info file"
        )
    return given


def _none_of(ask: Ask, error: Exception) -> Any:
    """Nothing, where the error says that nothing is there.

    :raises Exception: the error, if it says something else.
    """
    if isinstance(ask, Describe) and code_of(error) in _UNKNOWN:
        return None, datetime.now(UTC)
    if not isinstance(ask, Describe | ListPage) and status_of(error) == 404 and code_of(error) == "NoSuchKey":
        return None
    raise error
