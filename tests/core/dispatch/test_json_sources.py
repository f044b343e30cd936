"""Whole dispatches of JSON: documents with an array inside, records of any kind, and rows that are bad."""

import gzip
import json

import pytest

from chunkwise.core.dispatch.spec import Rejects
from chunkwise.core.dispatch.verify import verify
from chunkwise.core.errors import ChunkFailed, ConfigError
from chunkwise.core.protect.mapping import parse_mapping
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.units import KiB
from tests.core.dispatch.driver import Job

PATH = {"records_path": "data.items"}
RECORDS = [{"id": number, "text": f'}},{{"id": {number}\\'} for number in range(300)]


def document(before: str = "", after: str = "") -> bytes:
    return (
        f'{{"meta": {{"items": [1]}}{before}, "data": {{"items": {json.dumps(RECORDS)}}}{after}}}\n'.encode()
    )


def checked(job: Job) -> bool:
    return verify(job.s3.client, job.source, job.target, job.config).ok


# --- an array inside a document -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["assume", "exact"])
@pytest.mark.parametrize("around", [0, 300, 80_000], ids=["short", "longer", "copied"])
def test_a_document_comes_out_as_it_was(s3, mode, around):
    text = ', "long": "%s"' % ("é" * around)
    data = document(text.replace("long", "first"), text)
    s3.put("f.json", data)
    job = Job(s3, "f.json", options=PATH, chunk_bytes=2 * KiB, mode=mode)
    receipt = job.run()
    assert job.output == data
    assert receipt.rows_in == receipt.rows_out == 300
    assert receipt.chunks > 5
    assert checked(job)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("source", ["none", "gzip"])
def test_a_document_is_compressed_and_decompressed(s3, source, compression):
    data = document(', "m": "%s"' % ("x" * 70_000), ', "n": "%s"' % ("y" * 70_000))
    key = "f.json" if source == "none" else "f.json.gz"
    s3.put(key, data if source == "none" else gzip.compress(data))
    job = Job(s3, key, target="out.json", options=PATH, chunk_bytes=4 * KiB, output_compression=compression)
    assert job.run().rows_out == 300
    if compression == "gzip":
        assert gzip.decompress(job.output) == data
    elif compression == "none":
        assert job.output == data
    else:
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(job.output, read_across_frames=True)
        assert reader.read() == data


@pytest.mark.parametrize("beside", [True, False])
def test_what_looks_like_records_after_the_array_is_none(s3, beside):
    """The cuts that were assumed there are mended, and only then is anything published."""
    more = f', "more": {json.dumps(RECORDS * 20)}'
    data = document(after=more)
    if beside:
        data = document().replace(b"]}}\n", b"]" + more.encode() + b"}}\n")
    s3.put("f.json", data)
    job = Job(s3, "f.json", options=PATH, chunk_bytes=20 * KiB)
    job.plan()
    job.process()
    receipt = job.merge()
    assert receipt.replanned
    assert receipt.rows_out == 300
    assert job.output == data


def test_only_the_records_are_converted(s3):
    s3.put("f.json", document(', "m": 1', ', "n": 2'))
    for target in ("jsonl", "json.jsonl"):
        job = Job(
            s3, "f.json", target=f"out.{target}", options=PATH, chunk_bytes=2 * KiB, output_format="jsonl"
        )
        job.run()
        assert [json.loads(line) for line in job.output.splitlines()] == RECORDS
        assert checked(job)


def test_a_key_of_the_path_that_stands_twice_publishes_nothing(s3):
    s3.put("f.json", document(after=', "data": {"items": []}'))
    job = Job(s3, "f.json", options=PATH, chunk_bytes=2 * KiB, mode="exact")
    job.plan()
    with pytest.raises(ChunkFailed, match=r"f.json: byte \d+: the key 'data' of records_path 'data.items'"):
        job.process()
    with pytest.raises(ChunkFailed, match="second time"):
        job.merge()
    assert not s3.has(job.target.key)


# --- records of any kind ------------------------------------------------------------------------------------

SCALARS = ["1", '"x"', "null", "[1, [2]]", "1.10", "18446744073709551616", '{"a":1,"a":2}', '"},{"', "{}"]


