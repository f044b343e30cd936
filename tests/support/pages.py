"""Pages without a server: what a driver would hand to a paginator, and a driver that only follows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chunkwise.core.paging import Page, PageRequest, Stop, StopReason
from chunkwise.core.paging.model import Paginator

URL = "https://api.example.com/v1/things"


def page(
    envelope: Any = None,
    *,
    count: int = 2,
    number: int = 1,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    url: str = URL,
    last: bytes | None = None,
    before: int = 0,
) -> Page:
    """A page of ``count`` records with this envelope."""
    return Page(
        number=number,
        url=url,
        status=status,
        headers=headers or {},
        envelope={} if envelope is None else envelope,
        record_count=count,
        last_record=last if last is not None or count == 0 else b"{}",
        records_before=before,
    )


class Answer:
    """What a simulated API answers: records, and what else stands in its envelope and headers."""

    def __init__(
        self,
        records: list[Any],
        envelope: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        status: int = 200,
    ) -> None:
        self.records = records
        self.envelope = envelope or {}
        self.headers = headers or {}
        self.status = status


def follow(
    paginator: Paginator, api: Callable[[PageRequest], Answer], *, cap: int = 500
) -> tuple[list[Any], StopReason, list[PageRequest]]:
    """The records that a paginator leads to, why it ended, and the requests; more than ``cap`` pages fail."""
    records: list[Any] = []
    requests: list[PageRequest] = []
    request = paginator.first()
    while len(requests) < cap:
        requests.append(request)
        answer = api(request)
        following = paginator.after(
            request,
            Page(
                number=len(requests),
                url=URL if request.url is None else request.url,
                status=answer.status,
                headers=answer.headers,
                envelope=answer.envelope,
                record_count=len(answer.records),
                last_record=msgspec.json.encode(answer.records[-1]) if answer.records else None,
                records_before=len(records),
            ),
        )
        records += answer.records
        if isinstance(following, Stop):
            return records, following.reason, requests
        # a run is saved and resumed by its last request
        request = PageRequest.from_json(following.to_json())
    raise AssertionError(f"no end within {cap} pages")
