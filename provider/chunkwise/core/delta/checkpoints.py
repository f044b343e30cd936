"""Delta's own checkpoints, and the clean-up of its log, by deltalake.

deltalake is imported where it is used: a process that has used it must not fork, and whoever only parses DAGs
must not load it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from chunkwise.core.delta.maintain import Checkpointer
from chunkwise.core.errors import ConfigError

log = logging.getLogger(__name__)

#: put_object's names of how an object is kept, and object_store's
_KEEPING: Final = {
    "ServerSideEncryption": "aws_server_side_encryption",
    "SSEKMSKeyId": "aws_sse_kms_key_id",
    "BucketKeyEnabled": "aws_sse_bucket_key_enabled",
}

Options = dict[str, str]


def storage_options(client: Any, credentials: Any, *, extra_args: Mapping[str, Any] | None = None) -> Options:
    """What deltalake needs to reach S3 as a boto3 client does.

    :param client: boto3 S3 client: its endpoint and region.
    :param credentials: frozen ones of botocore; ``None``: the environment's.
    :param extra_args: as for ``put_object``; those that say how an object is encrypted are kept.
    """
    options: Options = {}
    endpoint = client.meta.endpoint_url
    if client.meta.region_name:
        options["aws_region"] = client.meta.region_name
    if endpoint and ".amazonaws.com" not in endpoint:
        options["aws_endpoint_url"] = endpoint
        if endpoint.startswith("http://"):
            options["aws_allow_http"] = "true"
    if credentials is not None:
        options["aws_access_key_id"] = credentials.access_key
        options["aws_secret_access_key"] = credentials.secret_key
        if credentials.token:
            options["aws_session_token"] = credentials.token
    for name, value in (extra_args or {}).items():
        if name in _KEEPING:
            options[_KEEPING[name]] = str(value).lower() if isinstance(value, bool) else str(value)
    return options


def checkpointer(options: Callable[[], Options]) -> Checkpointer:
    """Writes checkpoints.

    :param options: gives deltalake's storage options, when they are needed: credentials expire.
    """

    def write(uri: str, version: int) -> None:
        open_table(uri, options(), version=version).create_checkpoint()
        log.info("Wrote the checkpoint of version %d of %s", version, uri)

    return write


def open_table(uri: str, options: Mapping[str, str], *, version: int | None = None) -> Any:
    """A table for deltalake.

    :raises ConfigError: deltalake is not installed.
    """
    try:
        from deltalake import DeltaTable
    except ImportError:
        raise ConfigError("Delta needs deltalake: install airflow-provider-chunkwise[delta]") from None
    return DeltaTable(uri, version=version, storage_options=dict(options))


def clean_log(uri: str, options: Mapping[str, str]) -> None:
    """Delete log entries that are older than the table's ``delta.logRetentionDuration`` (30 days) and lie
    before its last checkpoint. For a task of its own, now and then: it lists the whole log.
    """
    open_table(uri, options).cleanup_metadata()
