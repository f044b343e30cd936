"""What a failed try leaves behind, and what the next one makes of it."""

import json
import threading
import time
from dataclasses import replace

import pytest
import requests

from chunkwise.core.errors import EmptyResult, Killed, LimitExceeded, RetriesExhausted
from chunkwise.core.ingest.job import PagedIngest
from chunkwise.core.ingest.spec import HttpOptions
from chunkwise.core.paging.fetcher import FetchOptions
from chunkwise.core.paging.guards import Caps
from chunkwise.core.paging.retry import RetryPolicy
from chunkwise.core.units import MiB
from tests.core.ingest.conftest import STAMPS, all_records, cursor_spec, lines_of

PLAIN = {"compression": "none", "part_size": 7 * MiB}
ONCE = HttpOptions(retry=RetryPolicy(attempts=1, base_seconds=0.001))


class Store:
    """Keeps the state as text, as a database would."""

    def __init__(self):
        self.text = None

    def get(self):
        return None if self.text is None else json.loads(self.text)

    def set(self, value):
        self.text = json.dumps(value)

    def clear(self):
        self.text = None


@pytest.fixture
def job(ingest, sample_api):
    """A job of 18 pages of 1 MB; page 15 fails once, and a checkpoint lies before it."""

    class Job:
        api = sample_api(records=900, record_bytes=20_000, fail_page=15)
        store = Store()

        def spec(self, **changes):
            return cursor_spec(
                self.api.url, ingest.bucket, key="v.jsonl", destination=PLAIN, **{"http": ONCE, **changes}
            )

        def run(self, *, will_retry=True, **changes):
            return PagedIngest(
                self.spec(**changes),
                requests.Session(),
                ingest.s3.client,
                state=self.store,
                will_retry=will_retry,
            ).run()

        def pages_read(self):
            return self.api.requests()["/v1/variants"]

        def check(self):
            assert lines_of(ingest.s3.get("v.jsonl")) == [r | STAMPS for r in all_records(self.api.url)]
            assert ingest.s3.open_uploads() == []
            assert ingest.s3.keys() == ["v.jsonl"]
            assert self.store.text is None

    job = Job()
    job.s3 = ingest.s3
    return job


def test_parts_under_way_are_waited_for_when_a_page_fails(job):
    """Else what was read before would be read again, and the upload be given up."""

    def hold(**_):
        deadline = time.monotonic() + 120
        while job.pages_read() < 15 and time.monotonic() < deadline:
            time.sleep(0.01)

    job.s3.client.meta.events.register("before-call.s3.UploadPart", hold, unique_id="hold")
    with pytest.raises(RetriesExhausted, match=r"page 15"):
        job.run()
    job.s3.client.meta.events.unregister("before-call.s3.UploadPart", unique_id="hold")
    assert len(job.s3.open_uploads()) == 1
    assert job.run().resumed_at_page > 5
    job.check()


def test_the_next_try_goes_on_in_the_same_upload(job):
    with pytest.raises(RetriesExhausted, match=r"page 15"):
        job.run()
    assert job.s3.keys() == []
    assert len(job.s3.open_uploads()) == 1
    assert len(job.store.text) < 20_000
    read = job.pages_read()
    job.s3.calls.clear()
    receipt = job.run()
    assert receipt.resumed_at_page is not None
    assert receipt.resumed_at_page > 5
    assert job.pages_read() - read == 18 - receipt.resumed_at_page + 1, "pages were read twice"
    assert job.s3.calls["CreateMultipartUpload"] == 0
    assert (receipt.records, receipt.pages) == (900, 18)
    undisturbed = PagedIngest(
        replace(job.spec(), destination=replace(job.spec().destination, key="w.jsonl")),
        requests.Session(),
        job.s3.client,
    ).run()
    job.s3.client.delete_object(Bucket=job.s3.bucket, Key="w.jsonl")
    assert (receipt.sha256, receipt.crc32, receipt.uncompressed_bytes) == (
        undisturbed.sha256,
        undisturbed.crc32,
        undisturbed.uncompressed_bytes,
    )
    for name in ("records", "mean_bytes", "max_bytes", "keys"):
        assert receipt.profile[name] == undisturbed.profile[name]
    job.check()


def test_without_another_try_nothing_is_left(job):
    with pytest.raises(RetriesExhausted):
        job.run(will_retry=False)
    assert (job.s3.keys(), job.s3.open_uploads(), job.store.text) == ([], [], None)


