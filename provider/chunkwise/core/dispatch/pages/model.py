"""What travels of a paged API: the source of a plan, and what a done record says of pages."""

from __future__ import annotations

from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from chunkwise.core.digests import digest
from chunkwise.core.paging.guards import Caps, Guards
from chunkwise.core.paging.page_json import NonFinite
from chunkwise.core.paging.retry import RetryPolicy
from chunkwise.core.paging.splitter import SplitLimits
from chunkwise.core.records.lines import OnStampConflict

Cut = Literal["ranges", "legs"]
"""How the pages of an API become chunks.

``"ranges"``: pages that can be counted are shared out before, and read side by side. ``"legs"``: only a page
says how the next one is asked for; each chunk reads until its budget is spent, and the next one begins with
what its done record says.
"""
#: state of a boundary that is where the API itself ends
END: Final = "end"


class _Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class ApiSource(_Value, frozen=True, kw_only=True, tag_field="kind", tag="api"):
    """A paged API, and what is made of its records. Holds no credentials, only the name of those it needs.

    What may hold numbers of any size is JSON as text, so that they keep their digits: an object in S3 that is
    read by somebody else's JSON library would lose some.

    :param url: absolute URL of the endpoint.
    :param method: ``"GET"`` or ``"POST"``.
    :param connection: name under which whoever processes finds host and credentials: an Airflow connection,
        or a secret of a Lambda function; ``None``: the API needs none.
    :param request: JSON of ``params``, ``headers`` and ``json`` of every request.
    :param paginator: its JSON, see :mod:`chunkwise.core.paging.serialise`.
    :param records_path: where a page's records are.
    :param cut: how its pages become chunks.
    :param leg_pages: of a chunk at most, where ``cut`` is ``"legs"``, as the two below.
    :param leg_bytes: of its records, uncompressed.
    :param leg_seconds: after which it ends with the page that it reads.
    :param stamps: JSON of the members that each record gets at its end.
    :param on_stamp_conflict: a record that has one of them already.
    :param transforms: JSON of what is done to each record, in order.
    :param level: of the compression.
    :param connect_timeout: seconds to a connection.
    :param read_timeout: seconds between two bytes of an answer.
    :param retry: when a page is asked for again.
    :param rate_limit: ``(requests, seconds)`` that one processor does not exceed.
    :param allowed_origins: other origins that next links and redirects may lead to, without credentials.
    :param caps: bounds of the whole run; its seconds are those of a chunk.
    :param guards: what counts as a wrong answer.
    :param error_paths: see :class:`~chunkwise.core.paging.guards.ErrorRule`.
    :param ok_path: see there.
    :param limits: bounds in bytes of what is held of a page.
    :param non_finite: see :class:`~chunkwise.core.paging.fetcher.FetchOptions`.
    :param null_is_empty: see there.
    """

    url: str
    method: str = "GET"
    connection: str | None = None
    request: str = "{}"
    paginator: str
    records_path: str | tuple[str, ...]
    cut: Cut
    leg_pages: int | None = None
    leg_bytes: int | None = None
    leg_seconds: float | None = None
    stamps: str = "{}"
    on_stamp_conflict: OnStampConflict = "fail"
    transforms: str = "[]"
    level: int | None = None
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    retry: RetryPolicy = RetryPolicy()
    rate_limit: tuple[int, float] | None = None
    allowed_origins: tuple[str, ...] = ()
    caps: Caps = Caps()
    guards: Guards = Guards()
    error_paths: tuple[str, ...] = ("error", "errors")
    ok_path: str | None = None
    limits: SplitLimits = SplitLimits()
    non_finite: NonFinite = "fail"
    null_is_empty: bool = False

    @property
    def uri(self) -> str:
        """The endpoint, for messages and lineage: no query and no user, which may be secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def etag(self) -> str:
        """By which the same job is recognised: an API has no state that could be pinned."""
        return digest(msgspec.to_builtins(self))


class PagesRead(_Value, frozen=True, kw_only=True):
    """What a chunk saw of the API.

    :param pages: that it read.
    :param stop: why the API ended there; ``None``: it goes on after the chunk.
    :param total: records that the API declared last, all in all.
    :param short: number of the chunk's last page and its records, if these are fewer than were asked for.
    :param digests: of the records of its pages, by which a page that comes twice is seen; the last 500.
    :param next: from where the next leg goes on. It may hold a cursor: it belongs in no log.
    :param retries: requests that were made again.
    :param retry_wait: seconds spent waiting for them.
    :param warnings: of the guards.
    """

    pages: int
    stop: str | None = None
    total: int | None = None
    short: tuple[int, int] | None = None
    digests: dict[str, int] = {}
    next: dict[str, Any] | None = None
    retries: int = 0
    retry_wait: float = 0.0
    warnings: tuple[str, ...] = ()
