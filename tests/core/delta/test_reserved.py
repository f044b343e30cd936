"""Files that only their writer adds: what it leaves when it fails is added by nobody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chunkwise.core.delta import Arrival, reconcile
from chunkwise.core.delta.from_queue import QueueReceipt, QueueSpec, drain_to_table
from chunkwise.core.delta.reconcile import Reconciled
from chunkwise.core.errors import DeltaError, QueueError
from chunkwise.core.queue.aside import BadMessages
from chunkwise.core.queue.drain import Limits
from chunkwise.core.rds_export import ExportTable
from chunkwise.core.rds_export.commit import commit_table
from chunkwise.core.rds_export.relayout import Placed, Target, relayout
from tests.support.delta import Lake, kinds, lake, reasons
from tests.support.rds_export import ExportedTable, put_export
from tests.support.s3 import S3, s3_client
from tests.support.sqs import Queue, queue, sqs_client

__all__ = ["lake", "queue"]

DAY = "2024-03-01"


class Dies(BaseException):
    """A process is killed: nothing of it runs any more."""


def drain(lake: Lake, queue: Queue, *, s3: Any = None, sqs: Any = None) -> QueueReceipt:
    spec = QueueSpec(
        queue=queue.url, limits=Limits(messages=1), wait_seconds=1, bad=BadMessages(action="fail")
    )
    return drain_to_table(sqs or queue.client, s3 or lake.s3.client, lake.table, spec)


def die_at(lake: Lake, queue: Queue, where: str) -> list[Arrival]:
    """A drain is killed at its first write of such a key; the arrivals of what it leaves."""
    client = s3_client(lake.s3.endpoint)

    def die(params: dict[str, Any], **_: Any) -> None:
        if where in params["url_path"]:
            raise Dies

    client.meta.events.register("before-call.s3.PutObject", die)
    before = row_files(lake)
    with pytest.raises(Dies):
        drain(lake, queue, s3=client)
    return [Arrival(bucket=lake.s3.bucket, key=key) for key in row_files(lake) if key not in before]


def row_files(lake: Lake) -> list[str]:
    every = lake.s3.keys()
    return [key for key in every if "/rows-" in key]


def mend(lake: Lake) -> Reconciled:
    grace = timedelta(seconds=-5)
    return reconcile(lake.s3.client, lake.table, repair=["orphan", "stale", "missing"], grace=grace)


def ids(lake: Lake) -> list[int]:
    return [row["id"] for row in lake.rows("id")]


def copy_all(lake: Lake, other: Lake, *, log: bool) -> list[Arrival]:
    """A copy of all files, as S3 makes one: with their metadata."""
    found = []
    every = lake.s3.keys()
    for key in every:
        path = lake.table.relative(lake.s3.bucket, key)
        if path is None or (not log and path.startswith("_")):
            continue
        place = {"Bucket": other.s3.bucket, "Key": other.table.key(path)}
        lake.s3.client.copy_object(**place, CopySource={"Bucket": lake.s3.bucket, "Key": key})
        if not path.startswith("_"):
            found.append(other.arrival(path))
    return found


@pytest.mark.parametrize("where", ["/drains/", "/_delta_log/"], ids=["note", "commit"])
@pytest.mark.parametrize("first", [False, True], ids=["table", "none"])
def test_what_a_drain_leaves_that_dies_before_its_commit_is_never_added(
    lake: Lake, queue: Queue, where: str, first: bool
) -> None:
    """Its messages come again: neither an event of its file nor a reconciliation doubles their rows."""
    before = [] if first else [lake.put("a.parquet", {"id": [0]})]
    lake.append(*before)
    queue.send('{"id":1}')
    left = die_at(lake, queue, where)
    assert len(left) == 1
    lake.s3.calls.clear()
    early = lake.append(*left)
    assert (kinds(early), reasons(early), early.committed) == (["ignored"], ["reserved"], False)
    assert lake.s3.calls["HeadObject"] == 0
    assert lake.s3.calls["GetObject"] == 1 + len(lake.versions)  # its footer, and the log

    assert drain(lake, queue).rows == 1
    expected = [1] if first else [0, 1]
    assert kinds(lake.append(*left)) == ["ignored"]
    found = mend(lake)
    assert (found.counts, found.verdicts, found.rows) == ({"orphan": 1}, {"ignored": 1}, 0)
    (verdict,) = found.not_mended
    assert verdict.reason == "reserved"
    assert "its messages come again" in verdict.detail
    assert ids(lake) == expected


def test_an_event_that_is_faster_than_the_commit_leaves_the_file_to_its_drain(
    lake: Lake, queue: Queue
) -> None:
    queue.send('{"id":1}')
    client = s3_client(lake.s3.endpoint)
    seen = []

    def event(params: dict[str, Any], **_: Any) -> None:
        if "_delta_log" in params["url_path"] and not seen:
            seen.append(kinds(lake.append(*(Arrival(bucket=lake.s3.bucket, key=k) for k in row_files(lake)))))

    client.meta.events.register("before-call.s3.PutObject", event)
    receipt = drain(lake, queue, s3=client)
    assert (seen, receipt.version, receipt.rows) == ([["ignored"]], 0, 1)
    assert (ids(lake), kinds(lake.append(lake.arrival(str(receipt.path))))) == ([1], ["duplicate"])


def test_a_drain_that_gives_up_takes_no_file_away_that_a_table_has(lake: Lake, queue: Queue) -> None:
    """Its message is shown to another drain, which brings it and dies; an event told of its file before."""
    queue.send('{"id":1}')
    slow, dying, seeing = s3_client(lake.s3.endpoint), *(sqs_client(lake.s3.endpoint) for _ in range(2))
    handles: list[str] = []
    seeing.meta.events.register(
        "after-call.sqs.ReceiveMessage",
        lambda parsed, **_: handles.extend(one["ReceiptHandle"] for one in parsed.get("Messages", ())),
    )

    def die(**_: Any) -> None:
        raise Dies

    dying.meta.events.register("before-call.sqs.DeleteMessageBatch", die)
    begun: list[int] = []

    def others(params: dict[str, Any], **_: Any) -> None:
        if "/drains/" in params["url_path"] and not begun:
            begun.append(1)
            lake.append(*(Arrival(bucket=lake.s3.bucket, key=key) for key in row_files(lake)))
            for held in handles:
                queue.client.change_message_visibility(
                    QueueUrl=queue.url, ReceiptHandle=held, VisibilityTimeout=0
                )
            with pytest.raises(Dies):
                drain(lake, queue, sqs=dying)

    slow.meta.events.register("before-call.s3.PutObject", others)
    with pytest.raises(QueueError, match="another drain has brought"):
        drain(lake, queue, s3=slow, sqs=seeing)
    assert ids(lake) == [1]


def test_files_of_drains_make_a_table_elsewhere_and_anew(lake: Lake, queue: Queue, s3: S3) -> None:
    """A mark counts for one table: no row is lost where its log is."""
    lake.append(lake.put("a.parquet", {"id": [0]}))
    queue.send('{"id":1}')
    drain(lake, queue)
    other = Lake(s3, "lake/other")
    assert kinds(other.append(*copy_all(lake, other, log=False))) == ["added", "added"]
    assert ids(other) == [0, 1]
    lake.drop_log()
    again = [lake.arrival(path) for path in ("a.parquet", row_files(lake)[0].rpartition("/")[2])]
    assert kinds(lake.append(*again)) == ["added", "added"]
    assert ids(lake) == [0, 1]


def test_the_first_file_of_a_table_is_added_to_a_copy_without_the_log(
    lake: Lake, queue: Queue, s3: S3
) -> None:
    """When it was written, there was no table to count for: it counts for its place."""
    queue.send('{"id":1}')
    drain(lake, queue)
    other = Lake(s3, "lake/other")
    assert kinds(other.append(*copy_all(lake, other, log=False))) == ["added"]


def test_a_copy_of_a_table_with_its_log_takes_no_more_than_the_table(
    lake: Lake, queue: Queue, s3: S3
) -> None:
    lake.append(lake.put("a.parquet", {"id": [0]}))
    queue.send('{"id":1}')
    die_at(lake, queue, "/_delta_log/")
    drain(lake, queue)
    other = Lake(s3, "lake/other")
    copy_all(lake, other, log=True)
    assert mend(other).verdicts == {"ignored": 1}
    assert ids(other) == [0, 1]


def test_a_file_that_a_drain_committed_and_that_comes_back_is_added(lake: Lake, queue: Queue) -> None:
    """It was deleted and taken out of the table; its messages are long gone."""
    lake.append(lake.put("a.parquet", {"id": [0]}))
    queue.send('{"id":1}')
    path = str(drain(lake, queue).path)
    key = lake.table.key(path)
    lake.s3.client.copy_object(
        Bucket=lake.s3.bucket, Key="saved", CopySource={"Bucket": lake.s3.bucket, "Key": key}
    )
    assert kinds(lake.append(lake.delete(path), on_delete="remove")) == ["removed"]
    assert ids(lake) == [0]
    lake.s3.client.copy_object(
        Bucket=lake.s3.bucket, Key=key, CopySource={"Bucket": lake.s3.bucket, "Key": "saved"}
    )
    assert mend(lake).verdicts == {"added": 1}
    assert ids(lake) == [0, 1]


# --- exports ----------------------------------------------------------------------------------------------


def placed(s3: S3, export: str, *files: list[dict[str, Any]]) -> Placed:
    """An export of one table, copied to the partition of its day."""
    batches = {"1": dict(enumerate(files))}
    tables = [ExportedTable(target="shop.public.orders", folder="shop/public.orders", batches=batches)]
    front = f"{put_export(s3, tables, export=export)}shop/public.orders"
    every = s3.keys()
    keys = [key for key in every if key.startswith(f"{front}/") and key.endswith(".parquet")]
    table = ExportTable(
        name="shop.public.orders",
        database="shop",
        folder="public.orders",
        uri=f"s3://{s3.bucket}/{front}",
        batches=1,
        files=len(keys),
        bytes=sum(len(s3.get(key)) for key in keys),
    )
    return relayout(s3.client, export, table, Target(uri=f"s3://{s3.bucket}/lake", value=DAY))


def copies(s3: S3, export: str) -> list[Arrival]:
    every = s3.keys()
    return [Arrival(bucket=s3.bucket, key=key) for key in every if f"/ds={DAY}/{export}_" in key]


def test_files_of_a_refused_export_are_never_put_beside_those_of_another(s3: S3) -> None:
    """The day has export A; of B one file conflicts. Events and reconciliations pass over its good ones."""
    lake = Lake(s3, "lake/shop/public.orders")
    commit_table(s3.client, placed(s3, "exp-a", [{"id": 1}, {"id": 2}]))
    later = placed(s3, "exp-b", [{"id": 1}, {"id": 2}], [{"id": "x"}])
    with pytest.raises(DeltaError, match="nothing was changed"):
        commit_table(s3.client, later)
    found = mend(lake)
    assert (found.counts, found.verdicts) == ({"orphan": 2}, {"ignored": 2})
    assert {one.reason for one in found.not_mended} == {"reserved"}
    receipt = lake.append(*copies(s3, "exp-b"))
    assert reasons(receipt) == ["reserved"] * 2
    assert ids(lake) == [1, 2]
    # a third one takes the place of the first, and that its own again
    for export, expected in (("exp-c", [3, 4]), ("exp-a", [1, 2])):
        commit_table(s3.client, placed(s3, export, [{"id": number} for number in expected]))
        lake.append(*copies(s3, "exp-a"), *copies(s3, "exp-c"))
        assert ids(lake) == expected


def test_copies_that_events_tell_of_before_the_commit_make_no_table(s3: S3) -> None:
    later = placed(s3, "exp-a", [{"id": 1}], [{"id": 2}])
    lake = Lake(s3, "lake/shop/public.orders")
    early = lake.append(*copies(s3, "exp-a"))
    assert (reasons(early), early.version) == (["reserved"] * 2, None)
    assert commit_table(s3.client, later).counts == {"added": 2}
    assert ids(lake) == [1, 2]


def test_a_copied_export_makes_a_table_elsewhere(s3: S3) -> None:
    commit_table(s3.client, placed(s3, "exp-a", [{"id": 1}], [{"id": 2}]))
    other = Lake(s3, "backup/orders")
    assert kinds(other.append(*copy_all(Lake(s3, "lake/shop/public.orders"), other, log=False))) == [
        "added",
        "added",
    ]
    assert ids(other) == [1, 2]