def test_an_error_that_will_not_pass_leaves_nothing_for_a_try_that_will_not_come(job):
    with pytest.raises(LimitExceeded):
        job.run(fetch=FetchOptions(caps=Caps(pages=12)))
    assert (job.s3.keys(), job.s3.open_uploads(), job.store.text) == ([], [], None)


@pytest.mark.parametrize(
    "change", [{"stamps": {"other": 1}}, {"records_path": ["data"]}, {"on_stamp_conflict": "keep"}]
)
def test_another_job_starts_again_and_says_what_differs(job, change, caplog):
    with pytest.raises(RetriesExhausted):
        job.run()
    (old,) = job.s3.open_uploads()
    receipt = job.run(**change)
    assert receipt.resumed_at_page is None
    assert "differs in " + ("stamps" if "records_path" not in change else "records_path") in caplog.text
    assert job.s3.open_uploads() == []
    assert len(lines_of(job.s3.get("v.jsonl"))) == 900
    assert old not in job.s3.open_uploads()


def test_a_lost_upload_starts_again(job):
    with pytest.raises(RetriesExhausted):
        job.run()
    upload = job.s3.client.list_multipart_uploads(Bucket=job.s3.bucket)["Uploads"][0]
    job.s3.client.abort_multipart_upload(Bucket=job.s3.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    receipt = job.run()
    assert receipt.resumed_at_page is None
    job.check()


def test_an_expired_cursor_starts_again(job, monkeypatch):
    with pytest.raises(RetriesExhausted):
        job.run()
    state = json.loads(job.store.text)
    request = json.loads(state["fetch"]["request"])
    request["query"]["cursor"] = "expired"
    state["fetch"]["request"] = json.dumps(request)
    job.store.set(state)
    receipt = job.run()
    assert receipt.resumed_at_page is None
    job.check()


@pytest.mark.parametrize(
    "state", [{}, {"version": 0}, {"version": 1, "fetch": 3}, {"version": 1, "fingerprint": {}}]
)
def test_a_state_that_cannot_be_read_starts_again(job, state):
    job.store.set(state)
    job.api.page_fails(15)
    job.run()
    job.check()


def test_an_upload_without_a_checkpoint_is_found_and_aborted(job):
    """A process that is killed right after its upload began has kept the upload's id."""
    upload = job.s3.client.create_multipart_upload(Bucket=job.s3.bucket, Key="v.jsonl")
    job.store.set(
        {
            "version": 1,
            "open": {"Bucket": job.s3.bucket, "Key": "v.jsonl", "UploadId": upload["UploadId"]},
        }
    )
    job.api.page_fails(15)
    job.run()
    job.check()


def test_the_id_of_an_upload_is_kept_as_soon_as_it_is_open(job):
    """One page of several parts: no checkpoint is possible before its end."""
    kept = []
    store = job.store
    store.set = kept.append
    job.api.page_fails(15)
    job.run()
    assert "open" in kept[0]
    assert kept[0]["open"]["Key"] == "v.jsonl"


@pytest.mark.parametrize("will_retry", [True, False])
def test_a_kill_ends_it_soon_and_keeps_only_what_is_to_be_continued(job, will_retry):
    job.api.page_fails(15)
    reached = threading.Event()

    def on_progress(progress):
        if progress.pages == 12:
            reached.set()
            killer.join()

    running = PagedIngest(
        job.spec(),
        requests.Session(),
        job.s3.client,
        state=job.store,
        will_retry=will_retry,
        on_progress=on_progress,
    )
    killer = threading.Thread(target=lambda: (reached.wait(20), running.kill()))
    killer.start()
    with pytest.raises(Killed):
        running.run()
    assert job.s3.keys() == []
    assert len(job.s3.open_uploads()) == (1 if will_retry else 0)
    assert (job.store.text is not None) == will_retry
    if will_retry:
        assert job.run().resumed_at_page is not None
        job.check()


def test_an_interrupt_leaves_nothing_where_no_try_follows(job):
    job.api.page_fails(15)

    def interrupt(progress):
        if progress.pages == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PagedIngest(
            job.spec(), requests.Session(), job.s3.client, state=job.store, on_progress=interrupt
        ).run()
    assert (job.s3.keys(), job.s3.open_uploads(), job.store.text) == ([], [], None)


def test_an_empty_result_fails_and_forgets(ingest, sample_api):
    store = Store()
    spec = cursor_spec(sample_api(records=0).url, ingest.bucket, on_empty="fail")
    with pytest.raises(EmptyResult):
        PagedIngest(spec, requests.Session(), ingest.s3.client, state=store, will_retry=True).run()
    assert (ingest.s3.keys(), store.text) == ([], None)
