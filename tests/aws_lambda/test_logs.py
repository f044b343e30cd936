"""Log lines are JSON objects with the fields that the documented queries ask for, and hold no data."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

from chunkwise.aws_lambda import logs
from chunkwise.aws_lambda.processor import handler
from chunkwise.core.errors import ChunkFailed
from tests.support.dispatch import planned, source
from tests.support.lambda_runtime import Context, log_lines
from tests.support.strict_s3 import StrictS3

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
#: words of the query language
WORDS = {"fields", "filter", "sort", "stats", "by", "count", "sum", "max", "ispresent", "as"}


def queries() -> list[str]:
    found = re.findall(r"```\n((?:fields|filter) .*?)```", README, re.DOTALL)
    assert len(found) == 2
    return found


def fields_of(query: str) -> set[str]:
    return {*re.findall(r"[a-z_]+", re.sub(r'"[^"]*"', "", query))} - WORDS


def test_the_documented_queries_find_their_fields(s3: StrictS3):
    source(s3, rows=100)
    staging = planned(s3)
    with log_lines() as lines:
        manifest = f"s3://{s3.bucket}/{staging.manifest_key(0)}"
        handler({"manifest": manifest}, Context())
    told = [line for line in lines if line.get("dispatch") == staging.uri and "message" in line]
    (metrics,) = [line for line in lines if "peak_memory" in line]
    by_line, by_metric = map(fields_of, queries())
    assert told
    for line in told:
        assert by_line - {"dispatch"} <= {*line}, line
    assert by_metric - {"memory_limit"} <= {*metrics}


def test_the_memory_limit_is_a_metric_where_there_is_one(s3: StrictS3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "10240")
    source(s3, rows=100)
    staging = planned(s3)
    with log_lines() as lines:
        handler({"manifest": f"s3://{s3.bucket}/{staging.manifest_key(0)}"}, Context())
    (metrics,) = [line for line in lines if "peak_memory" in line]
    assert 0 < metrics["peak_memory"] < metrics["memory_limit"] <= 10240 * 2**20


@contextmanager
def function_log() -> Iterator[io.StringIO]:
    """The log of a function whose runtime has no handler of its own."""
    root = logging.getLogger()
    found = io.StringIO()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        with redirect_stdout(found):
            yield found
    finally:
        root.handlers[:] = before
        root.setLevel(level)


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        (logging.DEBUG, ["debug", "info", "warning", "error"]),
        (logging.INFO, ["info", "warning", "error"]),
        (logging.ERROR, ["error"]),
        (60, []),
    ],
)
def test_what_is_below_the_level_is_not_logged_and_metrics_are(level, seen):
    with function_log() as stream:
        logs.set_up(level)
        logs.set_up(level)  # a warm environment: lines are not doubled
        log = logging.getLogger("chunkwise.test")
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)("%s", name)
        logs.put_metrics("f", seconds=1.0)
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert [line["message"] for line in lines if "message" in line] == seen
        assert len([line for line in lines if "_aws" in line]) == 1


def test_bound_fields_are_on_the_lines_of_every_thread_and_go_again():
    with function_log() as stream:
        logs.set_up(logging.INFO)
        log = logging.getLogger("chunkwise.test")
        with logs.bound(dispatch="d", chunk=1, attempt=None):
            thread = threading.Thread(target=log.info, args=("inside",))
            thread.start()
            thread.join()
        log.info("outside")
        inside, outside = (json.loads(line) for line in stream.getvalue().splitlines())
        assert (inside["dispatch"], inside["chunk"]) == ("d", 1)
        assert "attempt" not in inside
        assert "dispatch" not in outside


def test_fields_that_overlap_in_two_threads_leave_nothing_behind():
    with function_log() as stream:
        logs.set_up(logging.INFO)
        first, second = logs.bound(dispatch="d", chunk=1), logs.bound(chunk=2)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        logging.getLogger("chunkwise.test").info("between")
        second.__exit__(None, None, None)
        logging.getLogger("chunkwise.test").info("after")
        between, after = (json.loads(line) for line in stream.getvalue().splitlines())
        assert between["chunk"] == 2
        assert "dispatch" not in between
        assert "chunk" not in after


def test_a_foreign_exception_is_told_by_its_class_and_places_only():
    with function_log() as stream:
        logs.set_up(logging.INFO)
        log = logging.getLogger("chunkwise.test")
        try:
            raise ValueError("a cell of somebody's table")
        except ValueError:
            log.exception("it failed")
        try:
            raise ChunkFailed("chunk 7 failed")
        except ChunkFailed:
            log.exception("it failed")
        foreign, ours = (json.loads(line) for line in stream.getvalue().splitlines())
        assert foreign["error"] == "ValueError"
        assert foreign["places"][0].startswith("test_logs.py:")
        assert "table" not in json.dumps(foreign)
        assert ours["error_message"] == "chunk 7 failed"


def test_what_the_clients_say_of_requests_is_not_logged():
    with function_log() as stream:
        logs.set_up(logging.DEBUG)
        logging.getLogger("botocore.endpoint").debug("Making request with headers ...")
        logging.getLogger("urllib3.connectionpool").debug("GET /key?X-Amz-Signature=...")
        assert stream.getvalue() == ""


def test_every_line_is_one_line():
    with function_log() as stream:
        logs.set_up(logging.INFO)
        logging.getLogger("chunkwise.test").info("two\nlines, \u2028 and ü")
        (line,) = stream.getvalue().split("\n")[:-1]
        assert json.loads(line)["message"] == "two\nlines, \u2028 and ü"
