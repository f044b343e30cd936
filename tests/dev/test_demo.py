"""The demo: its verdict, what it shows, and that it leaves no process behind."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dev.airflow import AirflowHome
from dev.console import LogFilter
from dev.localstack import LocalStack
from dev.processes import REPOSITORY
from dev.sample_api import SampleApi
from dev.services import STATE_VARIABLE, only_one
from dev.verdicts import DemoFailed, read_back, show_ingest

COMMAND = [sys.executable, "-m", "dev.demo", "--records=50", "--record-bytes=1000"]
#: the ingest alone, by a DAG that takes no time
STAND_IN = ("--only=ingest", f"--dags={Path(__file__).parent / 'dags'}")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own: a demo that runs in the checkout is not disturbed, and does not disturb."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    return tmp_path / "state"


def run_demo(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_the_demo_can_be_stopped_in_the_middle_and_run_again() -> None:
    """After Ctrl-C no process is left; the next run shows what landed and ends with 0."""
    with subprocess.Popen(
        [*COMMAND, *STAND_IN], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        for line in demo.stdout:
            if "preparing Airflow's database" in line:
                break
        tree = psutil.Process(demo.pid).children(recursive=True)
        assert len(tree) >= 4  # LocalStack and the API, each with its guard, at least
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 130
        assert "Stopped; all processes of the demo have ended." in demo.stderr.read()
    assert [process for process in tree if process.is_running()] == []

    done = run_demo(*STAND_IN, STAND_IN_RECORDS="50")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "writing 50 records" in done.stdout
    assert "stand-in/lines.jsonl.gz  " in done.stdout
    assert "Records      50 in the object, 50 in the API: the same" in done.stdout
    assert 'First        {"ordinal": 0}' in done.stdout
    assert "Peak memory  300 MiB" in done.stdout
    assert "make up" in done.stdout


def test_a_failed_dag_ends_with_1_and_its_last_log_lines() -> None:
    done = run_demo(*STAND_IN, STAND_IN_RECORDS="-1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The demo failed. DAG daily_api_ingest failed." in done.stderr
    assert "the stand-in fails on purpose" in done.stderr


@pytest.mark.long
def test_the_demo_of_a_large_file_shows_plan_lambdas_merge_and_proof() -> None:
    done = run_demo("--only=large-file", "--file-mb=4")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout
    assert re.search(r"^Plan +\S+ MB of CSV in 16 chunks, cut by \d+ reads of ", shown, re.MULTILINE)
    assert re.search(
        r"^Lambdas +16 invocations of chunkwise-processor, \d+ cold starts, ", shown, re.MULTILINE
    )
    assert re.search(r"^Memory +\d+ to \d+ MiB at the peak of a Lambda of 512 MiB ", shown, re.MULTILINE)
    assert re.search(r"^Merge +16 parts to \S+ MB in ", shown, re.MULTILINE)
    assert re.search(r"^Rows +30,000 in both files, ", shown, re.MULTILINE)
    assert "are 60,000 tokens that Python's own hmac made again" in shown
    assert "\n  protected/people.csv  " in shown
    assert "daily_api_ingest" not in shown


@pytest.mark.long
def test_the_demo_of_a_fan_out_compares_with_the_api() -> None:
    done = run_demo("--only=fan-out", "--records=300")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Plan +6 pages in 3 chunks, which 3 tasks wait for$", done.stdout, re.MULTILINE)
    assert re.search(r"^Lambdas +3 invocations of chunkwise-ingest, ", done.stdout, re.MULTILINE)
    assert "Records      300 in the object, 300 in the API: the same" in done.stdout


@pytest.mark.long
def test_a_demo_that_is_stopped_while_lambdas_work_leaves_none_of_them() -> None:
    with subprocess.Popen(
        [*COMMAND, "--only=large-file"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert any("Lambda: " in line and "0 at work" not in line for line in demo.stdout)
        tree = psutil.Process(demo.pid).children(recursive=True)
        assert any("lambda_service/launch.py" in word for process in tree for word in process.cmdline())
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130
        assert "Stopped; all processes of the demo have ended." in demo.stderr.read()
    assert [process for process in tree if process.is_running()] == []


@pytest.mark.parametrize(
    ("landed", "reported", "right"), [(50, 50, True), (49, 49, False), (49, 50, False), (50, 51, False)]
)
def test_only_equal_counts_are_a_success(
    localstack: LocalStack,
    ls_bucket: str,
    sample_api: Callable[..., SampleApi],
    capsys: pytest.CaptureFixture[str],
    landed: int,
    reported: int,
    right: bool,
) -> None:
    """The API has 50 records; the demo believes neither the task nor the API, but what it reads back."""
    body = gzip.compress(b"{}\n" * landed)
    localstack.client("s3").put_object(Bucket=ls_bucket, Key="lines.jsonl.gz", Body=body)
    receipt = {
        "uri": f"s3://{ls_bucket}/lines.jsonl.gz",
        "records": reported,
        "pages": 1,
        "bytes": len(body),
        "seconds": 1.0,
    }
    outcome = {"returned": {"ingest": receipt}, "tasks": {}, "rss_before": 2**20, "peak_rss": 2**21}
    expected = contextlib.nullcontext() if right else pytest.raises(DemoFailed, match=f"has {landed} records")
    with expected:
        show_ingest(localstack, sample_api(records=50).url, outcome)
    assert (": the same" in capsys.readouterr().out) == right


def test_a_second_demo_in_the_same_place_is_refused(state: Path) -> None:
    with only_one("demo"):
        done = run_demo(*STAND_IN)
    assert done.returncode == 1
    assert f"Another `make demo` uses {state / 'demo'}" in done.stderr


def test_a_taken_port_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_demo(f"--api-port={port}")
    assert done.returncode == 1
    assert f"Sample API: port {port} on 127.0.0.1 cannot be used: address already in use" in done.stderr


def test_landed_lines_are_counted_over_gzip_members_and_blocks() -> None:
    lines = [b'{"n": %d, "text": "%s"}\n' % (number, b"x" * number) for number in range(3_000)]
    body = gzip.compress(b"".join(lines[:7])) + gzip.compress(b"".join(lines[7:]))
    landed = read_back(io.BytesIO(body))
    assert landed.records == 3_000
    assert landed.first == b'{"n": 0, "text": ""}'
    assert landed.uncompressed_bytes == sum(map(len, lines))
    assert read_back(io.BytesIO(gzip.compress(b""))).records == 0


def test_a_first_record_wider_than_a_block_is_whole() -> None:
    wide = b'{"text": "' + b"x" * 3_000_000 + b'"}'
    landed = read_back(io.BytesIO(gzip.compress(wide + b"\n{}\n")))
    assert (landed.records, landed.first) == (2, wide)


def test_of_airflows_log_the_ingest_and_its_errors_are_shown() -> None:
    log = """\
