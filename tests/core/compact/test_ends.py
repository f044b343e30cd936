"""However a run ends, nothing is lost, and the next one mends the rest."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import nullcontext, suppress
from typing import Any

import pyarrow as pa
import pytest

from chunkwise.core.compact import holding
from chunkwise.core.compacted import is_named
from chunkwise.core.errors import ChunkwiseError, LeaseLost
from chunkwise.core.storage import Lease
from chunkwise.core.storage import lease as leasing
from chunkwise.core.units import KiB
from tests.core.compact.folder import SCALED, Folder, ids
from tests.support.faults import FOREVER, Faults
from tests.support.kills import When, expire_leases, is_killed
from tests.support.rounds import few_or_many
from tests.support.s3 import S3
from tests.support.strict_s3 import StrictS3

#: a folder whose row groups are copied, and one whose rows are written anew
JOINED, REWRITTEN = "joined/", "rewritten/"
OPTIONS: dict[str, Any] = {"join_row_group_bytes": 10 * KiB, "limits": SCALED}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "_POLL", 0.1)


def fill(folder: Folder) -> list[str]:
    """Files of both kinds; what must be there in the end."""
    for number in range(3):
        text = [f"{number * 7919 + n:064x}" for n in range(300)]
        folder.put(
            f"{JOINED}{number}.parquet", pa.table({"text": text}), compression="none", use_dictionary=False
        )
        folder.put(f"{REWRITTEN}{number}.parquet", ids(10, number * 10))
    return everything(folder)


def everything(folder: Folder) -> list[str]:
    return sorted(repr(row) for row in folder.rows())


def done(folder: Folder) -> bool:
    """Whether nothing but outputs is left."""
    names = folder.names()
    return len(names) == 2 and all(is_named(name.rpartition("/")[2]) for name in names)


def compact(s3: S3) -> None:
    Folder(s3).compact(**OPTIONS)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("when", ["before-call", "after-call"])
@few_or_many("step", 19, 1)
def test_a_kill_at_any_request_is_mended_by_the_next_run(scaled_s3: StrictS3, when: When, step: int) -> None:
    for nth in itertools.count(3 if when == "before-call" else 3 + step // 2, step):
        folder = Folder(scaled_s3)
        expected = fill(folder)
        if not is_killed(scaled_s3, nth, compact, when=when):
            assert everything(folder) == expected
            assert done(folder)
            break
        assert set(everything(folder)) == set(expected), f"killed at request {nth}"
        expire_leases(scaled_s3)
        folder.compact(**OPTIONS)
        assert everything(folder) == expected, f"killed at request {nth}"
        assert done(folder)
        for name in folder.names():
            scaled_s3.client.delete_object(Bucket=scaled_s3.bucket, Key=folder.prefix + name)
    assert nth > 30
    assert scaled_s3.open_uploads() == []


OPERATIONS = [
    "ListObjectsV2",
    "GetObject",
    "HeadObject",
    "PutObject",
    "CreateMultipartUpload",
    "UploadPartCopy",
    "UploadPart",
    "CompleteMultipartUpload",
    "DeleteObject",
    "ListMultipartUploads",
]


@pytest.mark.parametrize("way", ["refused", pytest.param("lost", marks=pytest.mark.long)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_request_that_fails_loses_nothing(
    scaled_faults: Faults, scaled_s3: StrictS3, operation: str, way: str
) -> None:
    """Refused for good, or done and never answered."""
    folder = Folder(scaled_s3)
    expected = fill(folder)
    failure: dict[str, Any] = {"status": 403} if way == "refused" else {"status": 500, "after": True}
    scaled_faults.fail(operation, times=FOREVER if way == "refused" else 2, **failure)
    # what one may do without is only warned of
    with nullcontext() if operation == "ListMultipartUploads" else suppress(ChunkwiseError):
        folder.compact(client=scaled_faults.client, **OPTIONS)
    assert set(everything(folder)) == set(expected)
    scaled_faults.clear()
    expire_leases(scaled_s3)
    folder.compact(**OPTIONS)
    assert everything(folder) == expected
    assert done(folder)


@few_or_many("rounds", 1, 10)
def test_several_at_once_have_one_effect(scaled_s3: StrictS3, rounds: int) -> None:
    for number in range(rounds):
        folder = Folder(scaled_s3, f"race{number}/")
        expected = fill(folder)
        start = threading.Barrier(3)
        errors: list[BaseException] = []

        def work(folder: Folder = folder, start: Any = start, errors: Any = errors) -> None:
            client = S3(scaled_s3.endpoint, scaled_s3.bucket).client
            try:
                start.wait(120)
                folder.compact(client=client, **OPTIONS)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert everything(folder) == expected
        assert done(folder)


def once(client: Any, operation: str, part: str, act: Any) -> None:
    """Do something right before the first request of this kind on a key like this."""
    left = [act]

    def before(params: Any, **_: Any) -> None:
        if part in params["url_path"] and left:
            left.pop()()

    client.meta.events.register(f"before-call.s3.{operation}", before)


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> list[Lease]:
    """Those that were taken."""
    taken: list[Lease] = []

    class Recorded(Lease):
        def acquire(self) -> None:
            super().acquire()
            taken.append(self)

    monkeypatch.setattr(holding, "Lease", Recorded)
    return taken


def lost(lease: Lease) -> None:
    """Return once it knows."""
    deadline = time.monotonic() + 120
    with suppress(LeaseLost):
        while time.monotonic() < deadline:
            lease.check()
            time.sleep(0.05)
        pytest.fail("the lease was not lost")


@pytest.mark.parametrize("notices", [False, True], ids=["never knows", "notices"])
@pytest.mark.parametrize("more", [False, True], ids=["the same files", "one more file"])
def test_somebody_who_was_suspended_and_goes_on_doubles_nothing(
    s3: S3, faults: Faults, leases: list[Lease], monkeypatch: pytest.MonkeyPatch, more: bool, notices: bool
) -> None:
    """In the moment before it publishes, its lease expires, and another one merges the folder."""
    folder = Folder(s3)
    if notices:  # by its next renewal
        monkeypatch.setattr(holding, "_TTL", 3.0)
    for number in range(3):
        folder.put(f"{number}.parquet", ids(5, number * 5))

    def another() -> None:
        if more:
            folder.put("3.parquet", ids(5, 15))
        s3.client.delete_object(Bucket=s3.bucket, Key=folder.prefix + holding.LOCK)
        folder.compact()
        if notices:
            lost(leases[0])

    once(faults.client, "PutObject", "compacted-", another)
    folder.compact(client=faults.client)
    expected = list(range(20 if more else 15))
    if not notices:
        assert {row["id"] for row in folder.rows()} == set(expected)
        folder.compact()
    assert sorted(row["id"] for row in folder.rows()) == expected


def test_outputs_that_share_some_files_only_are_named_and_left_alone(
    s3: S3, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only a process that was suspended between its last look and its commit can do."""
    folder = Folder(s3)
    for number in range(3):
        folder.put(f"{number}.parquet", ids(5, number * 5))

    def another() -> None:
        s3.client.delete_object(Bucket=s3.bucket, Key=folder.prefix + "0.parquet")
        folder.put("3.parquet", ids(5, 15))
        s3.client.delete_object(Bucket=s3.bucket, Key=folder.prefix + holding.LOCK)
        folder.compact()

    once(faults.client, "PutObject", "compacted-", another)
    folder.compact(client=faults.client)
    folder.put("one.parquet", ids(1, 900))
    found = folder.compact()
    assert sorted(one.reason for one in found.skipped) == ["alone", "overlaps", "overlaps"]
    assert {row["id"] for row in folder.rows()} == {*range(20), 900}


