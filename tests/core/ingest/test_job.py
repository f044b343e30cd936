"""A paged API becomes one object with every record once, or none."""

import gzip
import hashlib
import json
import subprocess
import sys
import textwrap
import zlib
from collections import Counter
from dataclasses import replace

import pytest

from chunkwise.core.errors import (
    ConfigError,
    EmptyResult,
    HttpStatusError,
    LimitExceeded,
    ObjectExists,
    QuarantineLimitExceeded,
    TransformFailed,
)
from chunkwise.core.ingest.rejects import quarantine_key
from chunkwise.core.paging import (
    LinkHeaderPaginator,
    OffsetPaginator,
    PageNumberPaginator,
)
from chunkwise.core.paging.fetcher import FetchOptions
from chunkwise.core.paging.guards import Caps, Guards
from chunkwise.core.paging.model import BaseRequest
from chunkwise.core.records.quarantine import QuarantinePolicy
from chunkwise.core.units import MiB
from tests.core.ingest.conftest import STAMPS, all_records, cursor_spec, lines_of


def test_every_record_lands_once_stamped_and_otherwise_as_it_was(ingest, sample_api):
    api = sample_api(records=730)
    receipt = ingest.run(cursor_spec(api.url, ingest.bucket))
    body = ingest.s3.get("variants.jsonl.gz")
    assert lines_of(body) == [record | STAMPS for record in all_records(api.url)]
    lines = gzip.decompress(body)
    assert receipt.records == receipt.declared_total == 730
    assert receipt.pages == 15
    assert receipt.stop_reason == "no_cursor"
    assert receipt.bytes == len(body)
    assert receipt.uncompressed_bytes == len(lines)
    assert receipt.sha256 == hashlib.sha256(lines).hexdigest()
    assert receipt.crc32 == f"{zlib.crc32(lines):08x}"
    assert receipt.uri == f"s3://{ingest.bucket}/variants.jsonl.gz"
    assert receipt.profile["mean_bytes"] > 0
    json.dumps(receipt.to_json())


def test_the_object_says_what_it_is_and_is_not_decoded_by_http_clients(ingest, sample_api):
    ingest.run(cursor_spec(sample_api(records=10).url, ingest.bucket))
    head = ingest.s3.client.head_object(Bucket=ingest.bucket, Key="variants.jsonl.gz")
    assert head["ContentType"] == "application/gzip"
    assert "ContentEncoding" not in head


def test_a_small_object_is_one_request_and_a_large_one_an_upload_of_few(ingest, sample_api):
    small, large = sample_api(records=10), sample_api(records=900, record_bytes=20_000)
    ingest.s3.calls.clear()
    ingest.run(cursor_spec(small.url, ingest.bucket))
    assert ingest.s3.calls == Counter(PutObject=1)
    ingest.s3.calls.clear()
    plain = {"compression": "none", "part_size": 5 * MiB}
    receipt = ingest.run(cursor_spec(large.url, ingest.bucket, key="v.jsonl", destination=plain))
    assert receipt.parts == ingest.s3.calls["UploadPart"] >= 3
    assert ingest.s3.calls == Counter(
        CreateMultipartUpload=1, UploadPart=receipt.parts, CompleteMultipartUpload=1
    )
    assert len(lines_of(ingest.s3.get("v.jsonl"))) == 900


@pytest.mark.parametrize(
    ("path", "paginator"),
    [
        (
            "by-offset",
            OffsetPaginator(limit=40, limit_name="limit", offset_name="offset", total_path="total"),
        ),
        ("by-page", PageNumberPaginator(name="page", size=40, size_name="per_page", total_path="total")),
        ("by-link", LinkHeaderPaginator()),
    ],
)
@pytest.mark.parametrize("in_flight", [1, 4])
def test_each_kind_of_paging_reads_the_same(ingest, sample_api, path, paginator, in_flight):
    api = sample_api(records=730, page_size=40)
    spec = cursor_spec(
        api.url,
        ingest.bucket,
        request=BaseRequest(url=f"{api.url}/v1/variants/{path}"),
        paginator=paginator,
        records_path="$" if path == "by-link" else "data",
        fetch=FetchOptions(requests_in_flight=in_flight),
    )
    receipt = ingest.run(spec)
    assert lines_of(ingest.s3.get("variants.jsonl.gz")) == [r | STAMPS for r in all_records(api.url)]
    assert receipt.records == 730


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"fetch": FetchOptions(caps=Caps(pages=3))}, LimitExceeded),
        ({"fetch": FetchOptions(caps=Caps(records=100))}, LimitExceeded),
        ({"fetch": FetchOptions(caps=Caps(bytes=10_000))}, LimitExceeded),
    ],
)
def test_a_guard_that_fails_publishes_nothing(ingest, sample_api, changes, error):
    api = sample_api(records=730)
    with pytest.raises(error, match=r"page [0-9]+"):
        ingest.run(cursor_spec(api.url, ingest.bucket, **changes))
    assert ingest.s3.keys() == []
    assert ingest.s3.open_uploads() == []