@pytest.mark.parametrize("chunk_bytes", [3, 10, 1000])
@pytest.mark.parametrize("records", [SCALARS, SCALARS[:6]], ids=["mixed", "scalars"])
def test_records_of_any_kind_go_there_and_back(s3, chunk_bytes, records):
    lines = "".join(f"{record}\n" for record in records).encode()
    s3.put("f.jsonl", lines)
    there = Job(s3, "f.jsonl", target="g.json", chunk_bytes=chunk_bytes, output_format="json", mode="exact")
    assert there.run().rows_out == len(records)
    assert there.output == ("[\n" + ",\n".join(records) + "\n]\n").encode()
    assert checked(there)
    back = Job(s3, "g.json", target="h.jsonl", chunk_bytes=chunk_bytes, output_format="jsonl", mode="exact")
    back.run()
    assert back.output == lines
    assert checked(back)


def test_scalars_have_no_columns_to_protect_or_to_convert(s3):
    s3.put("f.jsonl", b"1\n2\n")
    mapping = parse_mapping(
        b'{"columns": {"a": {"operation": "protect", "data_element": "a"}}}', "mapping.json"
    )
    with pytest.raises(ConfigError, match="no named columns"):
        Job(s3, "f.jsonl", mapping=mapping, protector=ProtectorSpec(name="mask")).plan()
    with pytest.raises(ConfigError, match="columns"):
        Job(s3, "f.jsonl", target="f.csv", output_format="csv").plan()
    with pytest.raises(ConfigError, match="columns"):
        Job(s3, "f.jsonl", target="f.parquet", output_format="parquet").plan()


# --- bad rows -----------------------------------------------------------------------------------------------

#: a record, and what is said of it when the file is to become a table
BAD = {
    '{"id":"1","name":"x","name":"y"}': "the key 'name' stands twice in it",
    "[1]": "it is an array, not an object",
    '"x"': "it is a string, not an object",
    "nope": "it is not valid JSON: byte 0 of it cannot stand there",
    '{"id":"1","name":"\\ud800"}': "has half of a surrogate pair in the value of 'name'",
    '{"id":"1","shoe":"42"}': "'shoe'",
}


def with_bad_row(name: str, bad: str, at: int = 250) -> bytes:
    records = [json.dumps({"id": str(number), "name": "n" * 1000}) for number in range(300)]
    records[at] = bad
    return ("[" + ",\n".join(records) + "]" if name == "json" else "\n".join(records)).encode()


@pytest.mark.parametrize(("name", "target"), [("json", "parquet"), ("jsonl", "csv")])
@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_row_that_cannot_be_converted_is_named(s3, name, target, bad):
    """The message has the source, the chunk, the row in the chunk, the field, and the way out."""
    s3.put(f"in/f.{name}", with_bad_row(name, bad))
    job = Job(
        s3, f"in/f.{name}", target=f"f.{target}", output_format=target, chunk_bytes=64 * KiB, mode="exact"
    )
    plan = job.plan()
    with pytest.raises(ChunkFailed) as error:
        job.process()
    [chunk] = [
        number
        for number in range(plan.chunks)
        if s3.get(f"in/f.{name}")[plan.span(number).start.position : plan.span(number).end.position].count(
            bad.encode()
        )
    ]
    start = plan.span(chunk).start.position
    data = s3.get(f"in/f.{name}")
    row = data[start : data.index(bad.encode(), start)].count(b"\n")
    message = str(error.value)
    assert f"chunk {chunk} of {plan.source.uri}: row {row} of the chunk" in message
    assert message.count(plan.source.uri) == 1
    assert BAD[bad] in message
    assert "Mend the source, or let bad rows be put aside (rejects), and restart" in message
    with pytest.raises(ChunkFailed, match=f"chunk {chunk}: {plan.source.uri}: row {row} of the chunk"):
        job.merge()
    assert not s3.has(job.target.key)


