"""Two tries of a job look the same if and only if they would write the same."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial

import pytest

from chunkwise.core.digests import digest, digest_secrets
from chunkwise.core.ingest.fingerprint import described
from chunkwise.core.paging import PageRequest
from chunkwise.core.records.transforms import Drop, Hash, transform_to_json
from tests.core.ingest.conftest import cursor_spec


def tag(record, value):
    return {**record, "tag": value}


def closure(value):
    return lambda record: {**record, "tag": value}


def one(record):
    return {**record, "n": 1}


def two(record):
    return {**record, "n": 2}


two.__qualname__ = one.__qualname__


class Tagger:
    def __init__(self, value):
        self.value = value

    def __call__(self, record):
        return {**record, "tag": self.value}


@dataclass
class Own:
    field: str

    def first(self):
        return PageRequest(query={"f": self.field})

    def after(self, request, _page):
        return request


def print_of(transform):
    return digest(described(transform, transform_to_json))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (partial(tag, value="OLD"), partial(tag, value="NEW")),
        (closure("OLD"), closure("NEW")),
        (Tagger("OLD"), Tagger("NEW")),
        (one, two),
        (Drop(fields=["a"]), Drop(fields=["b"])),
        (Drop(fields=["a"]), one),
    ],
)
def test_another_transform_is_another_job(left, right):
    assert print_of(left) != print_of(right)
    assert print_of(left) == print_of(left)


def test_an_own_paginator_counts_with_its_fields():
    spec = cursor_spec("http://a", "b")
    old, new = replace(spec, paginator=Own("OLD")), replace(spec, paginator=Own("NEW"))
    assert old.fingerprint() == replace(spec, paginator=Own("OLD")).fingerprint()
    changed = {name for name, value in old.fingerprint().items() if new.fingerprint()[name] != value}
    assert changed == {"paginator"}


def test_another_secret_is_another_job_and_cannot_be_read_from_it():
    spec = replace(cursor_spec("http://a", "b"), transforms=[Hash(fields=["k"], secret="s")])
    one_key, other = spec.fingerprint({"s": "hunter2"}), spec.fingerprint({"s": "hunter3"})
    assert {name for name in one_key if one_key[name] != other[name]} == {"secrets"}
    assert "hunter2" not in json.dumps(one_key)
    assert digest_secrets({"s": "x"}, "here") != digest_secrets({"s": "x"}, "there")


SCRIPT = """
from tests.core.ingest.test_fingerprint import *
own = (one, closure("x"), partial(tag, value="x"), Tagger("x"), lambda r: r if r in {"a", "b"} else None)
print([print_of(transform) for transform in own])
"""


def test_another_process_sees_the_same():
    def run(seed):
        return subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert run("1") == run("2")