def test_a_source_that_changes_while_it_is_merged_is_left_for_the_next_time(s3: S3, faults: Faults) -> None:
    folder = Folder(s3)
    for number in range(3):
        folder.put(f"{number}.parquet", ids(5, number * 5))
    seen = []

    def change(params: Any, **_: Any) -> None:
        seen.append(params["url_path"])
        if sum(path.endswith("1.parquet") for path in seen) == 2 and len(seen) < 100:
            seen.extend(["done"] * 100)
            folder.put("1.parquet", ids(7, 100))

    faults.client.meta.events.register("before-call.s3.GetObject", change)
    found = folder.compact(client=faults.client)
    assert ({one.reason for one in found.skipped}, found.outputs) == ({"changed"}, [])
    assert len(folder.names()) == 3
    folder.compact()
    assert sorted(row["id"] for row in folder.rows()) == [*range(5), *range(10, 15), *range(100, 107)]


def test_a_source_that_is_overwritten_after_it_was_merged_is_not_deleted(s3: S3, faults: Faults) -> None:
    folder = Folder(s3)
    for number in range(2):
        folder.put(f"{number}.parquet", ids(5, number * 5))
    once(faults.client, "DeleteObject", "/0.parquet", lambda: folder.put("0.parquet", ids(7, 100)))
    found = folder.compact(client=faults.client)
    assert ([one.reason for one in found.skipped], found.deleted) == (["changed"], 1)
    folder.compact()
    assert len(folder.names()) == 1
    assert sorted(row["id"] for row in folder.rows()) == [*range(10), *range(100, 107)]


def test_something_else_under_the_name_of_an_output_is_an_error_and_costs_no_source(s3: S3) -> None:
    folder = Folder(s3)
    for number in range(2):
        folder.put(f"{number}.parquet", ids(5))
    name = folder.compact(preview=True).outputs[0].uri.rpartition("/")[2]
    folder.put(name, ids(100))
    found = folder.compact(small_bytes=900)
    assert [one.reason for one in found.skipped] == ["damaged", "damaged"]
    assert "is not the output of these sources" in found.skipped[0].detail
    assert len(folder.names()) == 3


def test_a_folder_with_an_output_that_cannot_be_read_is_left_alone(s3: S3) -> None:
    """It may have rows of the others: nobody knows."""
    folder = Folder(s3)
    for number in range(2):
        folder.put(f"{number}.parquet", ids(5))
    s3.put(f"in/compacted-{'0' * 32}.parquet", b"no Parquet, but under the name of an output")
    found = folder.compact()
    assert found.outputs == []
    assert [one.reason for one in found.skipped] == ["damaged"]
    assert len(folder.names()) == 3
