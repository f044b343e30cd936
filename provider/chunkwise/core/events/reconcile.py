"""Which objects of a listing nobody was told of: pure decisions, and the ledger that they need.

What was told is what asset events say. The ledger only remembers it for longer than Airflow's database may:
it holds a digest of each object that lies there, was written within the window and was told of, so that it
can never hold more than the listing has. An object is told once an event with its ETag has started a run;
what was only told is told again after some patience, for a DAG may have been paused.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from chunkwise.core.errors import ReadFailed
from chunkwise.core.events.model import ObjectCreated

_DIGEST_BYTES: Final = 12


class Ledger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered from run to run.

    :param read_until: asset events before this are in ``told``; ``None``: none has been read.
    :param told: digests of objects, in order.
    """

    version: int = 1
    read_until: datetime | None = None
    told: tuple[str, ...] = ()


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

    :param window: objects that were written before are not looked at.
    :param grace: objects that were written since are not looked at: their event may be on its way.
    :param patience: an event that started no run is waited for so long.
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
    :param looked_at: objects of the window.
    :param ledger: for the next time; it counts ``missing`` as told only when their event has been read.
    """

    missing: tuple[ObjectCreated, ...]
    left: int
    looked_at: int
    ledger: Ledger


def reconcile(
    listed: Iterable[ObjectCreated], ledger: Ledger, told: Iterable[Told], *, now: datetime, bounds: Bounds
) -> Reconciled:
    """Compare a listing with what was told.

    :param listed: every object, with its ETag and the time when it was written.
    :param told: asset events since ``ledger.read_until``, and perhaps some before it.
    """
    events = list(told)
    handled = set(ledger.told) | {name for event in events if event.started for name in _names(event)}
    since = now - bounds.patience
    waiting = {
        name for event in events if not event.started and event.time > since for name in _names(event)
    } - handled

    kept: list[str] = []
    missing: list[ObjectCreated] = []
    looked_at = 0
    for found in listed:
        written = found.time or now
        if written < now - bounds.window:
            continue
        looked_at += 1
        names = {digest(found), digest(found, any_state=True)}
        if names & handled:
            kept.append(digest(found))
        elif written <= now - bounds.grace and not names & waiting:
            missing.append(found)
    missing.sort(key=lambda one: (one.time or now, one.key))
    return Reconciled(
        missing=tuple(missing[: bounds.limit]),
        left=max(0, len(missing) - bounds.limit),
        looked_at=looked_at,
        ledger=Ledger(read_until=_read_until(ledger, events, waiting), told=tuple(sorted(kept))),
    )


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
        found = msgspec.json.decode(body, type=Ledger)
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


def _names(event: Told) -> list[str]:
    return [digest(one) for one in event.objects]


def _read_until(ledger: Ledger, events: Sequence[Told], waiting: set[str]) -> datetime | None:
    """Before which no event need be read again: one that may still start a run must be."""
    open_events = [event.time for event in events if waiting.intersection(_names(event))]
    known = [*(event.time for event in events), *([ledger.read_until] if ledger.read_until else [])]
    if open_events:
        return min(open_events).astimezone(UTC)
    return max(known).astimezone(UTC) if known else None
