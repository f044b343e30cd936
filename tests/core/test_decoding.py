"""Structures are decoded from many threads at once, also for the first time."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import chunkwise
from chunkwise.core import decoding

#: threads that meet while one of them learns what a structure's member is
RACE = """
import sys, threading, msgspec
from chunkwise.core import decoding

learning, met = threading.Event(), threading.Event()

class Slow:
    def __class_getitem__(cls, item):
        learning.set()
        met.wait(0.5)
        return item

class Member(msgspec.Struct):
    number: "Slow[int]"

class Whole(msgspec.Struct):
    member: "Member"
    texts: "list[str]"

def go():
    body = b'{"member": {"number": 2}, "texts": ["x"]}'
    found.append({
        "decode": lambda: decoding.decode(body, Whole),
        "convert": lambda: decoding.convert(msgspec.json.decode(body), Whole),
        "msgspec": lambda: msgspec.json.decode(body, type=Whole),
    }[sys.argv[1]]())

found = []
threads = [threading.Thread(target=go) for _ in range(3)]
threads[0].start()
learning.wait()
for thread in threads[1:]:
    thread.start()
for thread in threads:
    thread.join()
assert found == [Whole(Member(2), ["x"])] * 3
"""


def race(way: str) -> int:
    return subprocess.run([sys.executable, "-c", RACE, way]).returncode


@pytest.mark.parametrize("way", ["decode", "convert"])
def test_threads_that_decode_a_kind_for_the_first_time_find_it_whole(way: str) -> None:
    assert race(way) == 0


def test_msgspec_alone_would_end_the_process() -> None:
    """When this fails, msgspec has mended it, and our own way around it can go."""
    assert race("msgspec") == -signal.SIGSEGV


def test_nothing_else_decodes_into_kinds() -> None:
    """A decoder that is made when its module is imported has learnt its kind in time."""
    package = Path(chunkwise.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        if path == Path(decoding.__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name.endswith(("msgspec.convert", "msgspec.json.decode", "msgpack.decode")) and (
                "convert" in name or len(node.args) > 1 or any(one.arg == "type" for one in node.keywords)
            ):
                found.append(f"{path.relative_to(package)}:{node.lineno}")
    assert found == []
