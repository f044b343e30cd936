"""A paged API in functions: ranges, cursor runs that drive themselves, and little memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from chunkwise.aws_lambda import processor
from chunkwise.aws_lambda.ingest import handler
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.pages.plan import Pages, api_source, plan_pages
from chunkwise.core.dispatch.spec import Config, LastMerge, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ChunkFailed
from chunkwise.core.paging import BaseRequest, OffsetPaginator
from chunkwise.core.units import MiB
from dev.sample_api import SampleApi
from tests.support.http_api import Answer, SeenRequest
from tests.support.lambda_runtime import Context, durable_event, log_lines, s3_event
from tests.support.paged import CURSOR, OFFSET, FanOut, Listing, cursor, listing
from tests.support.processors import processor as processor_function
from tests.support.processors import running
from tests.support.strict_s3 import StrictS3

__all__ = ["listing"]

Make = Callable[[int], Listing]


def event(staging: Staging, chunk: int, attempt: str = "try1-1") -> dict[str, str]:
    return {"manifest": f"s3://{staging.bucket}/{staging.manifest_key(chunk)}", "attempt": attempt}


def test_a_range_of_pages_by_either_handler(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(25), OFFSET, pages=Pages(pages_per_chunk=1))
    fan.plan()
    answer = handler(event(fan.staging, 0), Context())
    assert (answer["chunk"], answer["state"], answer["rows_in"], answer["next"]) == (0, "done", 10, False)
    assert "next" not in processor.handler(event(fan.staging, 1), Context())
    assert handler(durable_event(event(fan.staging, 2)), Context())["Status"] == "SUCCEEDED"
    assert fan.merge().rows_out == 25
    assert fan.text == fan.ingested()


def test_the_answer_says_whether_another_leg_follows(s3: StrictS3, listing: Make) -> None:
    """Who invokes needs no more than that; neither answers nor logs hold a cursor."""
    fan = FanOut(s3, listing(47), CURSOR, leg_pages=2)
    fan.plan()
    answers: list[dict[str, Any]] = []
    with log_lines() as lines:
        while not answers or answers[-1]["next"]:
            answers.append(handler(event(fan.staging, len(answers)), Context()))
    assert [answer["rows_in"] for answer in answers] == [20, 20, 7]
    assert fan.merge().rows_out == 47
    assert fan.text == fan.ingested()
    assert lines
    told = json.dumps([answers, lines])
    assert not any(cursor(position) in told for position in (10, 20, 30, 40))


def test_a_second_delivery_of_a_leg_says_the_same(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(25), CURSOR, leg_pages=2)
    fan.plan()
    first = handler(event(fan.staging, 0), Context())
    assert handler(event(fan.staging, 0, "try1-2"), Context()) == first
    assert first["next"]


def test_a_cursor_run_that_its_manifests_drive(s3: StrictS3, listing: Make) -> None:
    """Each manifest that lands starts its processor, and the last one merges: nobody else is there."""
    fan = FanOut(s3, listing(47), CURSOR, leg_pages=1, config={"last_merge": LastMerge()})
    fan.plan()
    landed: set[str] = set()
    while new := {item.key for item in fan.staging.list(f"{fan.staging.prefix}manifests/")} - landed:
        landed |= new
        processor.handler(s3_event(s3.bucket, *new), Context())
    assert len(landed) == 5
    assert s3.keys() == ["out/records.jsonl.gz"]
    assert fan.text == fan.ingested()


def test_a_leg_ends_before_its_function_does(s3: StrictS3, listing: Make) -> None:
    """Whatever time a function has, a leg ends with a page before it is over."""
    waits = threading.Event()
    fan = FanOut(s3, listing(147), CURSOR, leg_seconds=None)
    fan.plan()

    def slowly(_: SeenRequest) -> Answer | None:
        waits.wait(0.3)
        return None

    fan.listing.instead = slowly
    answer = handler(event(fan.staging, 0), Context(seconds=4))
    assert answer["next"]
    assert 10 <= answer["rows_in"] < 147
    waits.set()
    answer = handler(event(fan.staging, 1), Context())
    assert not answer["next"]
    assert fan.merge().rows_out == 147


def test_a_missing_secret_is_named_in_the_failed_record(s3: StrictS3, listing: Make) -> None:
    fan = FanOut(s3, listing(25), OFFSET, connection="my_api")
    fan.plan()
    with pytest.raises(ChunkFailed, match="no secret 'my_api'"):
        handler(event(fan.staging, 0), Context())
    failed = fan.staging.failures(fan.staging.list(fan.staging.state_prefix))
    assert "CHUNKWISE_SECRETS" in failed[0].message


def test_pages_in_a_function_of_256_mb(s3: StrictS3, sample_api: Callable[..., SampleApi]) -> None:
    """Memory is that of pages and parts, not of the range: the service kills what takes more."""
    api = sample_api(records=4_000, record_bytes=20_000)  # 80 MB
    source = api_source(
        request=BaseRequest(url=f"{api.url}/v1/variants/by-offset"),
        paginator=OffsetPaginator(limit=200, total_path="total"),
        records_path="data",
        connection=None,
        stamps={},
        transforms=[],
    )
    staging = Staging(s3.client, s3.bucket, "staging/wide.dispatch/")
    config = Config(target=Target(bucket=s3.bucket, key="out/wide.jsonl.gz"))
    plan_pages(staging, source, config, requests.Session(), Pages(chunks=2))
    function = processor_function(
        name="ingest", handler="chunkwise.aws_lambda.ingest.handler", memory_mb=256, timeout_seconds=120
    )
    with running(s3.endpoint, function) as service:
        for chunk in range(2):
            answer = service.client().invoke(
                FunctionName="ingest", Payload=json.dumps(event(staging, chunk)).encode()
            )
            found = json.loads(answer["Payload"].read())
            assert "FunctionError" not in answer, found
            assert (found["state"], found["rows_in"]) == ("done", 2_000)
            assert found["peak_rss"] < 256 * MiB
    assert merge_parts(s3.client, staging, owner="test", run="1").rows_out == 4_000
