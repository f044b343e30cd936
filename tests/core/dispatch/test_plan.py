"""A plan pins, cuts, and says what it found."""

import json
import threading

import pytest

from chunkwise.core.dispatch.model import Manifest, Plan
from chunkwise.core.dispatch.plan import load_mapping, plan_dispatch
from chunkwise.core.dispatch.spec import Config, Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import (
    ChunkFailed,
    ConfigError,
    DispatchDiffers,
    DispatchExists,
    DispatchNotFound,
    MappingError,
    ProofFailed,
    SecretRejected,
    SourceNotFound,
    UnsupportedSource,
)
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.units import KiB
from tests.core.dispatch.driver import HMAC, MAPPING, SECRETS, Job
from tests.support.rounds import few_or_many

LINES = b"".join(b'{"n":%d,"text":"%s"}\n' % (n, b"x" * 50) for n in range(1000))


def test_the_chunks_tile_the_source_and_each_has_its_manifest(s3):
    s3.put("big.jsonl", LINES)
    job = Job(s3, "big.jsonl", chunk_bytes=4 * KiB)
    plan = job.plan()
    assert plan.boundaries[0].position == 0
    assert plan.boundaries[-1].position == len(LINES)
    for boundary in plan.boundaries[1:-1]:
        assert LINES[boundary.position - 1 : boundary.position] == b"\n"
    staging = Staging.beside(s3.client, s3.bucket, "big.jsonl")
    manifests = sorted(key for key in job.staged() if "/manifests/" in key)
    assert manifests == [staging.manifest_key(chunk) for chunk in range(plan.chunks)]
    for chunk in range(plan.chunks):
        manifest = staging.get(staging.manifest_key(chunk), Manifest)[0]
        assert manifest.span == plan.span(chunk)
        assert manifest.source.etag == s3.head("big.jsonl")["ETag"]


def test_a_source_below_the_threshold_is_one_chunk(s3):
    s3.put("small.jsonl", LINES)
    assert Job(s3, "small.jsonl", chunk_bytes=4 * KiB, threshold_bytes=len(LINES) + 1).plan().chunks == 1
    assert Job(s3, "small.jsonl", chunk_bytes=4 * KiB, threshold_bytes=len(LINES)).plan("restart").chunks > 1


def test_a_dry_run_writes_nothing(s3):
    s3.put("big.jsonl", LINES)
    job = Job(s3, "big.jsonl", chunk_bytes=4 * KiB)
    planned = plan_dispatch(s3.client, job.source, job.config, job.staging, write=False)
    assert planned.plan.chunks > 10
    assert s3.keys() == ["big.jsonl"]
    assert s3.calls["PutObject"] == 0


def test_a_plan_costs_three_reads_and_256_kib_a_chunk_at_most(s3):
    s3.put("big.jsonl", LINES * 40)
    job = Job(s3, "big.jsonl", chunk_bytes=512 * KiB)
    planned = plan_dispatch(s3.client, job.source, job.config, job.staging, write=False)
    chunks = planned.plan.chunks
    assert chunks == 6
    assert planned.requests <= 3 * chunks
    assert planned.bytes_read <= 256 * KiB * chunks
    assert s3.calls["GetObject"] == planned.requests


def test_a_dispatch_that_stands_there_is_an_error_or_gone_on_with(s3):
    s3.put("big.jsonl", LINES)
    job = Job(s3, "big.jsonl", chunk_bytes=4 * KiB)
    plan = job.plan()
    with pytest.raises(DispatchExists, match=r"big.jsonl\.dispatch/"):
        job.plan("fail")
    assert job.plan("resume") == plan
    assert job.plan("restart").dispatch != plan.dispatch


def test_another_source_or_config_is_named(s3):
    s3.put("big.jsonl", LINES)
    job = Job(s3, "big.jsonl", chunk_bytes=4 * KiB)
    job.plan()
    with pytest.raises(DispatchDiffers, match="differs in chunk_bytes;"):
        Job(s3, "big.jsonl", chunk_bytes=8 * KiB).plan("resume")
    s3.put("big.jsonl", LINES + b"{}\n")
    with pytest.raises(DispatchDiffers, match=r"differs in source.etag, source.size;"):
        job.plan("resume")


def test_what_only_makes_it_faster_may_differ(s3):
    s3.put("big.jsonl", LINES)
    plan = Job(s3, "big.jsonl", chunk_bytes=4 * KiB).plan()
    again = Job(s3, "big.jsonl", chunk_bytes=4 * KiB, groups=3, batch_rows=5, deadline_seconds=1.0)
    assert again.plan("resume") == plan


