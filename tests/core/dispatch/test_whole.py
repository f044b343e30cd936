"""A whole dispatch: plan, process, merge."""

import gzip
import json

import pytest

from chunkwise.core.dispatch.process import process_chunk, process_group
from chunkwise.core.dispatch.spec import Rejects
from chunkwise.core.errors import ChunkFailed, QuarantineLimitExceeded, SecretRejected
from chunkwise.core.units import KiB
from tests.core.dispatch.driver import HMAC, MAPPING, SECRETS, Job
from tests.support.files import MAKERS, READERS, as_csv, as_jsonl, as_parquet, people


@pytest.mark.parametrize("name", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("mode", ["assume", "exact"])
@pytest.mark.parametrize("chunk_bytes", [500, 4 * KiB, 1 << 20])
def test_without_a_mapping_the_file_comes_out_as_it_was(s3, name, mode, chunk_bytes):
    data = MAKERS[name](people(400))
    s3.put(f"big.{name}", data)
    job = Job(s3, f"big.{name}", chunk_bytes=chunk_bytes, mode=mode)
    receipt = job.run()
    assert job.output == data
    assert (receipt.rows_in, receipt.rows_out, receipt.rejected) == (400, 400, 0)
    assert receipt.bytes == len(data)
    assert s3.keys() == [f"big.{name}", f"out/big.{name}"]
    assert s3.open_uploads() == []


@pytest.mark.parametrize("name", ["jsonl", "json", "csv", "parquet"])
def test_a_protected_column_is_the_only_one_that_changes(s3, name):
    rows = people(1000)
    s3.put(f"big.{name}", MAKERS[name](rows))
    job = Job(s3, f"big.{name}", chunk_bytes=8 * KiB, mapping=MAPPING, protector=HMAC)
    job.secrets = SECRETS
    job.run()
    found = READERS[name](job.output)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [row["note"] for row in found] == [row["note"] for row in rows]
    tokens = {row["name"]: new["name"] for row, new in zip(rows, found, strict=True)}
    assert [new["name"] for new in found] == [tokens[row["name"]] for row in rows]
    assert len(set(tokens.values())) == 97
    assert not set(tokens) & set(tokens.values())
    if name != "parquet":
        assert b"person" not in job.output


@pytest.mark.parametrize("source", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("target", ["jsonl", "json", "csv", "parquet"])
def test_every_format_becomes_every_other_one(s3, source, target):
    rows = people(600)
    s3.put(f"big.{source}", MAKERS[source](rows))
    job = Job(s3, f"big.{source}", target=f"out.{target}", chunk_bytes=6 * KiB, output_format=target)
    receipt = job.run()
    assert READERS[target](job.output) == rows
    assert receipt.rows_out == 600


@pytest.mark.parametrize("name", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_parts_are_compressed_as_members_of_one_file(s3, name, compression):
    data = MAKERS[name](people(600))
    s3.put(f"big.{name}", data)
    suffix = {"gzip": "gz", "zstd": "zst"}[compression]
    job = Job(
        s3, f"big.{name}", target=f"out.{name}.{suffix}", chunk_bytes=6 * KiB, output_compression=compression
    )
    job.run()
    if compression == "gzip":
        assert gzip.decompress(job.output) == data
    else:
        import zstandard

        assert zstandard.ZstdDecompressor().stream_reader(job.output, read_across_frames=True).read() == data


@pytest.mark.parametrize("name", ["jsonl", "json", "csv"])
def test_a_compressed_source_is_one_chunk(s3, name):
    data = MAKERS[name](people(600))
    s3.put(f"big.{name}.gz", gzip.compress(data))
    job = Job(s3, f"big.{name}.gz", chunk_bytes=1 * KiB)
    plan = job.plan()
    assert plan.chunks == 1
    assert any("one chunk" in warning for warning in plan.warnings)
    job.process()
    job.merge()
    assert gzip.decompress(job.output) == data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("jsonl", b""),
        ("csv", b""),
        ("csv", b"a,b\r\n"),
        ("csv", b"a,b"),
        ("json", b"[]"),
        ("json", b" [ \n ] \n"),
        ("jsonl", b'{"a":1}'),
        ("json", b"[1]"),
        ("csv", b"a,b\n1,2"),
        ("jsonl", b"\n\n"),
        ("jsonl", b'"a"\n1\nnull\n[2]\n'),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 3, 1000])
def test_small_and_empty_files_come_out_as_they_were(s3, name, data, chunk_bytes):
    s3.put(f"f.{name}", data)
    job = Job(s3, f"f.{name}", chunk_bytes=chunk_bytes)
    job.run()
    assert job.output == data


def test_a_chunk_that_fails_leaves_the_others_done_and_publishes_nothing(s3):
    lines = as_jsonl(wide(300)).split(b"\n")
    lines[150] = b'{"id": "00150", "unknown": 1}'
    s3.put("big.jsonl", b"\n".join(lines))
    options = {"mapping": MAPPING, "protector": HMAC, "groups": 1, "mode": "exact"}
    job = Job(s3, "big.jsonl", chunk_bytes=64 * KiB, **options)
    job.secrets = SECRETS
    plan = job.plan()
    with pytest.raises(ChunkFailed, match=r"1 of \d+ chunks failed; .*'?unknown"):
        job.process()
    states = [key for key in job.staged() if "/done/" in key]
    assert len([key for key in states if key.endswith(".failed.json")]) == 1
    assert len([key for key in states if not key.endswith(".failed.json")]) == plan.chunks - 1
    with pytest.raises(ChunkFailed, match="resume"):
        job.merge()
    assert not s3.has(job.target.key)
    assert s3.open_uploads() == []


@pytest.mark.parametrize("name", ["jsonl", "csv", "json"])
def test_bad_rows_are_put_aside_within_limits(s3, name):
    data = bad_rows(name)
    s3.put(f"big.{name}", data)
    options = {"chunk_bytes": 64 * KiB, "mapping": MAPPING, "protector": HMAC}
    job = Job(s3, f"big.{name}", **options, rejects=Rejects(max_records=2))
    job.secrets = SECRETS
    receipt = job.run()
    assert (receipt.rows_in, receipt.rows_out, receipt.rejected) == (300, 298, 2)
    assert len(READERS[name](job.output)) == 298
    aside = [
        json.loads(line)
        for line in gzip.decompress(s3.get(f"out/_chunkwise/big.{name}.rejected.jsonl.gz")).splitlines()
    ]
    assert len(aside) == 2
    assert all(row["reason"] and "00" in row["data"] for row in aside)
    again = Job(s3, f"big.{name}", target=f"other.{name}", **options, rejects=Rejects(max_records=1))
    again.secrets = job.secrets
    with pytest.raises(QuarantineLimitExceeded):
        again.run()
    assert not s3.has(f"other.{name}")
    share = Job(s3, f"big.{name}", target=f"other.{name}", **options, rejects=Rejects(max_share=0.001))
    share.secrets = job.secrets
    share.plan("restart")
    share.process()
    with pytest.raises(QuarantineLimitExceeded, match="2 of 300"):
        share.merge()


def test_without_its_secret_nothing_is_read_or_written(s3):
    s3.put("big.jsonl", as_jsonl(people(10)))
    job = Job(s3, "big.jsonl", mapping=MAPPING, protector=HMAC)
    job.plan()
    with pytest.raises(SecretRejected, match="'key'"):
        job.process()
    assert not [key for key in job.staged() if "/parts/" in key or "/done/" in key], "no chunk was begun"


def test_a_source_that_was_overwritten_is_an_error(s3):
    s3.put("big.jsonl", as_jsonl(people(300)))
    job = Job(s3, "big.jsonl", chunk_bytes=2 * KiB)
    job.plan()
    s3.put("big.jsonl", as_jsonl(people(300, seed=2)))
    with pytest.raises(ChunkFailed, match=r"s3://.*/big.jsonl"):
        job.process()
    assert not s3.has(job.target.key)


def test_the_input_is_removed_only_when_asked_and_unchanged(s3):
    s3.put("big.jsonl", as_jsonl(people(30)))
    job = Job(s3, "big.jsonl")
    job.plan()
    job.process()
    job.merge(delete_input=True)
    assert s3.keys() == ["out/big.jsonl"]


def test_groups_share_the_chunks_out_and_a_second_run_does_only_what_is_left(s3):
    s3.put("big.jsonl", as_jsonl(people(300)))
    job = Job(s3, "big.jsonl", chunk_bytes=1 * KiB, groups=3)
    plan = job.plan()
    assert plan.groups == 3
    assert sorted(chunk for group in range(3) for chunk in plan.members(group)) == list(range(plan.chunks))
    process_chunk(s3.client, job.staging, 1)
    receipt = process_group(s3.client, job.staging, 1)
    assert receipt.done_before == 1
    assert receipt.chunks == len(plan.members(1)) - 1
    assert process_group(s3.client, job.staging, 1).chunks == 0


def wide(rows: int) -> list[dict]:
    """So wide that a look at the head of the file does not see all of them."""
    return [{**row, "note": "plain " * 300} for row in people(rows)]


def bad_rows(name: str) -> bytes:
    rows = wide(300)
    if name == "csv":
        lines = as_csv(rows).split(b"\r\n")
        lines[150] = b"00150,too,many,fields"
        lines[200] = b"00200"
        return b"\r\n".join(lines)
    rows[150]["extra"] = 1
    rows[200]["another"] = "00"
    return MAKERS[name](rows)


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd"])
def test_parquet_gets_another_codec(s3, codec):
    import io

    import pyarrow.parquet as pq

    rows = people(600)
    s3.put("big.parquet", as_parquet(rows))
    job = Job(s3, "big.parquet", chunk_bytes=4 * KiB, output_compression=codec)
    job.run()
    found = pq.ParquetFile(io.BytesIO(job.output))
    column = found.metadata.row_group(0).column(0)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(codec, codec.upper())
    assert READERS["parquet"](job.output) == rows
