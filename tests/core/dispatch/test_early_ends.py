"""What the log of a function says of requests that did not begin their chunk, in Lambda's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chunkwise.core.dispatch.early_ends import Ended, ends, request_of

ID = "8f5c5ad1-30e1-4a3c-9c1f-2f8f5f0f6b11"
OTHER = "0d0d0d0d-30e1-4a3c-9c1f-2f8f5f0f6b11"
TRACE = "\rTraceback (most recent call last):\r  File 4111 1111"


def event(message: str, timestamp: int = 1) -> dict[str, Any]:
    return {"logStreamName": "s", "timestamp": timestamp, "message": message, "eventId": "1"}


def kinds(*messages: str, begun: set[str] | None = frozenset()) -> list[str]:  # type: ignore[assignment]
    return list(ends([event(message) for message in messages], lambda: begun))


def platform(kind: str, **record: Any) -> str:
    return json.dumps({"time": "2026-11-21T10:00:00.000Z", "type": f"platform.{kind}", "record": record})


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (f"[ERROR] ConfigError: environment: FILE_CHUNK_SIZE is 4111{TRACE}", "ConfigError"),
        ("[ERROR] ConfigError: x\nTraceback (most recent call last):\n", "ConfigError"),
        ("[ERROR] SourceChanged", "SourceChanged"),
        ("[ERROR] KeyError: '4111 1111'", "KeyError"),
        ("[ERROR] Runtime.ImportModuleError: Unable to import module 'a.b': No", "Runtime.ImportModuleError"),
        (
            "INIT_REPORT Init Duration: 20.1 ms\tStatus: error\tError Type: Runtime.ExitError\t\n",
            "Runtime.ExitError",
        ),
        ("INIT_REPORT Init Duration: 9999.1 ms\tPhase: init\tStatus: timeout", "a time-out"),
        (f"2026-11-21T10:00:02.010Z {ID} Task timed out after 2.00 seconds\n\n", "a time-out"),
        (f"RequestId: {ID} Error: Runtime exited with error: exit status 3\n", "exit status 3"),
        (f"RequestId: {ID} Error: Runtime exited with error: signal: killed", "signal: killed"),
        (
            json.dumps({"timestamp": "t", "level": "ERROR", "errorType": "ConfigError", "requestId": ID}),
            "ConfigError",
        ),
        (platform("report", requestId=ID, status="timeout", metrics={"durationMs": 1.0}), "a time-out"),
        (
            platform("report", requestId=ID, status="error", errorType="Runtime.OutOfMemory"),
            "Runtime.OutOfMemory",
        ),
        (platform("initReport", phase="init", status="error", errorType="Runtime.X"), "Runtime.X"),
        (platform("initReport", phase="init", status="timeout"), "a time-out"),
    ],
)
def test_each_form_of_an_end_is_told_by_its_kind(line: str, kind: str):
    assert kinds(line) == [kind]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        '{"errorType": 7}',
        '{"errorType": "4111 1111"}',
        '{"time": "t", "level": "ERROR", "message": "errorType", "error": "KeyError"}',
        "[ERROR] 4111 1111: x",
        "[ERROR] Alice: x",
        "[ERROR] Alice Error",
        "[ERROR]\t2026-11-21T10:00:00Z\tid\tKeyError",
        "[ERROR] ChunkFailed: chunk 7 of s3://b/k: x",
        "a line that quotes [ERROR] KeyError: x",
        "a line that says Task timed out after 2.00 seconds",
        f"2026-11-21T10:00:02.010Z {ID} a call: Task timed out after 2.00 seconds",
        f"RequestId: {ID} Error: Runtime exited with error: 4111",
        "INIT_REPORT Init Duration: 20.1 ms\tPhase: init\tStatus: success",
        platform("report", requestId=ID, status="success"),
        platform("runtimeDone", requestId=ID, status="timeout"),
        platform("report", requestId=ID, status="error", errorType="Alice"),
    ],
)
def test_nothing_else_is_told(line: str):
    """Data that somebody prints least of all; failures of chunks have records of their own."""
    assert kinds(line) == []


def test_a_request_that_has_begun_does_not_count():
    lines = [
        f"2026-11-21T10:00:02.010Z {ID} Task timed out after 2.00 seconds",
        f"RequestId: {OTHER} Error: Runtime exited with error: exit status 3",
    ]
    assert kinds(*lines, begun={ID}) == ["exit status 3"]
    assert kinds(*lines, begun=None) == [], "where it is not known, none counts"


def test_what_has_begun_is_asked_for_once_and_only_if_it_matters():
    asked = []

    def begun() -> set[str]:
        asked.append(1)
        return set()

    ends([event("[ERROR] KeyError: x")] * 3, begun)
    assert asked == []
    ends([event(f"RequestId: {ID} Error: Runtime exited with error: exit status 3")] * 3, begun)
    assert asked == [1]


def test_the_report_of_an_exit_gives_way_to_the_line_that_says_more():
    report = "INIT_REPORT Init Duration: 20.1 ms\tPhase: init\tStatus: error\tError Type: Runtime.ExitError"
    exit_ = f"RequestId: {ID} Error: Runtime exited with error: exit status 3"
    assert kinds(report, exit_) == ["exit status 3"]
    assert kinds(report) == ["Runtime.ExitError"]


def test_ends_of_a_kind_keep_their_order_and_places():
    found = ends([event("[ERROR] KeyError", 3), event("[ERROR] KeyError: x", 5)], set)
    assert found == {
        "KeyError": [
            Ended(kind="KeyError", stream="s", timestamp=3),
            Ended(kind="KeyError", stream="s", timestamp=5),
        ]
    }


def test_the_first_report_tells_the_request():
    lines = [
        "REPORT RequestId: 4111\t",
        f"REPORT RequestId: {ID}\tDuration: 2.00 ms",
        f"REPORT RequestId: {OTHER}\t",
    ]
    assert request_of([event(line) for line in lines]) == ID
    assert request_of([]) is None