def test_a_planner_that_was_killed_before_its_manifests_is_made_good(s3):
    s3.put("big.jsonl", LINES)
    job = Job(s3, "big.jsonl", chunk_bytes=4 * KiB)
    plan = job.plan()
    job.staging.delete(job.staging.manifest_key(1), job.staging.manifest_key(3))
    job.plan("resume")
    assert len([key for key in job.staged() if "/manifests/" in key]) == plan.chunks


@few_or_many("rounds", 3, 20)
def test_of_many_planners_at_once_one_writes_the_plan(s3, rounds):
    s3.put("big.jsonl", LINES)
    for _ in range(rounds):
        job = Job(s3, "big.jsonl", chunk_bytes=16 * KiB)
        plans, barrier = [], threading.Barrier(4)

        def make(job=job, plans=plans, barrier=barrier):
            barrier.wait()
            plans.append(job.plan("resume"))

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(plans) == 4
        assert len({plan.dispatch for plan in plans}) == 1
        assert job.staging.load() == plans[0]
        job.staging.delete(*job.staged())


def test_a_missing_source_is_named(s3):
    with pytest.raises(SourceNotFound, match=rf"^there is no object s3://{s3.bucket}/none.jsonl$"):
        Job(s3, "none.jsonl").plan()


def test_a_source_that_is_removed_after_the_plan_is_named_by_what_processes_it(s3):
    s3.put("data.jsonl", LINES)
    job = Job(s3, "data.jsonl")
    job.plan()
    s3.client.delete_object(Bucket=s3.bucket, Key="data.jsonl")
    with pytest.raises(ChunkFailed, match=r"/data.jsonl is gone since it was pinned.*Put the same object"):
        job.process()
    s3.put("data.jsonl", LINES)
    job.process()
    job.merge()
    assert job.output == LINES


