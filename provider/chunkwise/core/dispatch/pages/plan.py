"""Plan a dispatch of a paged API: look at its first page, share its pages out."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import requests

from chunkwise.core.digests import digest
from chunkwise.core.dispatch.model import Output, Plan
from chunkwise.core.dispatch.pages.job import fetcher_of, lines_of, paginator_of, transport_of
from chunkwise.core.dispatch.pages.model import END, ApiSource
from chunkwise.core.dispatch.plan import (
    FREE,
    Planned,
    check_places,
    clear,
    differences,
    resume_plan,
    seen_at,
    write_manifests,
)
from chunkwise.core.dispatch.spec import MAX_CHUNKS, Config, OnExisting
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import (
    ConfigError,
    DispatchExists,
    LimitExceeded,
    ObjectExists,
    PageSizeCapped,
    TotalChanged,
)
from chunkwise.core.formats.model import Boundary, Layout
from chunkwise.core.formats.registry import format_named
from chunkwise.core.paging import BaseRequest, Paginator, exact_json, paginator_to_json
from chunkwise.core.paging.fetcher import FetchedPage
from chunkwise.core.paging.model import Stop
from chunkwise.core.paging.ranges import Countable, FirstPage, countable
from chunkwise.core.records.compression import check_suffix, codec
from chunkwise.core.records.transforms import transform_to_json

log = logging.getLogger(__name__)

#: chunks of an API, where nothing else is said: a few for each of some processors
DEFAULT_CHUNKS: Final = 16
#: seconds of a leg: well below the 900 that a Lambda function has
DEFAULT_LEG_SECONDS: Final = 600.0
_FORMAT: Final = "jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pages:
    """How pages are shared out.

    :param pages_per_chunk: pages of a chunk; of a leg at most.
    :param chunks: their number, instead.
    :param pages: of the API all in all, where it does not declare a total; the last chunk reads on if there
        are more.
    """

    pages_per_chunk: int | None = None
    chunks: int | None = None
    pages: int | None = None

    def __post_init__(self) -> None:
        for name in ("pages_per_chunk", "chunks", "pages"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}: it must be 1 or more")
        if self.pages_per_chunk is not None and self.chunks is not None:
            raise ConfigError("give pages_per_chunk or chunks, not both")


def api_source(
    *,
    request: BaseRequest,
    paginator: Paginator,
    records_path: str | Sequence[str],
    connection: str | None,
    stamps: Mapping[str, Any],
    transforms: Sequence[Any],
    leg_pages: int | None = None,
    leg_bytes: int | None = None,
    leg_seconds: float | None = DEFAULT_LEG_SECONDS,
    **options: Any,
) -> ApiSource:
    """An API as it travels.

    :param request: what every page's request shares.
    :param paginator: one of Chunkwise's own: it decides how the pages are cut.
    :param records_path: where a page's records are.
    :param connection: name of the connection with its credentials.
    :param stamps: members that each record gets at its end.
    :param transforms: declarative ones.
    :param leg_pages: budget of a leg of a cursor run, as the two below.
    :param leg_bytes: see there.
    :param leg_seconds: see there.
    :param options: further fields of :class:`~chunkwise.core.dispatch.pages.model.ApiSource`.
    :raises ConfigError: a paginator or transform that cannot travel.
    """
    ranges = countable(paginator) is not None
    shared = {"params": dict(request.params), "headers": dict(request.headers), "json": request.json}
    try:
        stamped = json.dumps(dict(stamps), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a stamp must be a JSON value: {error}") from None
    return ApiSource(
        url=request.url,
        method=request.method,
        connection=connection,
        request=exact_json.encode({name: value for name, value in shared.items() if value}).decode(),
        paginator=exact_json.encode(paginator_to_json(paginator)).decode(),
        records_path=records_path if isinstance(records_path, str) else tuple(records_path),
        cut="ranges" if ranges else "legs",
        leg_pages=None if ranges else leg_pages,
        leg_bytes=None if ranges else leg_bytes,
        leg_seconds=None if ranges else leg_seconds,
        stamps=stamped,
        transforms=exact_json.encode([transform_to_json(each) for each in transforms]).decode(),
        **options,
    )


def plan_pages(
    staging: Staging,
    source: ApiSource,
    config: Config,
    session: requests.Session,
    pages: Pages | None = None,
    *,
    secrets: Mapping[str, str] | None = None,
    on_existing: OnExisting = "resume",
    write: bool = True,
) -> Planned:
    """Make a plan for the pages of an API, or find it.

    Where pages can be counted, the first one is read to learn how many there are; that is all that is asked
    of the API. The chunks tile its pages, and the last one has no end but the API's own. A cursor run begins
    with one chunk, and grows.

    An API cannot be pinned, and a dispatch of another job in the same place is of no use to this one: it is
    thrown away, as a saved ingest is whose job has changed. So is one whose chunks found that the total of
    the API has changed.

    :param staging: where the plan goes.
    :param source: see :func:`api_source`.
    :param config: target, compression, groups, deadline, rejects; what is of objects alone is left out.
    :param session: with the credentials of the API.
    :param pages: how pages are shared out.
    :param secrets: for transforms that need a key, by name: asked for here already.
    :param on_existing: what to do with a dispatch that stands there.
    :param write: ``False`` for a dry run.
    :raises DispatchExists: there is a dispatch, and ``on_existing`` is ``"fail"``.
    :raises ConfigError: the pages cannot be counted, and nothing says how many there are.
    :raises ChunkwiseError: the API cannot be read as it is said.
    """
    pages = pages or Pages()
    target, compression = config.target, config.output_compression
    compression = "gzip" if compression == "preserve" else compression
    check_suffix(target.key, codec(compression))
    check_places(config, staging)
    lines_of(source, secrets)  # what cannot be is told before anything is asked for
    existing = staging.find() if write else None
    if existing is not None and on_existing == "fail":
        raise DispatchExists(
            f"there is a dispatch in {staging.uri} already, of {existing.source.uri} with"
            f" {existing.chunks} chunks; resume it, restart it, or clean it up"
        )
    fingerprint = fingerprint_of(source, config, pages)
    if existing is not None and on_existing == "resume":
        differing = differences(existing.fingerprint, fingerprint)
        changed = None if differing else _changed(staging)
        if not differing and changed is None:
            return resume_plan(staging, fingerprint)
        if changed is not None:
            log.warning(
                "starting again: the data of %s changed while it was read, as chunk %d found",
                existing.source.uri,
                changed,
            )
        else:
            log.warning(
                "starting again: the dispatch in %s is of another job, which differs in %s",
                staging.uri,
                ", ".join(differing),
            )
    seen = seen_at(staging.client, config)
    if seen is not None and target.on_exists == "fail":
        raise ObjectExists(f"{target.uri} exists already, and on_exists is 'fail'; nothing was read")
    first = _look(source, session) if source.cut == "ranges" else _Learnt()
    tiles = _tiles(source, first, pages)
    format_ = format_named(_FORMAT)
    layout = Layout(
        extent=tiles[-1].position,
        details={
            "page_records": first.page_records,
            "total": first.total,
            "position_bytes": first.position_bytes,
        },
    )
    plan = Plan(
        dispatch=uuid.uuid4().hex,
        source=source,
        compression="none",
        format=_FORMAT,
        layout=layout,
        output=Output(
            format=_FORMAT,
            native=False,
            target=format_.target(layout, {}, native=False),
            compression=compression,
        ),
        config=config,
        fingerprint=fingerprint,
        boundaries=tiles,
        chunk_bytes=int((tiles[1].position - tiles[0].position) * first.position_bytes),
        groups=max(1, min(config.groups, len(tiles) - 1)),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        exact=True,
        seen=seen,
        warnings=first.warnings,
    )
    planned = Planned(plan=plan, requests=first.requests, bytes_read=first.bytes_read)
    if not write:
        return planned
    if existing is not None:
        clear(staging)
    try:
        staging.put_new(staging.plan_key, plan)
    except ObjectExists:
        log.info("another planner was first in %s", staging.uri)
        if on_existing == "fail":
            raise DispatchExists(f"another planner was first in {staging.uri}") from None
        return resume_plan(staging, fingerprint)
    write_manifests(staging, plan, range(plan.chunks))
    return planned


def _changed(staging: Staging) -> int | None:
    """A chunk that failed because the API's total changed: no attempt at this plan can succeed any more."""
    states = staging.list(staging.state_prefix)
    failures = staging.failures(states)
    changed = [chunk for chunk, failed in failures.items() if failed.error == TotalChanged.__name__]
    done = staging.done(changed)
    return next((chunk for chunk in changed if chunk not in done), None)


