"""What the adapters of Airflow have in common: errors, secrets, clients and receipts at the edge of core."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import requests
from airflow.providers.common.compat.sdk import AirflowFailException, BaseHook
from airflow.sdk import Asset, AssetAlias

from chunkwise._aws import AwsBaseHook
from chunkwise.core.dispatch.model import Plan
from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.errors import ChunkwiseError, ConfigError, SecretRejected
from chunkwise.hooks.http import PagedApiHook

if TYPE_CHECKING:
    from chunkwise.core.delta.news import News

#: AWS Lambda quotas: a synchronous call may take 900 seconds. No retries in the client, which would run the
#: function again behind our back: who calls retries.
_LAMBDA_CONFIG: Final = {
    "connect_timeout": 10,
    "read_timeout": 910,
    # calls that a protector has in flight, times the chunks of a task
    "max_pool_connections": 50,
    "tcp_keepalive": True,
    "retries": {"total_max_attempts": 1},
}


@contextmanager
def permanent_fails_at_once(secret_conn_ids: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn an error that another try cannot mend into Airflow's "fail without a retry".

    :param secret_conn_ids: of the task: an error about a secret names the connection that has it.
    :raises AirflowFailException: nothing would change if it were tried again.
    :raises ChunkwiseError: it may pass if it is tried again.
    """
    try:
        yield
    except ChunkwiseError as error:
        if error.transient:
            raise
        place = ""
        if isinstance(error, SecretRejected):
            conn_id = (secret_conn_ids or {}).get(error.secret)
            place = (
                f"; secret_conn_ids names no connection for {error.secret!r}"
                if conn_id is None
                else f"; it is the password of connection {conn_id!r}"
            )
        raise AirflowFailException(f"{type(error).__name__}: {error}{place}") from error


def passwords(conn_ids: Mapping[str, str] | None) -> dict[str, str]:
    """The passwords of Airflow connections.

    :param conn_ids: connection ids by the name under which the secret is needed.
    :raises ConfigError: a connection has no password.
    """
    secrets = {}
    for name, conn_id in (conn_ids or {}).items():
        password = BaseHook.get_connection(conn_id).password
        if not password:
            raise ConfigError(f"connection {conn_id!r} has no password to use as the secret {name!r}")
        secrets[name] = password
    return secrets


def connect(source: ApiSource) -> requests.Session:
    """Open a session for the API of a dispatch, with the Airflow connection that its plan names.

    :raises ConfigError: the connection is of another origin than the plan's URL, which must not see its
        credentials.
    """
    api = PagedApiHook(source.connection).get_conn()
    try:
        api.url(source.url)
    except ConfigError:
        api.session.close()
        raise
    return api.session


def lambda_client(plan: Plan | None, aws: Mapping[str, Any]) -> Any:
    """A client for a protector that is a Lambda function; ``None`` if there is none.

    :param plan: of the dispatch.
    :param aws: arguments of an AWS hook.
    """
    protector = None if plan is None else plan.config.protector
    if protector is None or protector.name != "lambda":
        return None
    from botocore.config import Config

    config = Config(**_LAMBDA_CONFIG)
    own = aws.get("config")
    if own:
        config = config.merge(own if isinstance(own, Config) else Config(**own))
    return aws_client("lambda", {**aws, "config": config})


def aws_client(service: str, aws: Mapping[str, Any]) -> Any:
    """A boto3 client with the connection of a task.

    :param service: e.g. ``"lambda"``.
    :param aws: arguments of an AWS hook.
    """
    return AwsBaseHook(**aws, client_type=service).conn


def publish_receipt(
    context: Any,
    outlets: Sequence[Any],
    receipt: dict[str, Any],
    told: Sequence[Mapping[str, Any] | News] | None = None,
) -> None:
    """Give the asset events of a task its receipt.

    :param outlets: of the task; an alias gets an event for each of ``told``.
    :param told: what is new, each with its ``uri``; default: the receipt, if it has one.
    """
    events = context["outlet_events"]
    if told is None:
        told = [receipt] if receipt.get("uri") is not None else []
    for outlet in outlets:
        if not isinstance(outlet, AssetAlias):
            events[outlet].extra = receipt
            continue
        for one in told:
            extra = dict(one) if isinstance(one, Mapping) else one.to_json()
            events[outlet].add(Asset(uri=extra["uri"]), extra=extra)


def who(context: Any) -> tuple[str, str]:
    """Who works, and in which run: for whoever finds a lease of it."""
    ti = context["ti"]
    return f"{ti.dag_id}.{ti.task_id} on {socket.gethostname()}", str(ti.run_id)