def test_a_page_that_fails_for_a_while_is_asked_for_again(ingest, sample_api):
    api = sample_api(records=300, fail_page=3, fail_times=2)
    receipt = ingest.run(cursor_spec(api.url, ingest.bucket, http=fast_retries()))
    assert (receipt.records, receipt.retries) == (300, 2)


def test_a_status_that_will_not_pass_fails_at_once(ingest, sample_api):
    api = sample_api(records=300, fail_page=3, fail_status=404)
    with pytest.raises(HttpStatusError, match=r"page 3.*404"):
        ingest.run(cursor_spec(api.url, ingest.bucket))
    assert ingest.s3.keys() == []


@pytest.mark.parametrize(("on_empty", "keys"), [("write", ["v.jsonl.gz"]), ("skip", []), ("fail", [])])
def test_no_record_at_all(ingest, sample_api, on_empty, keys):
    spec = cursor_spec(sample_api(records=0).url, ingest.bucket, key="v.jsonl.gz", on_empty=on_empty)
    if on_empty == "fail":
        with pytest.raises(EmptyResult, match=r"v.jsonl.gz"):
            ingest.run(spec)
    else:
        receipt = ingest.run(spec)
        assert receipt.records == 0
        assert (receipt.uri is None) == (on_empty == "skip")
    assert ingest.s3.keys() == keys
    if keys:
        assert gzip.decompress(ingest.s3.get("v.jsonl.gz")) == b""


def test_an_object_that_is_there(ingest, sample_api):
    api = sample_api(records=30)
    ingest.s3.client.put_object(Bucket=ingest.bucket, Key="variants.jsonl.gz", Body=b"old")
    skipped = ingest.run(cursor_spec(api.url, ingest.bucket, destination={"on_exists": "skip"}))
    assert skipped.skipped
    with pytest.raises(ObjectExists):
        ingest.run(cursor_spec(api.url, ingest.bucket, destination={"on_exists": "fail"}))
    assert ingest.s3.get("variants.jsonl.gz") == b"old"
    assert api.requests()["/v1/variants"] == 0, "the API was read for nothing"
    assert ingest.run(cursor_spec(api.url, ingest.bucket)).records == 30
    assert len(lines_of(ingest.s3.get("variants.jsonl.gz"))) == 30


def test_running_a_day_twice_gives_one_object_with_the_same_lines(ingest, sample_api):
    api = sample_api(records=100)
    first, second = (ingest.run(cursor_spec(api.url, ingest.bucket)) for _ in range(2))
    assert first.sha256 == second.sha256
    assert ingest.s3.keys() == ["variants.jsonl.gz"]


@pytest.mark.parametrize(
    ("compression", "key"), [("gzip", "v.jsonl"), ("none", "v.jsonl.gz"), ("zstd", "v.jsonl.gz")]
)
def test_a_key_must_say_how_it_is_compressed(ingest, sample_api, compression, key):
    with pytest.raises(ConfigError, match=r"v.jsonl"):
        ingest.run(
            cursor_spec(
                sample_api(records=1).url, ingest.bucket, key=key, destination={"compression": compression}
            )
        )


def only_even(record):
    if record["ordinal"] % 2:
        raise ValueError("odd")
    return record


def test_a_record_that_cannot_be_transformed_names_page_and_index(ingest, sample_api):
    api = sample_api(records=100)
    odd = next(i for i, record in enumerate(all_records(api.url)) if record["ordinal"] % 2)
    with pytest.raises(TransformFailed, match=rf"page {odd // 50 + 1}, record {odd % 50}: "):
        ingest.run(cursor_spec(api.url, ingest.bucket, transforms=[only_even]))
    assert ingest.s3.keys() == []


def fail_some(record):
    if record["position"] % 3 == 0:
        raise ValueError("no")
    return record


