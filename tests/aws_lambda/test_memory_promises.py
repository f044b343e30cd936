"""What fits into a function: the sizes that the documentation promises, with a limit that kills."""

from __future__ import annotations

import csv
import gzip
import hashlib
import hmac
import io
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.pages.plan import Pages, api_source, plan_pages
from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.settings import mapping_of
from chunkwise.core.dispatch.spec import Config, Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.paging import BaseRequest, OffsetPaginator
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.units import MiB
from dev.lambda_service import LambdaService
from dev.lambda_service.engine import Report
from dev.localstack import LocalStack
from dev.sample_api import SampleApi
from tests.support.files import HMAC, KEY
from tests.support.processors import processor, running
from tests.support.services import remove_bucket

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

CSV_BYTES = 150_000_000
COLUMNS = ["id", "name", "email", "city", "note", *(f"value_{number}" for number in range(7))]
PROTECTED = ("name", "email")


@dataclass(frozen=True)
class Large:
    """A CSV file in a bucket, and what must become of it.

    :param sha256: of the output.
    """

    bucket: str
    key: str
    rows: int
    sha256: str


def tokens(column: str) -> Callable[[str], str]:
    """What the protector makes of a column's values: HMAC-SHA-256, by a key of RFC 5869 for each element."""
    extracted = hmac.digest(b"chunkwise/protect/hmac/1", KEY.encode(), "sha256")
    key = hmac.digest(extracted, column.encode() + b"\x01", "sha256")
    return lambda value: hmac.digest(key, value.encode(), "sha256").hex()


