"""From a source as it travels to what reads it: requests, paginator, lines."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping

import requests

from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.errors import ConfigError
from chunkwise.core.paging import BaseRequest, exact_json, paginator_from_json
from chunkwise.core.paging.capabilities import end_statuses
from chunkwise.core.paging.connection import connection_from_json, open_connection
from chunkwise.core.paging.fetcher import Fetcher, FetchOptions, FetchState
from chunkwise.core.paging.guards import ErrorRule
from chunkwise.core.paging.model import Paginator
from chunkwise.core.paging.rate_limit import RateLimit
from chunkwise.core.paging.rules import PagingRules
from chunkwise.core.paging.transport import RetryEvent, Transport
from chunkwise.core.records.lines import LineBuilder
from chunkwise.core.records.transforms import compile_transforms, transform_from_json

log = logging.getLogger(__name__)

#: opens a session with the credentials that a source names
Connect = Callable[[ApiSource], requests.Session]


def connect_by(secrets: Mapping[str, str]) -> Connect:
    """Open sessions with credentials from secrets, each the JSON of an Airflow connection.

    :param secrets: by the name that a source has for its connection.
    """

    def connect(source: ApiSource) -> requests.Session:
        """:raises ConfigError: there is no such secret, or it is of another origin than the source."""
        if source.connection is None:
            return requests.Session()
        text = secrets.get(source.connection)
        if text is None:
            raise ConfigError(
                f"there is no secret {source.connection!r} with the connection to {source.uri}: name it where"
                " the pages are processed (CHUNKWISE_SECRETS of a Lambda function)"
            )
        opened = open_connection(connection_from_json(source.connection, text))
        if not opened.base_url:
            opened.session.close()
            raise ConfigError(
                f"the secret {source.connection!r} names no host: without one its credentials would go"
                " wherever a manifest says"
            )
        try:
            opened.url(source.url)
        except ConfigError:
            opened.session.close()
            raise
        return opened.session

    return connect


def paginator_of(source: ApiSource) -> PagingRules:
    """Its paginator.

    :raises ConfigError: it cannot be.
    """
    return paginator_from_json(exact_json.decode(source.paginator.encode()))


def transport_of(source: ApiSource, session: requests.Session, paginator: Paginator) -> Transport:
    """What makes the requests."""
    shared = exact_json.decode(source.request.encode())
    return Transport(
        session,
        BaseRequest(url=source.url, method=source.method, **shared),
        retry=source.retry,
        connect_timeout=source.connect_timeout,
        read_timeout=source.read_timeout,
        rate_limit=None if source.rate_limit is None else RateLimit(*source.rate_limit),
        allowed_origins=source.allowed_origins,
        end_statuses=end_statuses(paginator),
        on_retry=_log_retry,
    )


def fetcher_of(
    source: ApiSource,
    transport: Transport,
    paginator: Paginator,
    start: FetchState | None = None,
    until: Callable[[], bool] | None = None,
) -> Fetcher:
    """What reads the pages.

    :param start: where it begins.
    :param until: asked between two pages whether to end there.
    """
    options = FetchOptions(
        caps=source.caps,
        guards=source.guards,
        error_rule=ErrorRule(error_paths=source.error_paths, ok_path=source.ok_path),
        limits=source.limits,
        non_finite=source.non_finite,
        null_is_empty=source.null_is_empty,
    )
    return Fetcher(transport, paginator, source.records_path, options, start, until)


def lines_of(source: ApiSource, secrets: Mapping[str, str] | None) -> LineBuilder:
    """What makes lines of records.

    :param secrets: for transforms that need a key, by name.
    :raises ConfigError: a transform cannot be, or lacks its secret.
    """
    members = exact_json.decode(source.transforms.encode())
    transforms = [transform_from_json(each) for each in members]
    return LineBuilder(
        json.loads(source.stamps),
        compile_transforms(transforms, secrets=secrets) if transforms else None,
        source.on_stamp_conflict,
    )


def _log_retry(event: RetryEvent) -> None:
    log.warning("%s", event)
