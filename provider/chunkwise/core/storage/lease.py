"""A lease on a piece of work: one small object that says who is at it, and until when."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Annotated, Any, Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.errors import (
    ConfigError,
    LeaseHeld,
    LeaseLost,
    ObjectChanged,
    ObjectExists,
    StorageError,
)
from chunkwise.core.storage import objects
from chunkwise.core.storage.objects import Small
from chunkwise.core.units import KiB

log = logging.getLogger(__name__)

DEFAULT_TTL: Final = 300.0
_MAX_TTL: Final = 7 * 86_400.0
#: shares of the lease's time after which it is renewed, and after a renewal that failed
_RENEW_AFTER: Final = 1 / 3
_TRY_AGAIN_AFTER: Final = 1 / 10
#: times of S3 are whole seconds: what looks 300 s old may be 299 s old
_GRAIN: Final = timedelta(seconds=1)
#: others that come and go while we try
_ROUNDS: Final = 5
#: seconds that a release waits for a renewal under way
_GRACE: Final = 10.0
_MAX_RECORD: Final = 64 * KiB
#: seconds that :meth:`Lease.wait` waits, and from one look to the next
_WAIT: Final = 600.0
_POLL: Final = 2.0


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the object holds.

    :param owner: who holds the lease.
    :param run: which run of it.
    :param nonce: tells one acquisition from every other one.
    :param ttl_seconds: how long it holds after it was written.
    :param renewals: makes every writing another object (another ETag).
    :param acquired_at: on the owner's clock, for people.
    :param expires_at: on the owner's clock, for people; what counts is when S3 says that the object was
        written, and ``ttl_seconds``.
    """

    owner: str
    run: str
    nonce: str
    ttl_seconds: Annotated[float, msgspec.Meta(gt=0, le=_MAX_TTL)]
    renewals: int
    acquired_at: datetime
    expires_at: datetime