def lines(row: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(row)
    return text.getvalue().encode()


@pytest.fixture(scope="module")
def large(localstack: LocalStack) -> Iterator[Large]:
    """Rows with quotes, commas and line ends in the columns that nobody protects."""
    bucket, key = f"test-{uuid.uuid4().hex}", "in/large.csv"
    localstack.create_bucket(bucket)
    named, mailed = tokens("name"), tokens("email")
    notes = ["plain", 'a "quoted" one, and more', "line\r\nbreak", "comma, and more", "", "ü\u2028", "1.10"]
    rests = [
        lines(["Köln", f"{notes[n % len(notes)]} {'x' * (n % 120)}", *(f"{n * 7**k:011d}" for k in range(7))])
        for n in range(997)
    ]
    before, after = bytearray(), hashlib.sha256()
    header = ",".join(COLUMNS).encode() + b"\r\n"
    before += header
    after.update(header)
    rows = 0
    while len(before) < CSV_BYTES:
        rest = rests[rows % len(rests)]
        name, email = f"person {rows % 5003}", f"p{rows}@example.com"
        before += f"{rows:08d},{name},{email},".encode() + rest
        after.update(f"{rows:08d},{named(name)},{mailed(email)},".encode() + rest)
        rows += 1
    localstack.client("s3").put_object(Bucket=bucket, Key=key, Body=bytes(before))
    yield Large(bucket, key, rows, after.hexdigest())
    remove_bucket(localstack.client("s3"), bucket)


def planned(
    localstack: LocalStack, large: Large, name: str, protector: ProtectorSpec | None = None
) -> Staging:
    """A dispatch of one chunk: the whole file."""
    client = localstack.client("s3")
    mapping = {
        "columns": {name: {"operation": "protect", "data_element": name} for name in PROTECTED},
        "ignored-columns": [column for column in COLUMNS if column not in PROTECTED],
    }
    source = Source(bucket=large.bucket, key=large.key)
    config = Config(
        target=Target(bucket=large.bucket, key=f"out/{name}.csv"),
        mapping=mapping_of(None, source, mapping),
        protector=protector or ProtectorSpec(**HMAC),
    )
    staging = Staging(client, large.bucket, f"staging/{name}.dispatch/")
    plan_dispatch(client, source, config, staging)
    assert staging.load().chunks == 1
    return staging


def ended(service: LambdaService, staging: Staging, name: str) -> Report:
    """Invoke a function for chunk 0 and wait until it ends."""
    manifest = f"s3://{staging.bucket}/{staging.manifest_key(0)}"
    service.client().invoke(
        FunctionName=name,
        InvocationType="Event",
        Payload=json.dumps({"manifest": manifest, "attempt": "try1-1"}).encode(),
    )
    service.wait_idle(timeout=840)
    (report,) = service.reports(name)
    return report


def died_of_memory(service: LambdaService, report: Report) -> bool:
    """Whether the service has killed it for its memory, as it says in its log."""
    log = service.logs(report.function, report.request_id)
    return report.status == "error" and "Error Type: Runtime.OutOfMemory" in log[-1]


def within(service: LambdaService, report: Report, memory_mb: int) -> bool:
    """Whether it ended well below its limit; the log holds the most that it needed."""
    log = service.logs(report.function, report.request_id)
    assert report.status == "success", log[-5:]
    assert f"Memory Size: {memory_mb} MB" in log[-1]
    return 0 < report.peak_memory < memory_mb * MiB


@pytest.fixture
def secret(localstack: LocalStack) -> Iterator[dict[str, str]]:
    """The environment by which a function finds the key of the tokens."""
    name = f"tokens-{uuid.uuid4().hex}"
    localstack.create_secret(name, KEY)
    yield {"CHUNKWISE_SECRETS": json.dumps({HMAC["secret"]: name})}
    localstack.client("secretsmanager").delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def test_a_csv_chunk_of_150_mb_in_a_function_of_512_mb(
    localstack: LocalStack, large: Large, secret: dict[str, str]
) -> None:
    staging = planned(localstack, large, "fits")
    function = processor(memory_mb=512, timeout_seconds=800, environment=secret)
    with running(localstack.endpoint, function) as service:
        report = ended(service, staging, "processor")
        assert within(service, report, 512)
    receipt = merge_parts(staging.client, staging, owner="test", run="1")
    assert receipt.rows_out == large.rows
    found = hashlib.sha256()
    body = staging.client.get_object(Bucket=large.bucket, Key="out/fits.csv")["Body"]
    for block in body.iter_chunks(MiB):
        found.update(block)
    assert found.hexdigest() == large.sha256


@pytest.mark.parametrize(
    ("memory_mb", "protector"),
    [
        pytest.param(32, ProtectorSpec(**HMAC), id="limit"),
        pytest.param(
            512,
            ProtectorSpec(name="tests.aws_lambda.protectors.Hoarder", options={"size": 600 * MiB}),
            id="protector",
        ),
    ],
)
def test_the_same_chunk_in_a_function_that_cannot_do_it(
    localstack: LocalStack, large: Large, secret: dict[str, str], memory_mb: int, protector: ProtectorSpec
) -> None:
    """Shows that the limits are there: the function dies of them, and nothing is to be seen of its work."""
    staging = planned(localstack, large, f"starves-{memory_mb}", protector)
    function = processor(name="starved", memory_mb=memory_mb, timeout_seconds=800, environment=secret)
    with running(localstack.endpoint, function) as service:
        assert died_of_memory(service, ended(service, staging, "starved"))
    assert staging.done_of(0) is None
    assert not list(staging.list(f"{staging.prefix}parts/"))


def pages(localstack: LocalStack, api: SampleApi, bucket: str) -> Staging:
    """A dispatch of one range of pages: all of them."""
    source = api_source(
        request=BaseRequest(url=f"{api.url}/v1/variants/by-offset"),
        paginator=OffsetPaginator(limit=200, total_path="total"),
        records_path="data",
        connection=None,
        stamps={},
        transforms=[],
    )
    staging = Staging(localstack.client("s3"), bucket, "staging/pages.dispatch/")
    config = Config(target=Target(bucket=bucket, key="out/pages.jsonl.gz"))
    plan_pages(staging, source, config, requests.Session(), Pages(chunks=1))
    return staging


def ingest(**settings: Any) -> Any:
    return processor(
        name="ingest", handler="chunkwise.aws_lambda.ingest.handler", timeout_seconds=800, **settings
    )


def test_a_range_of_pages_of_40_mb_in_a_function_of_256_mb(
    localstack: LocalStack, ls_bucket: str, sample_api: Callable[..., SampleApi]
) -> None:
    api = sample_api(records=2_000, record_bytes=20_000)
    staging = pages(localstack, api, ls_bucket)
    with running(localstack.endpoint, ingest(memory_mb=256)) as service:
        report = ended(service, staging, "ingest")
        assert within(service, report, 256)
    assert merge_parts(staging.client, staging, owner="test", run="1").rows_out == 2_000
    body = staging.client.get_object(Bucket=ls_bucket, Key="out/pages.jsonl.gz")["Body"].read()
    found = gzip.decompress(body)
    served = b"".join(api.records.record(number) + b"\n" for number in range(2_000))
    assert len(served) > 38_000_000
    assert hashlib.sha256(found).hexdigest() == hashlib.sha256(served).hexdigest()


def test_the_same_pages_in_a_function_that_cannot_do_them(
    localstack: LocalStack, ls_bucket: str, sample_api: Callable[..., SampleApi]
) -> None:
    api = sample_api(records=2_000, record_bytes=20_000)
    staging = pages(localstack, api, ls_bucket)
    with running(localstack.endpoint, ingest(memory_mb=32)) as service:
        assert died_of_memory(service, ended(service, staging, "ingest"))
    assert staging.done_of(0) is None
