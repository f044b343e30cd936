"""Leases on a piece of work."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from chunkwise.core.errors import ConfigError, LeaseHeld, LeaseLost, UploadFailed
from chunkwise.core.storage import Lease
from chunkwise.core.storage import lease as module
from tests.support.faults import FOREVER
from tests.support.rounds import few_or_many
from tests.support.s3 import s3_client

LONG = 300.0


def lease_of(server, owner="mine", run="run-1", client=None, **options):
    return Lease(client or server.client, server.bucket, "lock", owner=owner, run=run, **options)


def record(server):
    """What the lease's object says."""
    return json.loads(server.get("lock"))


def later(seconds):
    """A clock that is so many seconds ahead of S3's."""
    return lambda: datetime.now(UTC) + timedelta(seconds=seconds)


def wait_until(condition, seconds=120.0):
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def renewers():
    return [thread for thread in threading.enumerate() if thread.name == "chunkwise-lease"]


# --- acquire and release ------------------------------------------------------------------------------------


def test_a_lease_is_one_object_for_as_long_as_the_block(s3):
    with lease_of(s3) as lease:
        lease.check()
        written = record(s3)
        assert (written["owner"], written["run"], written["ttl_seconds"]) == ("mine", "run-1", LONG)
        expires = datetime.fromisoformat(written["expires_at"])
        assert abs(expires - datetime.now(UTC) - timedelta(seconds=LONG)) < timedelta(seconds=60)
    assert s3.keys() == []
    assert renewers() == []
    assert s3.calls == Counter(PutObject=1, DeleteObject=1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_lease_is_released_when_the_block_fails(s3, error):
    with pytest.raises(error), lease_of(s3):
        raise error
    assert s3.keys() == []
    assert renewers() == []


def test_a_lease_that_is_held_says_by_whom_and_for_how_long(s3):
    with lease_of(s3, owner="host-1", run="run-7", ttl=100.0):
        other = lease_of(s3, owner="host-2", client=s3_client(s3.endpoint))
        with pytest.raises(
            LeaseHeld, match=r"s3://.*/lock is held by host-1 \(run run-7\) for (9\d|10[01]) s"
        ):
            other.acquire()
        with pytest.raises(LeaseLost, match="is not held"):
            other.check()
        other.release()
        assert record(s3)["owner"] == "host-1"
    with other:
        assert record(s3)["owner"] == "host-2"


def test_asking_for_a_held_lease_costs_two_requests(s3):
    with lease_of(s3):
        s3.calls.clear()
        with pytest.raises(LeaseHeld):
            lease_of(s3).acquire()
        assert s3.calls == Counter(PutObject=1, GetObject=1)


def test_acquiring_and_releasing_twice_does_nothing(s3):
    lease = lease_of(s3)
    lease.acquire()
    lease.acquire()
    lease.release()
    lease.release()
    assert s3.calls == Counter(PutObject=1, DeleteObject=1)
    lease.acquire()
    lease.check()
    lease.release()
    assert s3.keys() == []


@pytest.mark.parametrize("ttl", [0, -1, 8 * 86_400])
def test_a_time_that_makes_no_lease_is_refused(s3, ttl):
    with pytest.raises(ConfigError, match="ttl of a lease must be above 0"):
        lease_of(s3, ttl=ttl)


# --- expiry -------------------------------------------------------------------------------------------------


def abandoned(server, ttl=LONG):
    """Leave a lease behind, as a killed process does."""
    lease = lease_of(server, owner="dead", run="run-0", ttl=ttl)
    body = lease._body()
    server.put("lock", body)
    return body


@pytest.mark.parametrize(("age", "expired"), [(0, False), (300.9, False), (301, True), (10_000, True)])
def test_a_lease_may_be_taken_over_once_it_has_expired_and_not_before(s3, age, expired):
    """After 300 s, and one more because S3's times are whole seconds."""
    abandoned(s3)
    now = s3.head("lock")["LastModified"] + timedelta(seconds=age)
    lease = lease_of(s3, ttl=77.0, clock=lambda: now)
    if expired:
        with lease:
            assert record(s3)["owner"] == "mine"
            lease.check()
        assert s3.keys() == []
        assert s3.calls == Counter(PutObject=2, GetObject=1, DeleteObject=1)
    else:
        with pytest.raises(LeaseHeld, match=r"by dead \(run run-0\)"):
            lease.acquire()
        assert record(s3)["owner"] == "dead"


def test_a_take_over_is_logged(s3, caplog):
    abandoned(s3)
    with caplog.at_level(logging.WARNING), lease_of(s3, clock=later(400)):
        pass
    assert "Taking over the lease" in caplog.text
    assert "of dead (run run-0), which expired" in caplog.text


@pytest.mark.parametrize("year", [1990, 2090])
def test_a_wrong_local_clock_does_no_harm(s3, monkeypatch, year):
    """The age of a lease is the difference of two times of S3's."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(year, 1, 1, tzinfo=tz)

    monkeypatch.setattr(module, "datetime", Wrong)
    with lease_of(s3) as held, pytest.raises(LeaseHeld, match=r"for (29\d|30[01]) s more"):
        lease_of(s3).acquire()
    s3.put("lock", held._body().replace(b"300.0", b"0.001"))
    wait_until(lambda: _acquired(lease_of(s3)))


def _acquired(lease):
    try:
        lease.acquire()
    except LeaseHeld:
        return False
    lease.release()
    return True


def test_a_lease_expires_by_s3s_own_time(s3):
    """Without any clock of the test."""
    abandoned(s3, ttl=0.5)
    wait_until(lambda: _acquired(lease_of(s3)))


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"owner": 1}', b'{"ttl_seconds": -5}'])
def test_an_object_that_is_no_lease_expires_too(s3, body):
    s3.put("lock", body)
    with pytest.raises(LeaseHeld, match="held by somebody unknown for"):
        lease_of(s3).acquire()
    with lease_of(s3, clock=later(302)) as lease:
        lease.check()


def test_who_was_overtaken_finds_out_and_leaves_the_other_alone(s3):
    slow = lease_of(s3, owner="slow", ttl=0.6)
    slow.acquire()
    with lease_of(s3, owner="next", client=s3_client(s3.endpoint), clock=later(100)) as following:
        wait_until(lambda: _lost(slow))
        with pytest.raises(LeaseLost, match=r"lock was taken over by next \(run run-1\)"):
            slow.check()
        wait_until(lambda: len(renewers()) == 1)
        slow.release()
        following.check()
        assert record(s3)["owner"] == "next"
    assert s3.keys() == []


def _says(lease, text):
    """Whether the lease is lost, with this text."""
    try:
        lease.check()
    except LeaseLost as error:
        return text in str(error)
    return False


def _lost(lease):
    return _says(lease, "taken over") or _says(lease, "is gone")


def test_a_lease_whose_object_was_removed_is_lost(s3):
    with lease_of(s3, ttl=0.3) as lease:
        s3.client.delete_object(Bucket=s3.bucket, Key="lock")
        wait_until(lambda: _lost(lease))
        with pytest.raises(LeaseLost, match="lock is gone"):
            lease.check()
    assert s3.keys() == []


# --- renewal ------------------------------------------------------------------------------------------------


@pytest.fixture
def often(monkeypatch):
    """Renewals come so often that none of them is urgent, however slow the machine."""
    monkeypatch.setattr(module, "_RENEW_AFTER", 0.1 / LONG)
    monkeypatch.setattr(module, "_TRY_AGAIN_AFTER", 0.03 / LONG)


@pytest.mark.usefixtures("often")
def test_a_lease_is_renewed_for_as_long_as_the_block_takes(s3):
    """And is a new object each time, so that who would take over the old one fails."""
    with lease_of(s3, ttl=LONG) as lease:
        first = s3.head("lock")["ETag"]
        wait_until(lambda: record(s3)["renewals"] >= 4)
        lease.check()
        assert s3.head("lock")["ETag"] != first
    assert s3.keys() == []


@pytest.mark.usefixtures("often")
def test_a_renewal_whose_answer_was_lost_is_recognised(s3, faults):
    with lease_of(faults, ttl=LONG) as lease:
        faults.fail("PutObject", after=True, reset=True, times=1)
        wait_until(lambda: record(s3)["renewals"] >= 3)
        lease.check()
    assert s3.keys() == []


@pytest.mark.usefixtures("often")
def test_a_renewal_of_which_nothing_was_heard_is_recognised_by_the_next_one(s3, faults, caplog):
    """It arrived, but all its attempts got errors: the object is the own one by its nonce."""
    with lease_of(faults, ttl=LONG) as lease, caplog.at_level(logging.WARNING):
        faults.fail("HeadObject", status=500, times=FOREVER)
        faults.fail("PutObject", after=True, status=500, times=1)
        faults.fail("PutObject", status=500, times=7)
        wait_until(lambda: record(s3)["renewals"] >= 3)
        lease.check()
    assert "was not renewed" in caplog.text
    assert s3.keys() == []


def test_a_lease_that_cannot_be_renewed_is_lost_and_found_again(s3, faults):
    """As long as nobody took it over it has never been anybody else's."""
    with lease_of(faults, ttl=0.5) as lease:
        faults.fail("PutObject", status=503, times=FOREVER)
        wait_until(lambda: _says(lease, "could not be renewed for 0.5 s: it has expired"))
        faults.clear()
        wait_until(lambda: not _says(lease, ""))
    assert s3.keys() == []


# --- faults of acquire and release --------------------------------------------------------------------------


def test_a_lease_whose_answer_was_lost_is_held(s3, faults):
    faults.fail("PutObject", after=True, reset=True, times=3)
    with lease_of(faults) as lease:
        lease.check()
        assert record(s3)["owner"] == "mine"
    assert s3.keys() == []


def test_a_lease_that_could_not_be_acquired_leaves_nothing_behind(s3, faults):
    """Not even the object of a request whose answer never came."""
    faults.fail("PutObject", after=True, reset=True, times=FOREVER)
    faults.fail("HeadObject", status=403, times=FOREVER)
    with pytest.raises(UploadFailed, match="may be there or not"):
        lease_of(faults).acquire()
    assert s3.keys() == []
    assert renewers() == []


def test_an_interrupt_while_a_lease_is_acquired_leaves_nothing_behind(s3):
    def interrupt(**_):
        raise KeyboardInterrupt

    s3.client.meta.events.register("after-call.s3.PutObject", interrupt)
    with pytest.raises(KeyboardInterrupt), lease_of(s3):
        pass
    assert s3.keys() == []


def test_a_lease_is_acquired_when_the_other_one_ends_in_between(s3, faults):
    first = lease_of(s3)
    first.acquire()
    held = faults.hold("GetObject", times=1)
    results = []
    thread = threading.Thread(target=lambda: results.append(_acquired(lease_of(faults))))
    thread.start()
    assert held.arrived.wait(20)
    first.release()
    held.release.set()
    thread.join(20)
    assert results == [True]


def test_a_lease_that_goes_from_hand_to_hand_is_given_up(s3, faults):
    """Each time we look, it has just been released."""
    faults.fail("PutObject", status=412, times=FOREVER)
    with pytest.raises(LeaseHeld, match="from hand to hand"):
        lease_of(faults).acquire()
    assert faults.calls == Counter(PutObject=5, GetObject=5)


@pytest.mark.parametrize("status", [403, 503])
def test_a_release_that_fails_does_not_fail_the_work(s3, faults, caplog, status):
    faults.fail("DeleteObject", status=status, times=FOREVER)
    with caplog.at_level(logging.WARNING), lease_of(faults):
        pass
    assert "lock stays until it expires" in caplog.text
    assert s3.keys() == ["lock"]


def test_a_release_whose_answer_was_lost_has_happened(s3, faults):
    with lease_of(faults):
        faults.fail("DeleteObject", after=True, reset=True)
    assert s3.keys() == []


def test_a_release_finds_its_own_object_after_a_renewal_that_it_has_not_heard_of(s3):
    lease = lease_of(s3)
    lease.acquire()
    s3.put("lock", json.dumps({**record(s3), "renewals": 1}).encode())
    lease.release()
    assert s3.keys() == []


# --- races --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stale", [False, True], ids=["new", "expired"])
@few_or_many("rounds", 4, 25)
def test_exactly_one_of_many_gets_the_lease(s3, faults, stale, rounds):
    others = 4
    faults.one_at_a_time = True
    clients = [s3_client(faults.endpoint) for _ in range(others)]
    body = abandoned(s3, ttl=50.0)
    s3.client.delete_object(Bucket=s3.bucket, Key="lock")
    for number in range(rounds):
        key, results = f"lock-{number}", []
        if stale:
            s3.put(key, body)
        barrier = threading.Barrier(others)

        def run(client, owner, key=key, results=results, barrier=barrier):
            lease = Lease(client, s3.bucket, key, owner=owner, run="1", clock=later(60))
            barrier.wait(30)
            try:
                lease.acquire()
            except LeaseHeld as error:
                results.append(error)
            else:
                results.append(lease)

        threads = [
            threading.Thread(target=run, args=(client, f"owner-{index}"))
            for index, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        holders = [result for result in results if isinstance(result, Lease)]
        assert len(results) == others
        assert len(holders) == 1, results
        holders[0].release()
    assert s3.keys() == []


def test_work_under_a_lease_is_done_by_one_at_a_time(s3, faults):
    """Threads that all want the lease again and again, with lost answers in between."""
    faults.one_at_a_time = True
    faults.fail("PutObject", after=True, reset=True, times=15)
    faults.fail("DeleteObject", after=True, reset=True, times=5)
    inside, most, done = [0], [0], [0]
    lock = threading.Lock()

    def work(owner):
        client = s3_client(faults.endpoint)
        finished = 0
        while finished < 8:
            try:
                with Lease(client, s3.bucket, "lock", owner=owner, run="1"):
                    with lock:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    time.sleep(0.002)
                    with lock:
                        inside[0] -= 1
                        done[0] += 1
                    finished += 1
            except LeaseHeld:
                time.sleep(0.005)

    threads = [threading.Thread(target=work, args=(f"owner-{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert (most, done) == ([1], [32])
    assert s3.keys() == []