def test_records_that_fail_go_to_quarantine_within_a_limit(ingest, sample_api):
    api = sample_api(records=100)
    records = all_records(api.url)
    bad = [i for i, record in enumerate(records) if record["position"] % 3 == 0]
    assert 0 < len(bad) < 100
    policy = QuarantinePolicy(max_records=len(bad))
    receipt = ingest.run(cursor_spec(api.url, ingest.bucket, transforms=[fail_some], quarantine=policy))
    assert (receipt.records, receipt.rejected) == (100 - len(bad), len(bad))
    assert quarantine_key("out/x.jsonl.gz") == "out/_chunkwise/x.rejected.jsonl.gz"
    assert receipt.quarantine_uri == f"s3://{ingest.bucket}/_chunkwise/variants.rejected.jsonl.gz"
    rejected = lines_of(ingest.s3.get("_chunkwise/variants.rejected.jsonl.gz"))
    assert [(r["page"], r["index"]) for r in rejected] == [(i // 50 + 1, i % 50) for i in bad]
    assert [r["record"] for r in rejected] == [records[i] for i in bad]
    strict = QuarantinePolicy(max_records=len(bad) - 1)
    with pytest.raises(QuarantineLimitExceeded):
        ingest.run(
            cursor_spec(api.url, ingest.bucket, key="x.jsonl.gz", transforms=[fail_some], quarantine=strict)
        )
    assert ingest.s3.keys() == ["_chunkwise/variants.rejected.jsonl.gz", "variants.jsonl.gz"]


def test_wider_records_and_other_keys_than_last_time_are_told(ingest, sample_api):
    narrow = ingest.run(cursor_spec(sample_api(records=60).url, ingest.bucket)).to_json()
    wide_api = sample_api(records=60, record_bytes=6_000)
    wide = ingest.run(
        cursor_spec(
            wide_api.url, ingest.bucket, previous=narrow, transforms=[lambda r: {**r, "brand_new": 1}]
        )
    )
    assert any("%" in warning or "bytes" in warning for warning in wide.warnings)
    same = ingest.run(cursor_spec(wide_api.url, ingest.bucket, previous=wide.to_json()))
    assert same.warnings == []


NO_DISK = """
    import json, resource, sys
    import boto3, requests
    from tests.core.ingest.conftest import cursor_spec
    from chunkwise.core.ingest.job import PagedIngest
    api, endpoint, bucket = sys.argv[1:]
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1",
                          aws_access_key_id="t", aws_secret_access_key="t")
    spec = cursor_spec(api, bucket, key="v.jsonl", destination={"compression": "none", "part_size": 5 << 20})
    # SIGXFSZ kills a process that writes one byte to any file
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    print(json.dumps(PagedIngest(spec, requests.Session(), client).run().to_json()))
"""


def test_no_byte_is_written_to_any_file(ingest, sample_api):
    api = sample_api(records=900, record_bytes=20_000)
    command = [sys.executable, "-c", textwrap.dedent(NO_DISK), api.url, ingest.s3.endpoint, ingest.bucket]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parts"] >= 3


def fast_retries():
    from chunkwise.core.ingest.spec import HttpOptions
    from chunkwise.core.paging.retry import RetryPolicy

    return HttpOptions(retry=RetryPolicy(base_seconds=0.01))


@pytest.mark.parametrize("on_exists", ["skip", "fail"])
def test_rejected_records_of_a_refused_commit_are_not_published(ingest, sample_api, on_exists):
    """Another writer is faster while the pages are read: neither of its objects may change."""
    api = sample_api(records=100)

    def other_writer(_progress):
        for key in ("variants.jsonl.gz", "_chunkwise/variants.rejected.jsonl.gz"):
            ingest.s3.client.put_object(Bucket=ingest.bucket, Key=key, Body=b"theirs")

    spec = cursor_spec(
        api.url,
        ingest.bucket,
        transforms=[fail_some],
        quarantine=QuarantinePolicy(max_records=100),
        destination={"on_exists": on_exists},
    )
    if on_exists == "fail":
        with pytest.raises(ObjectExists):
            ingest.run(spec, on_progress=other_writer)
    else:
        receipt = ingest.run(spec, on_progress=other_writer)
        assert receipt.skipped
        assert receipt.quarantine_uri is None
    for key in ("variants.jsonl.gz", "_chunkwise/variants.rejected.jsonl.gz"):
        assert ingest.s3.get(key) == b"theirs"


@pytest.mark.parametrize(
    "misspelt",
    [
        lambda spec: replace(spec, on_empty="bogus"),
        lambda spec: replace(spec, on_stamp_conflict="error"),
        lambda _: Guards(total_mismatch="FAIL"),
        lambda _: FetchOptions(non_finite="keep"),
        lambda _: Caps(pages="450"),
        lambda _: Caps(seconds=float("nan")),
    ],
)
def test_a_misspelt_choice_is_refused_and_means_no_other(misspelt):
    with pytest.raises(ConfigError):
        misspelt(cursor_spec("http://127.0.0.1", "bucket"))
