"""What the lines of a log say about the end of a request, in Lambda's words of different years."""

import json

import pytest

from chunkwise.core.dispatch.platform_log import Said, read

ID = "8f5c5ad1-30e1-4a3c-9c1f-2f8f5f0f6b11"
OTHER = "0d0d0d0d-30e1-4a3c-9c1f-2f8f5f0f6b11"
KILLED = f"RequestId: {ID} Error: Runtime exited with error: signal: killed"


def report(*more: str, used: int = 512, request_id: str = ID) -> str:
    fields = [
        f"REPORT RequestId: {request_id}",
        "Duration: 2000.00 ms",
        "Billed Duration: 2000 ms",
        "Memory Size: 512 MB",
        f"Max Memory Used: {used} MB",
        *more,
    ]
    return "\t".join(fields) + "\t\n"


def platform(status: str, error_type: str | None = None, *, kind: str = "platform.report") -> str:
    metrics = {"durationMs": 2000.0, "billedDurationMs": 2000, "memorySizeMB": 512, "maxMemoryUsedMB": 300}
    record = {"requestId": ID, "metrics": metrics, "status": status}
    if error_type is not None:
        record["errorType"] = error_type
    return json.dumps({"time": "2026-11-21T10:00:00.000Z", "type": kind, "record": record})


@pytest.mark.parametrize(
    "lines",
    [
        [f"2026-11-21T10:00:02.010Z {ID} Task timed out after 2.00 seconds\n\n"],
        [f"2026-11-21T10:00:02.010Z {ID} Task timed out after 2.00 seconds", report(used=90)],
        [report("Status: timeout", used=90)],
        [platform("timeout")],
    ],
    ids=["line", "line and report", "status", "json"],
)
def test_a_time_out_is_told_in_each_form(lines):
    said = read(lines, ID)
    assert said.timed_out
    assert not said.out_of_memory


def test_the_line_of_a_time_out_tells_its_seconds():
    assert (
        read([f"2026-11-21T10:00:02.010Z {ID} Task timed out after 900.10 seconds\n\n"], ID).seconds == 900.1
    )


@pytest.mark.parametrize(
    "lines",
    [
        [KILLED],
        [KILLED, report(used=511)],
        [KILLED, report("Status: error", "Error Type: Runtime.ExitError")],
        [KILLED, report("Status: error", "Error Type: Runtime.OutOfMemory", used=470)],
        [report("Status: error", "Error Type: Runtime.OutOfMemory", used=90)],
        [platform("error", "Runtime.OutOfMemory")],
    ],
    ids=["line alone", "nearly full", "full", "said", "report alone", "json"],
)
def test_a_death_of_memory_is_told_or_follows_from_a_full_memory(lines):
    said = read(lines, ID)
    assert said.out_of_memory
    assert not said.timed_out


def test_a_kill_with_much_memory_left_is_no_death_of_memory():
    said = read([KILLED, report("Status: error", "Error Type: Runtime.ExitError", used=90)], ID)
    assert (said.out_of_memory, said.timed_out) == (False, False)
    assert (said.end, said.used_mb, said.memory_mb) == ("signal: killed", 90, 512)


@pytest.mark.parametrize("end", ["exit status 1", "signal: segmentation fault"])
def test_other_ends_are_told_as_they_are(end):
    assert read([f"RequestId: {ID} Error: Runtime exited with error: {end}\n"], ID).end == end


@pytest.mark.parametrize(
    "line",
    [
        f"RequestId: {OTHER} Error: Runtime exited with error: signal: killed",
        f"2026-11-21T10:00:02.010Z {OTHER} Task timed out after 2.00 seconds",
        report("Status: timeout", request_id=OTHER),
        platform("timeout").replace(ID, OTHER),
        platform("timeout", kind="platform.runtimeDone"),
        json.dumps({"request_id": ID, "message": "Task timed out after 2.00 seconds"}),
        f"[ERROR] {ID} signal: killed",
        f"2026-11-21T10:00:02.010Z {ID} a call: Task timed out after 2.00 seconds",
        f"{KILLED} 4111",
        '{"',
        "",
    ],
)
def test_what_others_have_written_does_not_count(line):
    assert read([line], ID) == Said()


@pytest.mark.parametrize("kind", ["KeyError", "4111 1111 1111 1111", "Runtime.4111", "Runtime.X of 4111"])
def test_only_lambdas_own_kinds_of_errors_are_told(kind):
    assert read([report("Status: error", f"Error Type: {kind}")], ID).end is None


def test_a_request_that_ended_well_says_nothing_else():
    said = read([f"START RequestId: {ID} Version: 1", f"END RequestId: {ID}", report(used=90)], ID)
    assert said == Said(status="success", used_mb=90, memory_mb=512)
    assert [said.timed_out, said.out_of_memory, said.end] == [False, False, None]