def test_a_source_that_was_overwritten_needs_a_restart_and_says_so(s3):
    s3.put("data.jsonl", LINES)
    job = Job(s3, "data.jsonl")
    job.plan()
    s3.put("data.jsonl", LINES[: len(LINES) // 2])
    with pytest.raises(ChunkFailed, match=r"was overwritten .*Restart, to process what stands there now"):
        job.process()
    with pytest.raises(DispatchDiffers, match=r"source.etag.*restart"):
        job.plan("resume")
    job.plan("restart")


OWN = "tests.core.protect.own_protectors."


@pytest.mark.parametrize(
    ("protector", "says"),
    [
        ({"name": "nowhere.at_all.Class"}, "'nowhere.at_all' cannot be imported"),
        ({"name": OWN + "Missing"}, "has no 'Missing'"),
        ({"name": OWN + "Nothing"}, "is not a class with a method protect"),
        ({"name": OWN + "Reverse", "options": {"marks": 1}}, "does not take these options"),
        ({"name": OWN + "Careful", "secret": "key"}, "does not take these options"),
    ],
)
def test_a_protector_that_no_processor_could_make_is_refused_by_the_plan(s3, protector, says):
    s3.put("data.jsonl", b'{"id": "1", "name": "x", "note": ""}\n')
    job = Job(s3, "data.jsonl", mapping=MAPPING, protector=ProtectorSpec(**protector))
    with pytest.raises(ConfigError, match=f"{says}.*imported_by='processors'"):
        job.plan()
    assert s3.keys() == ["data.jsonl"]


def test_a_protector_that_only_processors_can_import_is_not_looked_for(s3):
    s3.put("data.jsonl", b'{"id": "1", "name": "x", "note": ""}\n')
    spec = ProtectorSpec(name="nowhere.at_all.Class", imported_by="processors")
    job = Job(s3, "data.jsonl", mapping=MAPPING, protector=spec)
    job.plan()
    with pytest.raises(ConfigError, match=r"'nowhere\.at_all' cannot be imported"):
        job.process()


def test_a_plan_makes_nothing_of_a_class_of_ones_own(s3):
    s3.put("data.jsonl", b'{"id": "1", "name": "x", "note": ""}\n')
    spec = ProtectorSpec(name=OWN + "Broken", secret="key")
    Job(s3, "data.jsonl", mapping=MAPPING, protector=spec).plan()


@pytest.mark.parametrize(
    ("secrets", "says"),
    [({}, "needs the secret 'key'"), ({"key": "too short"}, "'key'.* give at least 32 random ones")],
)
def test_a_secret_that_cannot_be_used_fails_before_the_first_chunk(s3, secrets, says):
    s3.put("data.jsonl", b'{"id": "1", "name": "x", "note": ""}\n' * 50)
    job = Job(s3, "data.jsonl", chunk_bytes=200, mapping=MAPPING, protector=HMAC)
    job.secrets = secrets
    job.plan()
    before = s3.keys()
    with pytest.raises(SecretRejected, match=says) as caught:
        job.process()
    assert caught.value.transient is False
    assert "too short" not in str(caught.value)
    assert s3.keys() == before
    job.secrets = SECRETS
    job.process()
    job.secrets = {}
    job.process()  # nothing is left to protect


def test_a_suffix_that_says_nothing_needs_a_format(s3):
    s3.put("data.bin", LINES)
    with pytest.raises(UnsupportedSource, match="give one"):
        Job(s3, "data.bin").plan()
    assert Job(s3, "data.bin", format="jsonl").plan().format == "jsonl"


def test_a_damaged_plan_names_its_field(s3):
    s3.put("big.jsonl", LINES)
    job = Job(s3, "big.jsonl")
    job.plan()
    value = json.loads(s3.get(job.staging.plan_key))
    s3.put(job.staging.plan_key, json.dumps({**value, "groups": "many"}).encode())
    with pytest.raises(ProofFailed, match=r"plan.json is not a plan record: .*groups"):
        job.staging.load()
    s3.put(job.staging.plan_key, json.dumps({**value, "version": 99}).encode())
    with pytest.raises(ProofFailed, match="version 99"):
        job.staging.load()


def test_chunks_grow_when_there_were_too_many(s3, monkeypatch):
    monkeypatch.setattr("chunkwise.core.dispatch.boundaries.MAX_CHUNKS", 50)
    s3.put("big.jsonl", b"{}\n" * 2000)
    plan = Job(s3, "big.jsonl", chunk_bytes=30).plan()
    assert 25 < plan.chunks <= 50
    assert plan.chunk_bytes > 30
    assert any("grew from 30" in warning for warning in plan.warnings)


def test_the_nearest_mapping_is_taken(s3):
    mapping = {
        "columns": {"n": {"operation": "protect", "data_element": "number"}},
        "ignored-columns": ["text"],
    }
    s3.put("a/mapping.json", json.dumps(mapping).encode())
    other = {"columns": {}, "ignored-columns": ["n", "text"]}
    s3.put("mapping.json", json.dumps(other).encode())
    assert list(load_mapping(s3.client, s3.bucket, "a/b/big.jsonl").columns) == ["n"]
    assert list(load_mapping(s3.client, s3.bucket, "elsewhere/big.jsonl").columns) == []
    s3.client.delete_object(Bucket=s3.bucket, Key="mapping.json")
    assert load_mapping(s3.client, s3.bucket, "elsewhere/big.jsonl") is None


def test_a_column_that_the_mapping_leaves_out_is_an_error(s3):
    s3.put("big.jsonl", LINES)
    mapping = {"columns": {"n": {"operation": "protect", "data_element": "number"}}, "ignored-columns": []}
    s3.put("mapping.json", json.dumps(mapping).encode())
    found = load_mapping(s3.client, s3.bucket, "big.jsonl")
    job = Job(s3, "big.jsonl", mapping=found, protector=ProtectorSpec(name="mask"))
    with pytest.raises(MappingError, match="text"):
        job.plan()


@pytest.mark.parametrize("field", ["chunk_bytes", "groups", "batch_bytes"])
def test_nonsense_is_refused_by_name(field):
    with pytest.raises(ConfigError, match=field):
        Config(target=Target(bucket="b", key="k"), **{field: 0})


def test_a_staging_directory_can_stand_elsewhere(s3):
    s3.put("in/big.jsonl", LINES)
    staging = Staging.beside(s3.client, s3.bucket, "in/big.jsonl", uri=f"s3://{s3.bucket}/work")
    config = Config(target=Target(bucket=s3.bucket, key="out.jsonl"))
    plan_dispatch(s3.client, Source(bucket=s3.bucket, key="in/big.jsonl"), config, staging)
    assert isinstance(staging.load(), Plan)
    assert s3.has("work/in/big.jsonl.dispatch/plan.json")


@pytest.mark.parametrize(
    ("extra_args", "words"),
    [({"Nope": "x"}, "Nope"), ({"ACL": 5}, "ACL: it must be a string"), ({"Bucket": "x"}, "use bucket")],
)
def test_arguments_that_s3_would_refuse_in_the_end_are_refused_at_once(s3, extra_args, words):
    s3.put("big.jsonl", b"{}\n")
    job = Job(s3, "big.jsonl", target_options={"extra_args": extra_args})
    with pytest.raises(ConfigError, match=words):
        job.plan()
    assert job.staged() == []


def test_a_plan_that_somebody_removed_is_told_from_one_that_never_was(s3):
    s3.put("big.jsonl", b"{}\n")
    job = Job(s3, "big.jsonl")
    with pytest.raises(DispatchNotFound, match="never made"):
        job.staging.load()
    job.plan()
    job.process()
    job.staging.delete(job.staging.plan_key)
    for load in (job.staging.load, job.merge):
        with pytest.raises(DispatchNotFound, match="records of chunks lie there"):
            load()
    job.run()
    assert job.output == b"{}\n"