def fingerprint_of(source: ApiSource, config: Config, pages: Pages) -> dict[str, str]:
    """A digest for each field that decides what comes out, so that a difference can be named."""
    fields = {f"source.{name}": value for name, value in msgspec.structs.asdict(source).items()}
    fields |= {"pages": [pages.pages_per_chunk, pages.chunks, pages.pages]}
    fields |= {name: value for name, value in msgspec.to_builtins(config).items() if name not in FREE}
    return {name: digest(msgspec.to_builtins(value)) for name, value in fields.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Learnt:
    """What the first page says.

    :param page_records: of a full page.
    :param total: records that the API declares.
    :param pages: that it has, as far as it says so.
    :param position_bytes: bytes of records for each position.
    """

    page_records: int = 0
    total: int | None = None
    pages: int | None = None
    position_bytes: float = 0.0
    requests: int = 0
    bytes_read: int = 0
    warnings: tuple[str, ...] = ()


def _look(source: ApiSource, session: requests.Session) -> _Learnt:
    of = countable(paginator_of(source))
    assert of is not None  # of such a source
    first = FirstPage(of)
    transport = transport_of(source, session, first)
    fetcher = fetcher_of(source, transport, first)
    ends = [item for item in fetcher.fetch() if isinstance(item, FetchedPage)]
    records, size, total = ends[0].records, fetcher.guard.size, fetcher.guard.declared_total
    requested = 1 + transport.retries
    if first.page is None or isinstance(first.following, Stop):
        return _Learnt(
            page_records=records,
            total=total,
            pages=1,
            position_bytes=size / of.step,
            requests=requested,
            bytes_read=size,
        )
    warnings = []
    asked = of.page_size
    if asked is not None and records < asked:
        message = (
            f"page 1 has {records} records where {asked} were asked for, and more pages follow: the server"
            " caps the page size or filters after paging. Ask for no more than it gives, or accept it with"
            " capped_page='warn'"
        )
        if source.guards.capped_page == "fail":
            raise PageSizeCapped(message)
        log.warning("%s", message)
        warnings.append(message)
    return _Learnt(
        page_records=records,
        total=total,
        pages=_declared_pages(of, first, total, records),
        position_bytes=size / max(records if of.step > 1 else 1, 1),
        requests=requested,
        bytes_read=size,
        warnings=tuple(warnings),
    )


def _declared_pages(of: Countable, first: FirstPage, total: int | None, records: int) -> int | None:
    declared = getattr(of, "declared_pages", None)
    found: int | None = None if declared is None else declared(first.page)
    if found is None and total is not None and records:
        found = -(-total // max(records if of.step == 1 else of.step, 1))
    return found


def _tiles(source: ApiSource, learnt: _Learnt, pages: Pages) -> tuple[Boundary, ...]:
    """Boundaries in positions of the paginator; of a cursor run its first leg."""
    if source.cut == "legs":
        return (Boundary(position=0), Boundary(position=1))
    of = countable(paginator_of(source))
    assert of is not None  # of such a source
    found = learnt.pages if learnt.pages is not None else pages.pages
    if found is None:
        raise ConfigError(
            f"{source.uri} declares no total, so its pages cannot be shared out: name the place of its total"
            " (total_path, total_header, total_pages_path ...), or give pages"
        )
    found = max(found, 1)
    if source.caps.pages is not None and found > source.caps.pages:
        raise LimitExceeded(
            f"{source.uri} has about {found} pages, more than max_pages = {source.caps.pages}; nothing was"
            " read. Raise max_pages if so many are right, or ask for larger pages"
        )
    each = pages.pages_per_chunk or -(-found // min(pages.chunks or DEFAULT_CHUNKS, found))
    each = max(each, -(-found // MAX_CHUNKS))
    starts = [of.origin + page * of.step for page in range(0, found, each)]
    end = Boundary(position=max(of.origin + found * of.step, starts[-1] + 1), state=END)
    return (*(Boundary(position=start) for start in starts), end)