@pytest.mark.parametrize("name", ["json", "jsonl"])
@pytest.mark.parametrize("target", ["csv", "parquet"])
def test_rows_that_cannot_be_converted_are_put_aside_under_their_own_numbers(s3, name, target):
    records = [json.dumps({"id": str(number), "name": "n" * 1000}) for number in range(300)]
    for at, bad in zip(range(200, 206), BAD, strict=True):
        records[at] = bad
    text = "[" + ",\n".join(records) + "]" if name == "json" else "\n".join(records)
    s3.put(f"f.{name}", text.encode())
    job = Job(
        s3, f"f.{name}", target=f"f.{target}", output_format=target, rejects=Rejects(max_records=len(BAD))
    )
    receipt = job.run()
    assert (receipt.rows_in, receipt.rows_out, receipt.rejected) == (300, 294, 6)
    aside = [
        json.loads(line)
        for line in gzip.decompress(s3.get(f"_chunkwise/f.{target}.rejected.jsonl.gz")).splitlines()
    ]
    assert {row["row"]: row["data"] for row in aside} == dict(zip(range(200, 206), BAD, strict=True))
    for row in aside:
        assert BAD[row["data"]] in row["reason"]
        if row["position"] >= 0:
            assert text.encode()[row["position"] :].startswith(row["data"].encode())


@pytest.mark.parametrize(("name", "target"), [("json", "jsonl"), ("jsonl", "json"), ("jsonl", "parquet")])
def test_a_row_that_is_not_utf_8_gets_into_no_other_document(s3, name, target):
    """What keeps the form keeps the bytes; what becomes another document refuses the row, or rejects it."""
    bad = b'{"id":"250","name":"\xff"}'
    data = with_bad_row(name, "BAD").replace(b"BAD", bad)
    s3.put(f"f.{name}", data)
    same = Job(s3, f"f.{name}", chunk_bytes=64 * KiB, rejects=Rejects(max_records=0))
    same.run()
    assert same.output == data

    options = {"output_format": target, "chunk_bytes": 64 * KiB, "mode": "exact"}
    job = Job(s3, f"f.{name}", target=f"f.{target}", **options)
    job.plan("restart")
    with pytest.raises(ChunkFailed, match=r"row \d+ of the chunk, at byte \d+: byte 20 of it is not UTF-8"):
        job.process()

    aside = Job(s3, f"f.{name}", target=f"g.{target}", rejects=Rejects(max_records=1), **options)
    aside.plan("restart")
    aside.process()
    receipt = aside.merge()
    assert (receipt.rows_in, receipt.rows_out, receipt.rejected) == (300, 299, 1)
    if target != "parquet":
        assert "250" not in [row["id"] for row in _rows(aside.output.decode(), target)]


def _rows(text: str, name: str) -> list[dict[str, str]]:
    return json.loads(text) if name == "json" else [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_a_protected_column_that_stands_twice_is_never_left_in_clear(s3, name):
    mapping = parse_mapping(
        json.dumps(
            {"columns": {"name": {"operation": "protect", "data_element": "n"}}, "ignored-columns": ["id"]}
        ).encode(),
        "mapping.json",
    )
    twice = '{"id":"1","name":"clear","id":"2","n\\u0061me":"clear"}'
    s3.put(f"f.{name}", with_bad_row(name, twice))
    options = {"mapping": mapping, "protector": ProtectorSpec(name="mask"), "chunk_bytes": 64 * KiB}
    job = Job(s3, f"f.{name}", mode="exact", **options)
    job.plan()
    with pytest.raises(ChunkFailed, match=r"row \d+ of the chunk, at byte \d+: the key 'name' stands twice"):
        job.process()
    aside = Job(s3, f"f.{name}", target=f"g.{name}", rejects=Rejects(max_records=1), **options)
    aside.plan("restart")
    aside.process()
    assert aside.merge().rejected == 1
    assert b"clear" not in aside.output
    # another column that stands twice keeps both of its values
    s3.put(f"f.{name}", with_bad_row(name, '{"id":"1","name":"clear","id":"2"}'))
    both = Job(s3, f"f.{name}", target=f"h.{name}", **options)
    both.plan("restart")
    both.process()
    both.merge()
    assert b"clear" not in both.output
    assert b'"id":"1","name":"*****","id":"2"}' in both.output
