"""The verdicts of the demo: it believes neither the merge nor that functions were at work."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dev import large_file
from dev.lambda_service import LambdaService, load_functions
from dev.lambdas import Lambdas
from dev.localstack import LocalStack
from dev.sample_api import SampleApi
from dev.services import FUNCTIONS
from dev.verdicts import DemoFailed, show_fan_out, show_large_file
from tests.dev.test_large_file import SECRET, protected, read, write


@pytest.fixture
def idle() -> Iterator[Callable[[str], Lambdas]]:
    """The functions of the demo, which nobody invokes."""
    with LambdaService(load_functions(FUNCTIONS)) as service:
        yield lambda name: Lambdas(service.endpoint, name)


def outcome(receipt: dict[str, Any], **plan: Any) -> dict[str, Any]:
    merged = {"seconds": 1.0, "copied_bytes": 0, "uploaded_bytes": 0, **receipt}
    return {
        "returned": {"plan": [0], "merge": merged},
        "summaries": {"plan": plan},
        "seconds": 2.0,
        "tasks": {},
    }


def fan_out(bucket: str, body: bytes, *, chunks: int, rows: int) -> dict[str, Any]:
    receipt = {
        "uri": f"s3://{bucket}/lines.jsonl.gz",
        "source": {"pages": 1},
        "chunks": chunks,
        "rows_out": rows,
        "bytes": len(body),
    }
    return outcome(receipt, chunks=chunks, groups=1)


@pytest.mark.parametrize(
    ("rows", "chunks", "said"),
    [
        (50, 0, None),
        (50, 1, "1 chunks were processed, but only 0 by chunkwise-ingest"),
        (49, 0, "the task reported 49"),
    ],
)
def test_a_fan_out_is_right_if_functions_did_it_and_the_api_has_as_many(
    localstack: LocalStack,
    ls_bucket: str,
    sample_api: Callable[..., SampleApi],
    idle: Callable[[str], Lambdas],
    rows: int,
    chunks: int,
    said: str | None,
) -> None:
    body = gzip.compress(b"{}\n" * 50)
    localstack.client("s3").put_object(Bucket=ls_bucket, Key="lines.jsonl.gz", Body=body)
    ran = fan_out(ls_bucket, body, chunks=chunks, rows=rows)
    arguments = (localstack, sample_api(records=50).url, ran, idle("chunkwise-ingest"))
    if said is None:
        show_fan_out(*arguments)
        return
    with pytest.raises(DemoFailed, match=said):
        show_fan_out(*arguments)


@pytest.mark.parametrize("wrong", [None, "rows_in", "rows_out", "bytes", "source_crc32", "crc32"])
def test_what_the_merge_reports_of_the_large_file_is_checked(
    localstack: LocalStack,
    ls_bucket: str,
    idle: Callable[[str], Lambdas],
    capsys: pytest.CaptureFixture[str],
    wrong: str | None,
) -> None:
    s3 = localstack.client("s3")
    size = large_file.put(s3, ls_bucket, 1_000)
    source = s3.get_object(Bucket=ls_bucket, Key=large_file.KEY)["Body"].read()
    rows = read(s3, ls_bucket)
    body = write(s3, ls_bucket, protected(rows))
    receipt = {
        "uri": f"s3://{ls_bucket}/out.csv",
        "source": {"uri": f"s3://{ls_bucket}/{large_file.KEY}"},
        "chunks": 0,
        "rows_in": len(rows) - 1,
        "rows_out": len(rows) - 1,
        "bytes": len(body),
        "source_crc32": f"{zlib.crc32(source):08x}",
        "crc32": base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
    }
    if wrong is not None:
        receipt[wrong] = 1
    plan = {"source": {"size": size}, "format": "csv", "chunks": 1, "requests": 1, "bytes_read": 1}
    arguments = (localstack, outcome(receipt, **plan), idle("chunkwise-processor"))
    if wrong is None:
        show_large_file(*arguments, secret=SECRET)
        assert "every cell is the same" in capsys.readouterr().out
        return
    with pytest.raises(DemoFailed, match=rf"The merge reported .*'{wrong}': 1[,}}]"):
        show_large_file(*arguments, secret=SECRET)
    assert "every cell is the same" not in capsys.readouterr().out


def test_a_run_that_published_nothing_is_named(
    localstack: LocalStack, idle: Callable[[str], Lambdas]
) -> None:
    ran = {"returned": {"plan": [0]}, "summaries": {}, "seconds": 1.0, "tasks": {"merge": "skipped"}}
    with pytest.raises(DemoFailed, match=r"No task returned where its records are; tasks: .*skipped"):
        show_large_file(localstack, ran, idle("chunkwise-processor"), secret=SECRET)
