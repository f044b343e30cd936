"""LocalStack in its own process tree: real S3 and SQS, and nothing left afterwards."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import psutil
import pytest

from dev.localstack import VENV_VARIABLE, LocalStack
from dev.processes import ServiceError
from tests.support.services import remove_bucket

LARGE = bytes(2_000_000)  # too large for LocalStack to keep it in memory


def test_s3_and_sqs_work(localstack: LocalStack, ls_bucket: str) -> None:
    s3, sqs = localstack.client("s3"), localstack.client("sqs")
    s3.put_object(Bucket=ls_bucket, Key="key", Body=b"body")
    assert s3.get_object(Bucket=ls_bucket, Key="key")["Body"].read() == b"body"
    queue = sqs.create_queue(QueueName="queue")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="hello")
    assert sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] == "hello"


def test_each_test_has_an_empty_bucket(localstack: LocalStack, ls_bucket: str) -> None:
    assert localstack.client("s3").list_objects_v2(Bucket=ls_bucket)["KeyCount"] == 0


def test_only_loopback_is_listened_on(localstack: LocalStack) -> None:
    """A server on all addresses would answer on this one as well."""
    with pytest.raises(OSError, match=r"refused|timed out|unreachable|assign"):
        socket.create_connection(("127.0.0.2", localstack.port), timeout=1)


def test_two_of_them_share_nothing_and_leave_nothing(
    localstack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing a bucket in one leaves that of the other alone; a stop takes processes and files away."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    localstack.create_bucket("shared-name")
    messages: list[str] = []
    with LocalStack(progress=messages.append) as other:
        other.create_bucket("shared-name")
        other.client().put_object(Bucket="shared-name", Key="key", Body=LARGE)
        remove_bucket(other.client(), "shared-name")
        assert other.service is not None
        processes = other.service.processes()
        assert processes
        assert list(tmp_path.iterdir())
    assert not any(process.is_running() for process in processes)
    assert list(tmp_path.iterdir()) == []
    told = [message for message in messages if not message.startswith("waiting ")]  # a busy machine
    assert told == [f"starting LocalStack on {other.endpoint}", "LocalStack is ready"]
    s3 = localstack.client("s3")
    s3.put_object(Bucket="shared-name", Key="key", Body=LARGE)
    remove_bucket(s3, "shared-name")


def test_a_missing_venv_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VENV_VARIABLE, str(tmp_path))
    with pytest.raises(ServiceError, match=r"LocalStack is not installed: .*`make localstack`"):
        LocalStack().start()


def test_a_taken_port_is_said_and_nothing_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = psutil.Process().children()
        with pytest.raises(ServiceError, match=rf"LocalStack: port {port} .* --localstack-port"):
            LocalStack(port=port).start()
    assert psutil.Process().children() == before


def test_one_that_dies_shows_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho No module named localstack\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setenv(VENV_VARIABLE, str(tmp_path / "venv"))
    with pytest.raises(
        ServiceError, match=r"(?s)LocalStack ended with exit code 3.*No module named localstack"
    ):
        LocalStack().start()
