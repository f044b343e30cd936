"""The proof of a finished job, again, from source and output alone."""

import itertools
import json

import pytest

from chunkwise.core.dispatch.verify import verify
from chunkwise.core.units import KiB
from tests.core.dispatch.driver import HMAC, MAPPING, SECRETS, Job
from tests.support.files import MAKERS, people


def checked(s3, job: Job, **options):
    return verify(s3.client, job.source, job.target, job.config, **options)


@pytest.mark.parametrize("name", MAKERS)
def test_an_honest_job_holds(s3, name):
    s3.put(f"big.{name}", MAKERS[name](people(300)))
    job = Job(s3, f"big.{name}", chunk_bytes=4 * KiB, mapping=MAPPING, protector=HMAC)
    job.secrets = SECRETS
    job.run()
    found = checked(s3, job)
    assert found.ok
    assert (found.source_rows, found.output_rows) == (300, 300)
    assert found.columns == ("id", "note")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(source, target, marks=() if number % 5 == 1 else pytest.mark.long)
        for number, (source, target) in enumerate(itertools.product(MAKERS, MAKERS))
    ],
)
def test_a_conversion_holds_whatever_the_formats(s3, source, target):
    s3.put(f"big.{source}", MAKERS[source](people(300)))
    job = Job(s3, f"big.{source}", target=f"out.{target}", chunk_bytes=4 * KiB, output_format=target)
    job.run()
    found = checked(s3, job)
    assert found.ok
    assert found.columns == ("id", "name", "note")


@pytest.mark.parametrize("name", ["jsonl", "csv", "json"])
def test_one_changed_byte_is_found(s3, name):
    data = MAKERS[name](people(300))
    s3.put(f"big.{name}", data)
    job = Job(s3, f"big.{name}", chunk_bytes=4 * KiB)
    job.run()
    assert checked(s3, job).identical
    s3.put(job.target.key, data.replace(b"00123", b"00124", 1))
    found = checked(s3, job)
    assert not found.ok
    assert (found.identical, found.differing) == (False, ("id",))


def test_a_missing_row_is_found(s3):
    data = MAKERS["jsonl"](people(300))
    s3.put("big.jsonl", data)
    job = Job(s3, "big.jsonl")
    job.run()
    s3.put(job.target.key, data[data.index(b"\n") + 1 :])
    found = checked(s3, job)
    assert (found.ok, found.source_rows, found.output_rows) == (False, 300, 299)


def test_nested_values_are_compared_as_well(s3):
    rows = [{"id": n, "nested": {"a": [n, {"b": None}]}} for n in range(50)]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    s3.put("big.jsonl", data)
    job = Job(s3, "big.jsonl")
    job.run()
    assert checked(s3, job).ok
    s3.put(job.target.key, data.replace(b"[7, ", b"[8, "))
    assert checked(s3, job).differing == ("nested",)


def test_a_column_that_was_not_protected_is_an_alarm(s3):
    data = MAKERS["csv"](people(300))
    s3.put("big.csv", data)
    job = Job(s3, "big.csv", mapping=MAPPING, protector=HMAC)
    s3.put(job.target.key, data)
    found = checked(s3, job)
    assert (found.ok, found.unchanged, found.differing) == (False, ("name",), ())


@pytest.mark.parametrize(
    ("options", "compression"),
    [({"header": False}, "none"), ({"sep": ";"}, "none"), ({}, "gzip"), ({"sep": ";"}, "zstd")],
)
def test_an_output_is_read_as_it_was_written(s3, options, compression):
    s3.put("big.jsonl", MAKERS["jsonl"](people(300)))
    job = Job(
        s3,
        "big.jsonl",
        target="out.dat",
        output_format="csv",
        output_options=options,
        output_compression=compression,
    )
    job.run()
    assert checked(s3, job).ok


ODD = {
    "jsonl": b'{"id":"1","note":"\xff\xc3","n\xff":"a\\n\xfe"}\n{"id":"2","note":"x"}\n',
    "json": b'[{"id":"1","note":"\xff\xc3","n\xff":"a\\n\xfe"},\n{"id":"2","note":"x"}]',
    "csv": b"id,note\n1,\xff\xc3\n2,x\n",
}


@pytest.mark.parametrize("name", ODD)
def test_bytes_that_are_not_utf_8_hold_where_they_were_kept(s3, name):
    s3.put(f"big.{name}", ODD[name])
    job = Job(s3, f"big.{name}")
    job.run()
    found = checked(s3, job)
    assert (found.ok, found.identical, found.source_rows, found.output_rows) == (True, True, 2, 2)


@pytest.mark.parametrize("name", ["jsonl", "json"])
def test_a_changed_byte_beside_a_protected_column_is_found_though_it_is_not_utf_8(s3, name):
    s3.put(f"big.{name}", ODD[name].replace(b'"n\xff":"a\\n\xfe"', b'"name":"a"'))
    job = Job(s3, f"big.{name}", mapping=MAPPING, protector=HMAC)
    job.secrets = SECRETS
    job.run()
    assert checked(s3, job).ok
    assert b"\xff\xc3" in job.output
    s3.put(job.target.key, job.output.replace(b"\xff\xc3", b"\xfe\xc3"))
    assert checked(s3, job).differing == ("note",)
