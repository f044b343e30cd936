"""A small paged API that can change and misbehave, and the dispatches and ingests of it."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.model import MergeReceipt, Plan
from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.dispatch.pages.plan import Pages, api_source, plan_pages
from chunkwise.core.dispatch.plan import Planned
from chunkwise.core.dispatch.process import process_group
from chunkwise.core.dispatch.spec import Config, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.ingest.job import PagedIngest
from chunkwise.core.ingest.spec import Destination, HttpOptions, IngestSpec
from chunkwise.core.paging import (
    BaseRequest,
    CursorPaginator,
    LinkHeaderPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    Paginator,
)
from chunkwise.core.paging.fetcher import FetchOptions
from chunkwise.core.paging.guards import Guards
from chunkwise.core.paging.retry import RetryPolicy
from tests.support.http_api import Answer, HttpApi, SeenRequest, page
from tests.support.s3 import S3

#: retries without waits
AT_ONCE = RetryPolicy(base_seconds=0.0)
STAMPS = {"day": "2023-12-21", "price": 1.5, "huge": 2**70}
OFFSET = OffsetPaginator(limit=10, total_path="total")
NUMBER = PageNumberPaginator(size=10, size_name="size", total_path="total")
CURSOR = CursorPaginator(cursor_path="next", name="cursor", total_path="total")
LINK = LinkHeaderPaginator(total_header="X-Total-Count")
PATHS = {"offset": "/offset", "page_number": "/number", "cursor": "/cursor", "link_header": "/link"}


class Listing:
    """An API over a list of records.

    :param api: that serves it.
    :param count: of records.
    """

    def __init__(self, api: HttpApi, count: int) -> None:
        self.api = api
        self.records: list[dict[str, Any]] = [record(number) for number in range(count)]
        #: the most records of a page, whatever is asked for
        self.cap = 1_000
        #: records of a page where nothing is asked for
        self.size = 10
        self.declares = True
        #: in place of an answer, if it gives one
        self.instead: Callable[[SeenRequest], Answer | None] = lambda _: None
        for kind, path in PATHS.items():
            api.on(path, lambda request, kind=kind: self.answer(kind, request))

    @property
    def asked(self) -> int:
        """Requests so far."""
        return len(self.api.requests)

    def url(self, paginator: Paginator) -> str:
        return self.api.url(PATHS[paginator.kind])  # type: ignore[attr-defined]

    def answer(self, kind: str, request: SeenRequest) -> Answer:
        """What the listing answers."""
        other = self.instead(request)
        if other is not None:
            return other
        query = dict(request.query)
        size = min(int(query.get("limit", query.get("size", self.size))), self.cap)
        start = int(query.get("offset", 0))
        if kind in ("page_number", "link_header"):
            start = (int(query.get("page", 1)) - 1) * size
        elif kind == "cursor" and query.get("cursor"):
            start = int(base64.b64decode(query["cursor"]).decode().removeprefix("secret-"))
        end = start + size
        headers = {"X-Total-Count": str(len(self.records))}
        document: dict[str, Any] = {"items": self.records[start:end]}
        if self.declares:
            document["total"] = len(self.records)
        if kind == "cursor":
            document["next"] = cursor(end) if end < len(self.records) else None
        if kind == "link_header" and end < len(self.records):
            headers["Link"] = f'</link?page={end // size + 1}&size={size}>; rel="next"'
        return page(document, headers=headers)


def record(number: int) -> dict[str, Any]:
    """A record, with a number that must keep its digits and a text that must keep its escapes."""
    return {"id": number, "amount": 2**64 + number, "text": f"é \\ {number}\n"}


def cursor(position: int) -> str:
    """The API's cursor for a position."""
    return base64.b64encode(f"secret-{position}".encode()).decode()


class FanOut:
    """One dispatch of a listing.

    :param s3: the bucket of the test.
    :param listing: that is read.
    :param paginator: how.
    :param options: further fields of the source.
    """

    def __init__(
        self,
        s3: S3,
        listing: Listing,
        paginator: Paginator,
        *,
        pages: Pages | None = None,
        groups: int = 3,
        connection: str | None = None,
        config: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.s3 = s3
        self.listing = listing
        self.paginator = paginator
        self.pages = pages
        self.guards = options.get("guards", Guards())
        self.target = Target(bucket=s3.bucket, key="out/records.jsonl.gz")
        self.config = Config(target=self.target, groups=groups, **(config or {}))
        self.staging = Staging(s3.client, s3.bucket, "staging/records.dispatch/")
        self.source: ApiSource = api_source(
            request=BaseRequest(url=listing.url(paginator)),
            paginator=paginator,
            records_path="items",
            connection=connection,
            **{"stamps": STAMPS, "transforms": [], "retry": AT_ONCE, **options},
        )

    def planned(self, **options: Any) -> Planned:
        session = options.pop("session", None) or requests.Session()
        return plan_pages(self.staging, self.source, self.config, session, self.pages, **options)

    def plan(self, **options: Any) -> Plan:
        return self.planned(**options).plan

    def process(self, *groups: int, **options: Any) -> None:
        for group in groups or range(self.staging.load().groups):
            process_group(self.s3.client, self.staging, group, **options)

    def merge(self, **options: Any) -> MergeReceipt:
        return merge_parts(self.s3.client, self.staging, owner="test", run="1", **options)

    def run(self, **options: Any) -> MergeReceipt:
        self.plan()
        self.process()
        return self.merge(**options)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The records that landed."""
        return [json.loads(line) for line in self.text.split(b"\n")[:-1]]

    @property
    def text(self) -> bytes:
        """All bytes that landed, decompressed."""
        return gzip.decompress(self.s3.get(self.target.key))

    def ingested(self) -> bytes:
        """What the ingest of a single task makes of the same API."""
        spec = IngestSpec(
            request=BaseRequest(url=self.listing.url(self.paginator)),
            paginator=self.paginator,
            records_path="items",
            destination=Destination(bucket=self.s3.bucket, key="oracle/records.jsonl.gz"),
            http=HttpOptions(retry=AT_ONCE),
            fetch=FetchOptions(guards=self.guards),
            stamps=STAMPS,
        )
        PagedIngest(spec, requests.Session(), self.s3.client).run()
        return gzip.decompress(self.s3.get("oracle/records.jsonl.gz"))


@pytest.fixture
def listing() -> Iterator[Callable[[int], Listing]]:
    """Make a listing of so many records."""
    with HttpApi() as api:
        yield lambda count: Listing(api, count)
