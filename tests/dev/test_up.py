"""``make up``: what it starts, and that it ends with Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import psutil
import pytest

from dev.processes import REPOSITORY
from dev.services import STATE_VARIABLE, TOKEN_SECRET, get


@pytest.mark.long
def test_it_brings_all_services_and_ends_with_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    command = [sys.executable, "-m", "dev.up", "--port=0", "--records=50", "--record-bytes=1000"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        shown = ""
        for line in up.stdout:
            shown += line
            if line.startswith("Ctrl-C stops everything"):
                break
        places = dict(re.findall(r"^([A-Z]\w+(?: \w+)?)  +(\S+)", shown, re.MULTILINE))
        assert json.loads(get(f"{places['Lambda']}/_local/health"))["status"] == "running"
        assert (
            json.loads(get(f"{places['Airflow']}/api/v2/monitor/health"))["scheduler"]["status"] == "healthy"
        )
        aws = {"endpoint_url": places["S3"], "region_name": "us-east-1"}
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        secret = boto3.client("secretsmanager", **aws, **keys).get_secret_value(SecretId=TOKEN_SECRET)
        assert len(secret["SecretString"]) == 64
        bucket, _, key = places["Large file"].removeprefix("s3://").partition("/")
        assert boto3.client("s3", **aws, **keys).head_object(Bucket=bucket, Key=key)["ContentLength"] > 10**7
        tree = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGINT)
        up.stdout.read()
        assert up.wait(90) == 0
    assert [process for process in tree if process.is_running()] == []