2026-11-21T08:00:00.1Z [info     ] Filling up the DagBag          [airflow.dag_processing.dagbag] loc=a.py:1
2026-11-21T08:00:01.1Z [info     ] 5 pages, 1,000 records         [airflow.task.operators.chunkwise.Op] l=b
2026-11-21T08:00:02.1Z [warning  ] wider than before              [chunkwise.core.ingest.job] loc=c.py:3
2026-11-21T08:00:03.1Z [error    ] XCom not found                 [airflow.sdk.api.client] key=a
2026-11-21T08:00:04.1Z [error    ] Task failed with exception     [task] loc=d.py:4
Traceback (most recent call last):
  File "d.py", line 4, in run

chunkwise.core.errors.LimitExceeded: 450 pages
2026-11-21T08:00:05.1Z [info     ] ::endgroup::                   [task] loc=d.py:5"""
    interesting = LogFilter()
    assert [text for line in log.splitlines() for text in interesting(line)] == [
        "5 pages, 1,000 records",
        "warning: wider than before",
        "error: Task failed with exception",
        "chunkwise.core.errors.LimitExceeded: 450 pages",
    ]


def test_airflow_sees_nothing_of_the_users_own_airflow_and_aws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://user")
    monkeypatch.setenv("AWS_PROFILE", "production")
    env = AirflowHome(tmp_path, connections={"sample_api": "{}"}, settings={"CHUNKWISE_BUCKET": "b"}).env
    assert env["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert not {"AIRFLOW_CONN_AWS_DEFAULT", "AWS_PROFILE"} & set(env)
    assert (env["AIRFLOW_CONN_SAMPLE_API"], env["CHUNKWISE_BUCKET"]) == ("{}", "b")
    assert env["AIRFLOW_HOME"] == str(tmp_path)
