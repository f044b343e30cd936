"""The sample API: the same records every time, by every way of paging."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from dev.processes import REPOSITORY
from dev.sample_api import Options, Records, SampleApi, send_all

Start = Callable[..., SampleApi]
COMMAND = [sys.executable, "-m", "dev.sample_api"]


def by_cursor(url: str, limit: int) -> Iterator[dict[str, Any]]:
    cursor = None
    while True:
        page = requests.get(
            f"{url}/v1/variants", params={"cursor": cursor, "limit": limit}, timeout=10
        ).json()
        yield page
        cursor = page["paging"]["next"]
        if cursor is None:
            return


def by_offset(url: str, limit: int) -> Iterator[dict[str, Any]]:
    offset = 0
    while True:
        query = {"offset": offset, "limit": limit}
        page = requests.get(f"{url}/v1/variants/by-offset", params=query, timeout=10).json()
        yield page
        offset += len(page["data"])
        if offset >= page["total"]:
            return


def by_page(url: str, limit: int) -> Iterator[dict[str, Any]]:
    number = 1
    while True:
        query = {"page": number, "per_page": limit}
        page = requests.get(f"{url}/v1/variants/by-page", params=query, timeout=10).json()
        yield page
        if number >= page["pages"]:
            return
        number += 1


def by_link(url: str, limit: int) -> Iterator[dict[str, Any]]:
    target = f"{url}/v1/variants/by-link?per_page={limit}"
    while True:
        response = requests.get(target, timeout=10)
        yield {"data": response.json(), "total": int(response.headers["X-Total-Count"])}
        if "next" not in response.links:
            return
        target = response.links["next"]["url"]


def test_records_are_the_same_bytes_on_every_run_and_python() -> None:
    """The digests were taken with Python 3.11 and 3.13; a change of a record shows here."""
    records = Records(count=1_000, record_bytes=2_000)
    digest = hashlib.sha256(b"\n".join(records.record(number) for number in range(1_000)))
    assert digest.hexdigest() == "8539fa32e74b7033a7997e7d7dfe05083243edcb11ccde461a5d194e9f7b4703"
    assert (
        hashlib.sha256(Records(count=9, record_bytes=20_000, seed=7).record(8)).hexdigest()
        == "71ebcab475a9d6a2e9462687184a1d1bf0ca208c90ff85210a641d5dbec3b633"
    )


def test_a_record_does_not_depend_on_what_was_asked_before() -> None:
    forward, backward = (Records(count=100, record_bytes=1_500) for _ in range(2))
    there = [forward.record(number) for number in range(100)]
    assert [backward.record(number) for number in reversed(range(100))] == there[::-1]
    assert len(set(there)) == 100


def test_another_seed_gives_other_records() -> None:
    one, other = (Records(count=1, record_bytes=1_500, seed=seed).record(0) for seed in (1, 2))
    assert one != other


@pytest.mark.parametrize("width", [1_000, 2_000, 20_000, 200_000])
def test_records_are_as_wide_as_asked(width: int) -> None:
    """The mean is within 1 %, of all records and of one page of them, and no record is far from it."""
    records = Records(count=100_000, record_bytes=width)
    sizes = [len(records.record(number)) for number in range(600)]
    assert sum(sizes) / len(sizes) == pytest.approx(width, rel=0.01)
    assert sum(sizes[300:350]) / 50 == pytest.approx(width, rel=0.01)
    assert 0.65 * width < min(sizes) < max(sizes) < 1.35 * width


def test_records_compress_like_real_ones() -> None:
    records = Records(count=100, record_bytes=20_000)
    text = b"\n".join(records.record(number) for number in range(100))
    assert 8 < len(text) / len(gzip.compress(text, 6)) < 15


def test_records_have_the_date_forms_and_the_numbers_that_tools_get_wrong() -> None:
    text = Records(count=1, record_bytes=20_000).record(0).decode()
    record = json.loads(text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date_created"])
    assert re.fullmatch(r"[A-Z][a-z]{2} \d\d, \d{4}", record["date_last_evaluated"])
    assert record["date_updated_ms"] > 1_300_000_000_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+02:00", record["submitted_at"])
    assert record["allele_key"] >= 2**64
    assert re.search(r'"quality":\d+\.\d\d0,', text)
    assert record["submissions"][0]["conditions"][0]["xrefs"]


@pytest.mark.parametrize("walk", [by_cursor, by_offset, by_page, by_link])
@pytest.mark.parametrize(("count", "limit"), [(0, 10), (1, 10), (60, 20), (61, 20)])
def test_every_way_of_paging_gives_every_record_once(
    sample_api: Start, walk: Callable[[str, int], Iterator[dict[str, Any]]], count: int, limit: int
) -> None:
    api = sample_api(records=count)
    pages = list(walk(api.url, limit))
    expected = [json.loads(api.records.record(number)) for number in range(count)]
    assert [record for page in pages for record in page["data"]] == expected
    assert {page["total"] for page in pages} == {count}
    assert requests.get(f"{api.url}/v1/variants/count", timeout=10).json() == {"count": count}


def test_a_page_has_the_exact_bytes_of_its_records(sample_api: Start) -> None:
    api = sample_api(records=50, page_size=20)
    body = requests.get(f"{api.url}/v1/variants/by-link?page=2", timeout=10).content
    assert body == b"[" + b",".join(api.records.record(number) for number in range(20, 40)) + b"]"


def test_a_page_of_more_buffers_than_one_system_call_takes_arrives_whole(sample_api: Start) -> None:
    api = sample_api(records=5_000, record_bytes=1_000)
    page = requests.get(f"{api.url}/v1/variants?limit=5000", timeout=30).json()
    assert [record["ordinal"] for record in page["data"]] == list(range(5_000))


def test_buffers_arrive_whole_when_the_system_takes_a_part_of_them() -> None:
    """A socket with a timeout sends what fits into its buffer at the moment."""
    buffers = [bytes([number]) * (number * 700) for number in range(100)]
    sender, receiver = socket.socketpair()
    with sender, receiver, ThreadPoolExecutor(1) as pool:
        sender.settimeout(10)
        sending = pool.submit(send_all, sender, buffers)
        sending.add_done_callback(lambda _: sender.shutdown(socket.SHUT_WR))
        received = b"".join(iter(lambda: receiver.recv(10_000), b""))
        sending.result()
    assert received == b"".join(buffers)


def test_one_connection_serves_many_pages(sample_api: Start) -> None:
    api = sample_api(records=100, page_size=10)
    with socket.create_connection(
        (api.url.split("/")[2].split(":")[0], int(api.url.rsplit(":", 1)[1]))
    ) as raw:
        reader = raw.makefile("rb")
        for _ in range(5):
            raw.sendall(b"GET /v1/variants/count HTTP/1.1\r\nHost: api\r\n\r\n")
            head = b"".join(iter(reader.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 200")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
            assert json.loads(reader.read(length)) == {"count": 100}


def test_a_token_is_needed_when_one_is_set(sample_api: Start) -> None:
    api = sample_api(records=5, token="right")
    url = f"{api.url}/v1/variants"
    assert requests.get(url, timeout=10).status_code == 401
    assert requests.get(url, timeout=10, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert requests.get(url, timeout=10, headers={"Authorization": "Bearer right"}).status_code == 200
    assert requests.get(f"{api.url}/healthz", timeout=10).status_code == 200


def test_a_page_fails_as_often_as_asked(sample_api: Start) -> None:
    api = sample_api(records=30, page_size=10, fail_page=2, fail_status=503, fail_times=2)
    first = requests.get(f"{api.url}/v1/variants", timeout=10)
    cursor = first.json()["paging"]["next"]
    second = [requests.get(f"{api.url}/v1/variants?cursor={cursor}", timeout=10) for _ in range(3)]
    assert [response.status_code for response in second] == [503, 503, 200]
    assert second[2].json()["data"][0]["ordinal"] == 10
    assert api.requests() == {"/v1/variants": 4}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/variants?cursor=nonsense", 400),
        ("/v1/variants?cursor=LTEuMA", 400),
        ("/v1/variants?limit=0", 400),
        ("/v1/variants/by-page?page=x", 400),
        ("/v2/variants", 404),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(sample_api: Start, path: str, status: int) -> None:
    response = requests.get(sample_api(records=5).url + path, timeout=10)
    assert response.status_code == status
    assert response.json()["error"]


def test_a_limit_above_the_maximum_is_cut(sample_api: Start) -> None:
    api = sample_api(records=50, max_limit=20)
    assert len(requests.get(f"{api.url}/v1/variants?limit=50", timeout=10).json()["data"]) == 20


def test_several_clients_read_at_once(sample_api: Start) -> None:
    api = sample_api(records=200)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: sum(len(page["data"]) for page in by_cursor(api.url, 10)), range(4)))
    assert found == [200] * 4


def test_a_page_of_an_old_connection_is_not_served_after_stop() -> None:
    api = SampleApi(Options(records=5, record_bytes=1_000))
    with api, requests.Session() as session:
        session.get(f"{api.url}/healthz", timeout=10)
        api.stop()
        with pytest.raises(requests.ConnectionError):
            session.get(f"{api.url}/healthz", timeout=10)


def test_the_command_says_where_it_is_and_stops_on_sigterm() -> None:
    with subprocess.Popen(
        [*COMMAND, "--records", "7", "--record-bytes", "1000"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert requests.get(f"{url}/v1/variants/count", timeout=10).json() == {"count": 7}
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_the_command_says_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--port", str(port)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
    assert "--port" in done.stderr


def test_the_command_refuses_records_that_are_too_narrow() -> None:
    done = subprocess.run(
        [*COMMAND, "--record-bytes", "10"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (2, "sample API: record bytes must be 1000 or more, got 10\n")
