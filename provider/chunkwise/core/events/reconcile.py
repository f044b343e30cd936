"""Which objects of a listing nobody was told of: pure decisions, and the ledger that they need.

What was told is what asset events say. The ledger only remembers it for longer than Airflow's database may:
it holds a digest of each object that lies there, was written within the window and was told of, so that it
can never hold more than the listing has. An object is told once an event with its ETag has started a run;
what was only told is told again after some patience, for a DAG may have been paused.

Airflow cannot show an event while a run that it started is queued. Such an event may name whatever was
written shortly before it: these objects wait as if it had told of them and started nothing.

No object leaves the window before it was told of: the window begins with the oldest one that was not.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from chunkwise.core import decoding
from chunkwise.core.errors import ReadFailed
from chunkwise.core.events.model import ObjectCreated
from chunkwise.core.events.reading import Span

_DIGEST_BYTES: Final = 12
#: by how much the clocks of S3 and of Airflow's database may differ
_SKEW: Final = timedelta(minutes=1)
#: for so long a run may take from its look to the event that it sends
_SENDING: Final = timedelta(hours=1)


class Ledger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered from run to run.

    :param read_until: asset events before this are in ``told``; ``None``: none has been read.
    :param told: digests of objects, in order.
    :param sent: digests of objects that were sent lately and are not in ``told``, and when.
    :param untold_since: when the oldest object was written that is not in ``told``.
    """

    version: int = 1
    read_until: datetime | None = None
    told: tuple[str, ...] = ()
    sent: dict[str, datetime] = msgspec.field(default_factory=dict)
    untold_since: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """An asset event.

    :param time: of it.
    :param started: whether it has started a run.
    :param objects: that it names.
    """

    time: datetime
    started: bool
    objects: Sequence[ObjectCreated]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What is looked at, and how long is waited.

    :param window: objects that were written before are not looked at, but for those that were in it once and
        not told of.
    :param grace: objects that were written since are not looked at: their event may be on its way.
    :param patience: an event that started no run, or cannot be read, is waited for so long.
    :param limit: most objects that are sent at a time; the oldest go first.
    """

    window: timedelta
    grace: timedelta
    patience: timedelta
    limit: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconciled:
    """What a look at a listing has shown.

    :param missing: objects to tell of now, the oldest first.
    :param left: how many more there are.
    :param waiting: how many others an event has told of, or may have, that has started no run yet.
    :param overdue: how many of all these are kept although they are older than the window.
    :param since: when the first object was written that was looked at, if there was one.
    :param looked_at: objects of the window.
    :param ledger: for the next time; it counts ``missing`` as told only when their event has been read.
    """

    missing: tuple[ObjectCreated, ...]
    left: int
    waiting: int
    overdue: int
    since: datetime
    looked_at: int
    ledger: Ledger


def reconcile(
    listed: Iterable[ObjectCreated],
    ledger: Ledger,
    told: Iterable[Told],
    *,
    now: datetime,
    bounds: Bounds,
    unread: Sequence[Span] = (),
) -> Reconciled:
    """Compare a listing with what was told.

    :param listed: every object, with its ETag and the time when it was written.
    :param told: asset events since ``ledger.read_until``, and perhaps some before it.
    :param unread: times whose events cannot be read now.
    """
    events = list(told)
    handled = set(ledger.told) | {name for event in events if event.started for name in _names(event)}
    lately = now - bounds.patience
    waited_for = {
        name for event in events if not event.started and event.time > lately for name in _names(event)
    } - handled
    open_spans = [span for span in unread if span.end > lately]
    since = _since(ledger, now, bounds)

    kept: list[str] = []
    missing: list[ObjectCreated] = []
    sent: dict[str, datetime] = {}
    untold: list[datetime] = []
    looked_at = waiting = 0
    for found in listed:
        written = found.time or now
        if written < since:
            continue
        looked_at += 1
        name = digest(found)
        names = {name, digest(found, any_state=True)}
        if names & handled:
            kept.append(name)
            continue
        untold.append(written)
        if (at := ledger.sent.get(name)) is not None and at > lately:
            sent[name] = at
        if written > now - bounds.grace:
            continue
        if names & waited_for or _perhaps_told(written, sent.get(name), open_spans, bounds):
            waiting += 1
        else:
            missing.append(found)
    missing.sort(key=lambda one: (one.time or now, one.key))
    left = missing[bounds.limit :]
    missing = missing[: bounds.limit]
    sent |= {digest(found): now for found in missing}
    return Reconciled(
        missing=tuple(missing),
        left=len(left),
        waiting=waiting,
        overdue=sum(written < now - bounds.window for written in untold),
        since=since,
        looked_at=looked_at,
        ledger=Ledger(
            read_until=_read_until(ledger, events, waited_for, open_spans),
            told=tuple(sorted(kept)),
            sent=dict(sorted(sent.items())),
            untold_since=min(untold).astimezone(UTC) if untold else None,
        ),
    )


def events_since(ledger: Ledger, now: datetime, bounds: Bounds) -> datetime:
    """From when on asset events are to be read: none before its object was written tells of it."""
    of_objects = _since(ledger, now, bounds) - _SKEW
    return max(of_objects, ledger.read_until) if ledger.read_until else of_objects


def digest(found: ObjectCreated, *, any_state: bool = False) -> str:
    """An object in few bytes: bucket, key and ETag.

    :param any_state: without its ETag, as an event names it that knows none.
    """
    etag = "" if any_state else (found.etag or "")
    text = f"{found.bucket}\0{found.key}\0{etag}".encode("utf-8", "surrogatepass")
    return b64encode(hashlib.sha256(text).digest()[:_DIGEST_BYTES]).decode()


def dump(ledger: Ledger) -> bytes:
    """The bytes of a ledger; the same for the same ledger."""
    return msgspec.json.encode(ledger)


def load(body: bytes, uri: str) -> Ledger:
    """A ledger of its bytes.

    :raises ReadFailed: it is none.
    """
    try:
        found = decoding.decode(body, Ledger)
    except msgspec.DecodeError as error:
        raise ReadFailed(
            f"{uri} is not a ledger of arrivals ({error}): delete it to begin anew, or name another",
            transient=False,
        ) from None
    if found.version != 1:
        raise ReadFailed(
            f"{uri} is a ledger of version {found.version}, written by a newer Chunkwise: update this one",
            transient=False,
        )
    return found


def _since(ledger: Ledger, now: datetime, bounds: Bounds) -> datetime:
    """When the oldest object was written that is looked at."""
    return min(now - bounds.window, ledger.untold_since or now)


def _names(event: Told) -> list[str]:
    return [digest(one) for one in event.objects]


def _perhaps_told(written: datetime, sent: datetime | None, unread: Sequence[Span], bounds: Bounds) -> bool:
    """Whether an event that cannot be read may name an object: one of S3, or one that was sent from here."""
    times = [(written - _SKEW, written + bounds.grace + _SKEW)]
    if sent is not None:
        times.append((sent - _SKEW, sent + _SENDING))
    return any(span.begin <= end and span.end >= begin for begin, end in times for span in unread)


def _read_until(
    ledger: Ledger, events: Sequence[Told], waited_for: set[str], unread: Sequence[Span]
) -> datetime | None:
    """Before which no event need be read again: one that may still start a run must be."""
    open_events = [event.time for event in events if waited_for.intersection(_names(event))]
    open_events += [span.begin for span in unread]
    known = [*(event.time for event in events), *([ledger.read_until] if ledger.read_until else [])]
    if open_events:
        return min(open_events).astimezone(UTC)
    return max(known).astimezone(UTC) if known else None
