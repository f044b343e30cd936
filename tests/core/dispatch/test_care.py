"""What a dispatch must never destroy, and what it must not be led astray by."""

import msgspec
import pytest

from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.resume import resume
from chunkwise.core.dispatch.spec import Config, Rejects, Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError, ObjectExists
from chunkwise.core.units import KiB
from tests.core.dispatch.driver import HMAC, MAPPING, SECRETS, Job
from tests.support.files import MAKERS, READERS, people

DATA = MAKERS["jsonl"](people(120))


@pytest.mark.parametrize("place", ["target", "rejects", "source"])
def test_nothing_that_is_kept_may_lie_in_the_staging_directory(s3, place):
    s3.put("big.jsonl", DATA)
    inside = "big.jsonl.dispatch/x.jsonl"
    s3.put(inside, DATA)
    target = inside if place == "target" else "out.jsonl"
    rejects = Rejects(max_records=1, key=inside) if place == "rejects" else None
    config = Config(target=Target(bucket=s3.bucket, key=target), rejects=rejects)
    source = Source(bucket=s3.bucket, key=inside if place == "source" else "big.jsonl")
    staging = Staging.beside(s3.client, s3.bucket, "big.jsonl")
    with pytest.raises(ConfigError, match=r"lies in the staging directory"):
        plan_dispatch(s3.client, source, config, staging)
    assert sorted(s3.keys()) == sorted(["big.jsonl", inside])


@pytest.mark.parametrize("key", ["big.jsonl", "out/big.jsonl"])
def test_rejected_rows_never_replace_the_source_or_the_target(s3, key):
    s3.put("big.jsonl", DATA)
    with pytest.raises(ConfigError, match=r"rejects.key .* choose another one"):
        Job(s3, "big.jsonl", rejects=Rejects(max_records=1, key=key)).plan()


def test_clean_up_leaves_what_is_not_the_dispatchs(s3):
    s3.put("big.jsonl", DATA)
    s3.put("big.jsonl.dispatch/notes.txt", b"somebody's")
    Job(s3, "big.jsonl", chunk_bytes=1 * KiB).run()
    assert sorted(s3.keys()) == ["big.jsonl", "big.jsonl.dispatch/notes.txt", "out/big.jsonl"]


def test_a_restart_that_cannot_be_planned_costs_nothing(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    job.process()
    before = job.staged()
    with pytest.raises(ConfigError):
        Job(s3, "big.jsonl", options={"sepp": 1}).plan("restart")
    assert job.staged() == before
    job.merge()
    assert job.output == DATA


@pytest.mark.parametrize(
    "limits", [{}, {"max_records": -1}, {"max_share": 5.0}, {"max_share": float("nan")}], ids=str
)
def test_limits_that_limit_nothing_are_refused(limits):
    with pytest.raises(ConfigError, match=r"^rejects"):
        Rejects(**limits)


@pytest.mark.parametrize("body", [b"", b"{garbage", b"[]"])
def test_a_done_record_that_cannot_be_read_is_done_again(s3, body):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    job.process()
    s3.put(job.staging.done_key(2), body)
    resume(s3.client, job.staging, owner="test", run="2")
    assert job.output == DATA


def test_a_secret_that_nobody_uses_changes_nothing(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, groups=2, mapping=MAPPING, protector=HMAC)
    job.secrets = SECRETS
    job.plan()
    job.process(0)
    job.secrets = {**job.secrets, "unused": "another"}
    job.process(1)
    assert job.merge().rows_out == 120


def test_a_target_that_came_later_is_replaced_when_somebody_plans_again(s3):
    """Without doing the chunks again."""
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB)
    job.plan()
    job.process()
    s3.put(job.target.key, b"somebody else's")
    with pytest.raises(ObjectExists, match=r"Plan again"):
        job.merge()
    job.plan("resume")
    calls = s3.calls["PutObject"]
    job.process()
    assert s3.calls["PutObject"] == calls
    job.merge()
    assert job.output == DATA


def test_rejected_rows_of_an_earlier_job_stay_when_nothing_is_published(s3):
    lines = DATA.replace(b'"id": "00100"', b'"id": 00100')
    s3.put("big.jsonl", lines)
    s3.put("out/_chunkwise/big.jsonl.rejected.jsonl.gz", b"those of yesterday")
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, rejects=Rejects(max_records=5))
    job.plan()
    job.process()
    s3.put(job.target.key, b"somebody else's")
    with pytest.raises(ObjectExists):
        job.merge()
    assert s3.get("out/_chunkwise/big.jsonl.rejected.jsonl.gz") == b"those of yesterday"


def test_a_policy_for_bad_rows_looks_at_every_row(s3):
    """Also where nothing is protected or converted."""
    s3.put("big.jsonl", b'{"a":1}\nhello {not json\n{"a":2}\n')
    receipt = Job(s3, "big.jsonl", rejects=Rejects(max_records=1)).run()
    assert (receipt.rows_in, receipt.rows_out, receipt.rejected) == (3, 2, 1)


def test_a_row_group_that_cannot_be_cut_is_said(s3):
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    table = pa.table({"n": list(range(200_000))})
    pq.write_table(table, out, compression="none", use_dictionary=False, write_page_index=False)
    s3.put("big.parquet", out.getvalue())
    plan = Job(s3, "big.parquet", chunk_bytes=100 * KiB).plan()
    assert plan.chunks == 1
    assert any("cannot be cut" in warning for warning in plan.warnings)


@pytest.mark.parametrize("name", ["jsonl", "json"])
def test_a_null_is_protected_if_asked_and_a_missing_member_stays_missing(s3, name):
    rows = [{"id": "1", "name": None}, {"id": "2"}, {"id": "3", "name": "Ann"}]
    s3.put(f"big.{name}", MAKERS[name](rows))
    rule = msgspec.structs.replace(MAPPING.columns["name"], null="protect")
    mapping = msgspec.structs.replace(MAPPING, columns={"name": rule}, ignored_columns=("id",))
    job = Job(s3, f"big.{name}", mapping=mapping, protector=HMAC)
    job.secrets = SECRETS
    job.run()
    null, missing, text = (row for row in READERS[name](job.output))
    assert [len(null["name"]), len(text["name"])] == [64, 64]
    assert null["name"] != text["name"]
    assert missing == {"id": "2"}
