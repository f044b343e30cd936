"""Arrivals that no event told of, found by listing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import Asset

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.arrivals import s3_objects
from chunkwise.core.digests import digest
from chunkwise.core.errors import ConfigError, ObjectChanged, ObjectExists, ReadFailed
from chunkwise.core.events.filters import ObjectFilter, Words
from chunkwise.core.events.model import CREATED, ObjectCreated
from chunkwise.core.events.reading import Span, read_apart
from chunkwise.core.events.reconcile import (
    Bounds,
    Ledger,
    Reconciled,
    Told,
    dump,
    events_since,
    load,
    reconcile,
)
from chunkwise.core.storage.objects import get, list_objects, put_if_match, put_new
from chunkwise.edge import permanent_fails_at_once

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Airflow cannot show an event whose run is queued and has not begun: younger ones are not asked for
_SETTLED: Final = timedelta(minutes=1)
#: a million objects in the window
_LEDGER_BYTES: Final = 32 << 20


class ReconcileArrivalsOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's are not typed
    """List a prefix, and emit an asset event for what no event told of, or what no run was started for.

    S3 delivers notifications at least once, but configurations change, queues are purged, messages expire
    while DAGs are paused. This emits what is missing on the *same asset in the same form* as
    :class:`~chunkwise.triggers.s3_event.S3EventTrigger`: a DAG that is scheduled by it need not know.

    What was told is read from the asset's own events in Airflow's database. A small ledger on S3, replaced by
    a conditional put, remembers it for as long as the object lies there and is looked at: it never has more
    entries than the listing. An object counts as told only when the event that names it is in the database: a
    run that dies on its way sends it again, and one that is repeated sends nothing twice.

    Airflow does not show an event while a run that it started is queued, be it for a paused DAG or behind
    others, nor any list with such an event in it. Then the events are asked for in smaller and smaller spans
    of time, which may take some minutes. Objects that were written within ``grace_minutes`` before what
    cannot be read, or sent from here then, wait for ``patience_minutes``; all others are reconciled. Airflow
    before 3.2 gives all events or none: there the task fails, and may be tried again.

    Delivery is at least once. Cost: one LIST request per 1,000 objects of the prefix, and one GET and PUT.

    Returns ``{"looked_at", "sent", "left", "waiting", "unread"}``: objects that were looked at, are sent now
    and in later runs, and wait for the run of an event, and the number of spans of time whose events cannot
    be read; the log names them. Skips itself, so that no event is emitted, if nothing is to be sent now.

    :param s3_bucket: bucket to list. (templated)
    :param s3_prefix: prefix to list. (templated)
    :param outlets: the one asset that arrivals are told by.
    :param consumer_dag_id: DAG that must have got a run for an object; default: an event is enough.
        (templated)
    :param suffix: see :class:`~chunkwise.core.events.filters.ObjectFilter`, as the following four.
    :param pattern: see there.
    :param min_bytes: see there.
    :param max_bytes: see there.
    :param ignore_hidden: see there.
    :param window_hours: objects that were written longer ago are not looked at, unless they were within it
        once and not told of: the oldest of these keeps the window open, which is logged. S3 dates a multipart
        upload by its beginning: let it be longer than uploads take.
    :param grace_minutes: objects that were written since are not looked at: their event may be on its way.
    :param patience_minutes: an event that has started no run of ``consumer_dag_id``, or that cannot be read,
        is repeated after this time.
    :param max_objects: most objects of one event, the oldest first; the next run sends the others.
    :param ledger_uri: ``s3://bucket/key`` of the ledger; default: below ``.chunkwise/`` in the bucket, which
        Chunkwise's triggers ignore. (templated)
    :param extra_args: more arguments of the S3 calls, e.g. ``{"ExpectedBucketOwner": "..."}``. (templated)
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "s3_bucket", "s3_prefix", "consumer_dag_id", "ledger_uri", "extra_args"
    )

    def __init__(
        self,
        *,
        s3_bucket: str,
        s3_prefix: str,
        consumer_dag_id: str | None = None,
        suffix: Words = None,
        pattern: str | None = None,
        min_bytes: int | None = None,
        max_bytes: int | None = None,
        ignore_hidden: bool = False,
        window_hours: float = 7 * 24,
        grace_minutes: float = 15,
        patience_minutes: float = 6 * 60,
        max_objects: int = 500,
        ledger_uri: str | None = None,
        extra_args: Mapping[str, Any] | None = None,
        outlets: Any = None,
        inlets: Any = None,
        **kwargs: Any,
    ) -> None:
        given = _listed(outlets)
        # Airflow gives a task the events of its inlets only
        super().__init__(outlets=given, inlets=[*_listed(inlets), *given], **kwargs)
        self.s3_bucket = s3_bucket
        self.s3_prefix = s3_prefix
        self.consumer_dag_id = consumer_dag_id
        self.suffix = suffix
        self.pattern = pattern
        self.min_bytes = min_bytes
        self.max_bytes = max_bytes
        self.ignore_hidden = ignore_hidden
        self.window_hours = window_hours
        self.grace_minutes = grace_minutes
        self.patience_minutes = patience_minutes
        self.max_objects = max_objects
        self.ledger_uri = ledger_uri
        self.extra_args = extra_args

    def execute(self, context: Context) -> dict[str, int]:
        """Compare, and emit what is missing.

        :raises AirflowSkipException: nothing is missing.
        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            asset, bounds, wanted = self._asset(), self._bounds(), self._filter()
            now = datetime.now(UTC)
            ledger, etag = self._load()
            begin = events_since(ledger, now, bounds)
            told, unread = self._told(context, asset, Span(begin=begin, end=now - _SETTLED))
            found = reconcile(self._objects(wanted), ledger, told, now=now, bounds=bounds, unread=unread)
            self._save(found.ledger, etag, changed=found.ledger != ledger)
        self._log(found, unread)
        if not found.missing:
            raise AirflowSkipException(_nothing(found, now - bounds.grace))
        payload = {"objects": [one.to_json() for one in found.missing]}
        context["outlet_events"][asset].extra = {"payload": payload}  # type: ignore[dict-item]  # it is JSON
        counts = {"looked_at": found.looked_at, "sent": len(found.missing), "left": found.left}
        return {**counts, "waiting": found.waiting, "unread": len(unread)}

    def _log(self, found: Reconciled, unread: Sequence[Span]) -> None:
        self.log.info(
            "s3://%s/%s: %d objects since %s, %d of them told before; %d are sent now, %d later, %d wait",
            self.s3_bucket,
            self.s3_prefix,
            found.looked_at,
            found.since.isoformat(),
            len(found.ledger.told),
            len(found.missing),
            found.left,
            found.waiting,
        )
        if unread:
            self.log.warning(
                "events of these times cannot be read while runs that they have started are queued: %s",
                ", ".join(f"{span.begin.isoformat()} to {span.end.isoformat()}" for span in unread),
            )
        if found.overdue:
            self.log.warning(
                "%d objects were written more than %g hours ago and not told of yet: they are kept until they"
                " are; send more at a time (max_objects), run this more often, or look at the DAGs that they "
                "start",
                found.overdue,
                self.window_hours,
            )

    def _objects(self, wanted: ObjectFilter) -> Iterator[ObjectCreated]:
        for item in list_objects(self.hook.conn, self.s3_bucket, self.s3_prefix, extra_args=self.extra_args):
            found = ObjectCreated(
                bucket=self.s3_bucket,
                key=item.key,
                event=f"{CREATED}Listed",
                size=item.size,
                etag=item.etag.strip('"'),
                time=item.last_modified,
            )
            if wanted.passes(found):
                yield found

    def _told(self, context: Context, asset: Asset, whole: Span) -> tuple[list[Told], list[Span]]:
        """The events of the asset, and when those were that cannot be read."""

        def read(span: Span) -> list[Any]:
            events = context["inlet_events"][asset]
            try:
                if apart:
                    events = events.after(span.begin.isoformat()).before(span.end.isoformat())
                return list(events)
            except Exception as error:  # of Airflow's API, which has many
                raise ReadFailed(
                    f"Airflow did not give the events of asset {asset.name!r} ({type(error).__name__})"
                    + ("" if apart else "; it cannot while a run that they have started is queued")
                ) from error

        if whole.begin > whole.end:
            return [], []
        apart = hasattr(context["inlet_events"][asset], "after")  # Airflow 3.2
        found, unread = read_apart(read, whole) if apart else (read(whole), [])
        dag = self.consumer_dag_id
        told = [
            Told(
                time=event.timestamp,
                started=dag is None or any(run.dag_id == dag for run in event.created_dagruns),
                objects=s3_objects({asset: [event]}),
            )
            for event in found
            if whole.begin <= event.timestamp <= whole.end
        ]
        return told, unread

    # --- the ledger -----------------------------------------------------------------------------------------

    def _place(self) -> tuple[str, str]:
        if self.ledger_uri:
            bucket, _, key = self.ledger_uri.removeprefix("s3://").partition("/")
            if not self.ledger_uri.startswith("s3://") or not bucket or not key:
                raise ConfigError(f"ledger_uri is {self.ledger_uri!r}: it must be s3://bucket/key").naming(
                    "ledger_uri"
                )
            return bucket, key
        name = digest([self.s3_prefix, self._asset().uri, self.consumer_dag_id])
        return self.s3_bucket, f".chunkwise/arrivals/{name}.json"

    def _load(self) -> tuple[Ledger, str | None]:
        bucket, key = self._place()
        found = get(self.hook.conn, bucket, key, max_bytes=_LEDGER_BYTES, extra_args=self.extra_args)
        if found is None:
            return Ledger(), None
        return load(found.body, f"s3://{bucket}/{key}"), found.etag

    def _save(self, ledger: Ledger, etag: str | None, *, changed: bool) -> None:
        bucket, key = self._place()
        try:
            if etag is None:
                put_new(self.hook.conn, bucket, key, dump(ledger), extra_args=self.extra_args)
            elif changed:
                put_if_match(self.hook.conn, bucket, key, dump(ledger), etag=etag, extra_args=self.extra_args)
        except (ObjectExists, ObjectChanged):
            # a run at the same time has read the same events: the next one reads them again
            self.log.warning("s3://%s/%s: another run has written the ledger meanwhile", bucket, key)

    # --- arguments ------------------------------------------------------------------------------------------

    def _asset(self) -> Asset:
        assets = [outlet for outlet in self.outlets if isinstance(outlet, Asset)]
        if len(self.outlets) != 1 or not assets:
            raise ConfigError("outlets must be one asset, which arrivals are told by").naming("outlets")
        return assets[0]

    def _filter(self) -> ObjectFilter:
        return ObjectFilter(
            suffix=self.suffix,
            pattern=self.pattern,
            min_bytes=self.min_bytes,
            max_bytes=self.max_bytes,
            ignore_hidden=self.ignore_hidden,
        )

    def _bounds(self) -> Bounds:
        for name in ("window_hours", "grace_minutes", "patience_minutes"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be a number from 0 up").naming(name)
        if self.max_objects < 1:
            raise ConfigError("max_objects must be 1 or more").naming("max_objects")
        return Bounds(
            window=timedelta(hours=self.window_hours),
            grace=timedelta(minutes=self.grace_minutes),
            patience=timedelta(minutes=self.patience_minutes),
            limit=self.max_objects,
        )


def _nothing(found: Reconciled, until: datetime) -> str:
    """Why there is nothing to send."""
    if found.waiting:
        return (
            f"nothing to send now: {found.waiting} objects wait for the run of an event that has told of "
            "them, or that cannot be read while its run is queued"
        )
    return f"every object that was written from {found.since} to {until} has been told of"


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]