class Lease:
    """Hold an object for as long as a block of work takes, so that others do not do the same work.

    A lease saves work, it does not give safety: a process that was suspended does not know that its lease has
    been taken over, and nothing stops what it has already sent. What must happen once is decided by a
    condition on the write itself.

    Renewed every third of its time in a thread, by a write under the condition that nobody else wrote. Once
    it has expired, whoever wants it takes it over, by the same condition. Its age is the difference of two
    times of S3's own clock (Last-Modified and Date of one answer), so that a wrong local clock does no harm.

    :param client: boto3 S3 client.
    :param bucket: of the lease's object.
    :param key: of the same.
    :param owner: who holds it, for whoever finds it (host, task); no secret.
    :param run: which run of it.
    :param ttl: seconds that it holds without a renewal, up to a week.
    :param clock: the time, with its zone, instead of S3's Date.
    :param extra_args: more arguments as for ``put_object``; each goes to the calls that know it.
    :raises ConfigError: ``ttl`` is out of range.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        key: str,
        *,
        owner: str,
        run: str,
        ttl: float = DEFAULT_TTL,
        clock: Callable[[], datetime] | None = None,
        extra_args: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 < ttl <= _MAX_TTL:
            raise ConfigError(f"ttl of a lease must be above 0 and at most {_MAX_TTL:.0f} s, not {ttl}")
        self.uri = f"s3://{bucket}/{key}"
        self._client, self._bucket, self._key = client, bucket, key
        self._owner, self._run, self._ttl = owner, run, ttl
        self._clock = clock
        self._extra_args = extra_args
        self._nonce = ""
        self._renewals = 0
        self._acquired_at = datetime.now(UTC)
        self._valid_until = 0.0  # time.monotonic
        self._etag: str | None = None
        self._lost: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Take the lease, or take over one that has expired. Does nothing while it is held.

        :raises LeaseHeld: somebody else holds it; names the owner and the seconds that are left.
        :raises UploadFailed: S3 refuses to write it, or failed at every attempt.
        :raises ReadFailed: the same, of reading it.
        """
        if self._etag is not None:
            return
        self._nonce, self._renewals, self._lost = uuid.uuid4().hex, 0, None
        try:
            self._etag = self._take()
        except LeaseHeld:
            raise
        except BaseException:
            self._forget()  # it may be there although no answer came
            raise
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._keep, args=(self._stop,), name="chunkwise-lease", daemon=True
        )
        self._thread.start()

    def wait(self, *, look: Callable[[], bool] = lambda: True) -> bool:
        """Take the lease as soon as nobody else holds it, at most for 10 minutes.

        :param look: asked each time that somebody else holds it: whether there still is something to do. What
            it raises goes on to the caller.
        :returns: whether the lease was taken; ``False`` as soon as there is nothing to do.
        :raises LeaseHeld: somebody else still holds it.
        :raises StorageError: as :meth:`acquire`.
        """
        deadline = time.monotonic() + _WAIT
        while True:
            try:
                self.acquire()
                return True
            except LeaseHeld as error:
                if not look():
                    return False
                if time.monotonic() >= deadline:
                    raise
                log.info("%s; waiting", error)
                time.sleep(_POLL)

    def check(self) -> None:
        """Whether the lease still holds, as far as this process can know. Makes no request.

        :raises LeaseLost: somebody took it over, or it was not renewed in time.
        """
        if self._lost is not None:
            raise LeaseLost(self._lost)
        if self._etag is None:
            raise LeaseLost(f"the lease {self.uri} is not held")
        if time.monotonic() >= self._valid_until:
            raise LeaseLost(f"the lease {self.uri} could not be renewed for {self._ttl:g} s: it has expired")

    def release(self) -> None:
        """Give it back: delete the object, if it still is the own one. Calling it again does nothing.

        Raises nothing when S3 fails: what was done under the lease is done, and the lease expires by itself.
        """
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(_GRACE)
        etag, self._etag = self._etag, None
        if etag is None:
            return
        try:
            self._delete(etag)
        except ObjectChanged:
            self._forget()  # a renewal whose answer was lost, or somebody else's
        except StorageError as error:
            log.warning("The lease %s stays until it expires: %s", self.uri, error)

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # --- acquire --------------------------------------------------------------------------------------------

    def _take(self) -> str:
        self._acquired_at = self._now(None)
        for _ in range(_ROUNDS):
            started = time.monotonic()
            try:
                etag = objects.put_new(
                    self._client, self._bucket, self._key, self._body(), extra_args=self._extra_args
                )
            except ObjectExists:
                found = self._read()
                if found is None:
                    continue  # released in between
                self._check_expired(found)
                try:
                    etag = self._put(found.etag)
                except ObjectChanged:
                    continue
            self._valid_until = started + self._ttl
            return etag
        raise LeaseHeld(f"the lease {self.uri} goes from hand to hand: others took it {_ROUNDS} times")

    def _check_expired(self, found: Small) -> None:
        """Return if the lease that was found is nobody's any more."""
        record = _record(found)
        # what cannot be read is a lease of somebody unknown, for as long as the own one
        ttl = timedelta(seconds=self._ttl if record is None else record.ttl_seconds)
        who = "somebody unknown" if record is None else f"{record.owner} (run {record.run})"
        left = (found.last_modified + ttl + _GRAIN - self._now(found)).total_seconds()
        if left > 0:
            raise LeaseHeld(
                f"the lease {self.uri} is held by {who} for {left:.0f} s more, or longer if it is renewed"
            )
        log.warning("Taking over the lease %s of %s, which expired %.0f s ago", self.uri, who, -left)

    def _now(self, answer: Small | None) -> datetime:
        if self._clock is not None:
            return self._clock()
        said = None if answer is None else answer.answered_at
        return said or datetime.now(UTC)

    # --- renew ----------------------------------------------------------------------------------------------

    def _keep(self, stop: threading.Event) -> None:
        """Renew until the end; a failed renewal is tried again sooner."""
        pause = self._ttl * _RENEW_AFTER
        while self._lost is None and not stop.wait(pause):
            try:
                self._renew()
                pause = self._ttl * _RENEW_AFTER
            except Exception as error:  # whatever it is, the next renewal may succeed
                pause = self._ttl * _TRY_AGAIN_AFTER
                left = self._valid_until - time.monotonic()
                log.warning("The lease %s was not renewed, %.0f s left: %s", self.uri, left, error)

    def _renew(self) -> None:
        if self._etag is None:
            return
        started = time.monotonic()
        try:
            self._renewals += 1
            self._etag = self._put(self._etag)
        except ObjectChanged:
            found = self._read()
            record = None if found is None else _record(found)
            if found is None or record is None or record.nonce != self._nonce:
                who = "is gone" if record is None else f"was taken over by {record.owner} (run {record.run})"
                self._lost = f"the lease {self.uri} {who}"
                log.warning("%s", self._lost)
                return
            # An earlier renewal arrived, and its answer did not
            self._renewals += 1
            self._etag = self._put(found.etag)
        self._valid_until = started + self._ttl

    # --- the object -----------------------------------------------------------------------------------------

    def _body(self) -> bytes:
        record = LeaseRecord(
            owner=self._owner,
            run=self._run,
            nonce=self._nonce,
            ttl_seconds=self._ttl,
            renewals=self._renewals,
            acquired_at=self._acquired_at,
            expires_at=self._now(None) + timedelta(seconds=self._ttl),
        )
        return msgspec.json.encode(record)

    def _put(self, etag: str) -> str:
        return objects.put_if_match(
            self._client, self._bucket, self._key, self._body(), etag=etag, extra_args=self._extra_args
        )

    def _read(self) -> Small | None:
        return objects.get(
            self._client, self._bucket, self._key, max_bytes=_MAX_RECORD, extra_args=self._extra_args
        )

    def _delete(self, etag: str) -> None:
        objects.delete(self._client, self._bucket, self._key, if_match=etag, extra_args=self._extra_args)

    def _forget(self) -> None:
        """Delete the object if it is of this acquisition, as far as S3 lets us."""
        try:
            found = self._read()
            record = None if found is None else _record(found)
            if found is not None and record is not None and record.nonce == self._nonce:
                self._delete(found.etag)
        except StorageError as error:
            log.warning("The lease %s stays until it expires: %s", self.uri, error)


def _record(found: Small) -> LeaseRecord | None:
    try:
        return decoding.decode(found.body, LeaseRecord)
    except (msgspec.DecodeError, ValueError):
        return None
