"""The large file of the demo: what is made, and that a comparison sees every difference."""

from __future__ import annotations

import csv
import hmac
import io
import json
import zlib
from typing import Any

import pytest

from benchmarks.dispatch.people import COLUMNS, PROTECTED
from chunkwise.core.protect.hmac_tokens import HmacOptions, HmacProtector
from chunkwise.core.protect.model import Task
from dev import large_file
from dev.large_file import KEY, Different, compare, put
from dev.localstack import LocalStack

SECRET = "k" * 40


@pytest.fixture
def s3(localstack: LocalStack, ls_bucket: str) -> Any:
    """A client; the bucket holds a small file of the demo."""
    client = localstack.client("s3")
    put(client, ls_bucket, 1_000)
    return client


def read(s3: Any, bucket: str, key: str = KEY) -> list[list[str]]:
    text = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    return list(csv.reader(io.StringIO(text)))


def protected(rows: list[list[str]]) -> list[list[str]]:
    """The rows as the protector of Chunkwise makes them."""
    protector = HmacProtector(HmacOptions(), SECRET)
    header, *rest = rows
    columns = list(zip(*rest, strict=True))
    for name in PROTECTED:
        index = header.index(name)
        task = Task(column=name, operation="protect", data_element=name)
        columns[index] = tuple(protector.protect(task, columns[index]))
    return [header, *map(list, zip(*columns, strict=True))]


def write(s3: Any, bucket: str, rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    body = text.getvalue().encode()
    s3.put_object(Bucket=bucket, Key="out.csv", Body=body)
    return body


def test_the_file_has_its_columns_and_a_mapping_beside_it(s3: Any, ls_bucket: str) -> None:
    rows = read(s3, ls_bucket)
    assert rows[0] == list(COLUMNS)
    assert len(rows) > 1_000
    mapping = json.loads(s3.get_object(Bucket=ls_bucket, Key="mapping.json")["Body"].read())
    assert sorted([*mapping["columns"], *mapping["ignored-columns"]]) == sorted(COLUMNS)


def test_a_file_of_several_parts_is_as_large_as_reported(
    s3: Any, ls_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = read(s3, ls_bucket)
    monkeypatch.setattr(large_file, "PART_BYTES", 5 * 1024 * 1024)  # the smallest that S3 takes
    size = put(s3, ls_bucket, 11_000_000)
    head = s3.head_object(Bucket=ls_bucket, Key=KEY)
    assert head["ContentLength"] == size >= 11_000_000
    assert head["ETag"].endswith('-3"')
    assert read(s3, ls_bucket)[: len(small)] == small


def test_the_right_file_is_counted_and_summed_up(s3: Any, ls_bucket: str) -> None:
    """The tokens are those of the protector, which the comparison makes in another way."""
    rows = read(s3, ls_bucket)
    body = write(s3, ls_bucket, protected(rows))
    compared = compare(s3, f"s3://{ls_bucket}/{KEY}", f"s3://{ls_bucket}/out.csv", secret=SECRET)
    assert compared.rows == len(rows) - 1
    assert compared.tokens == 2 * compared.rows
    assert (compared.size, compared.crc32) == (len(body), zlib.crc32(body))
    source = s3.get_object(Bucket=ls_bucket, Key=KEY)["Body"].read()
    assert compared.source_crc32 == zlib.crc32(source)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda rows: rows.pop(), "out.csv ends before row"),
        (lambda rows: rows.append(rows[-1]), "people.csv ends before row"),
        (lambda rows: rows.pop(500), "row 500 of"),
        (lambda rows: rows.insert(1, rows.pop()), "row 1 of"),
        (lambda rows: rows[77].__setitem__(0, "0"), "row 77 of"),
        (lambda rows: rows[8].__setitem__(2, hmac.digest(b"x", b"y", "sha256").hex()), "row 8 of"),
        (lambda rows: rows[0].reverse(), "another header"),
        (lambda rows: rows.clear(), "another header"),
    ],
    ids=[
        "a row too few",
        "a row twice",
        "a row lost",
        "another order",
        "a cell",
        "a token",
        "header",
        "empty",
    ],
)
def test_every_difference_is_seen(s3: Any, ls_bucket: str, damage: Any, said: str) -> None:
    rows = protected(read(s3, ls_bucket))
    damage(rows)
    write(s3, ls_bucket, rows)
    with pytest.raises(Different, match=said):
        compare(s3, f"s3://{ls_bucket}/{KEY}", f"s3://{ls_bucket}/out.csv", secret=SECRET)


def test_tokens_of_another_key_are_not_right(s3: Any, ls_bucket: str) -> None:
    write(s3, ls_bucket, protected(read(s3, ls_bucket)))
    with pytest.raises(Different, match="row 1 of"):
        compare(s3, f"s3://{ls_bucket}/{KEY}", f"s3://{ls_bucket}/out.csv", secret="x" * 40)
