"""``docker/lambda.Dockerfile``, read by its lines: there is no engine for it where the tests run."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.packaging import PROFILES, PYTHONS
from tests.support import packages
from tests.support.dispatch import planned, source
from tests.support.s3 import S3

REPOSITORY = Path(__file__).resolve().parent.parent
DOCKERFILE = REPOSITORY / "docker" / "lambda.Dockerfile"
Step = tuple[str, str]


def steps() -> list[Step]:
    """Instructions and their arguments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines()) if word
    ]


def of(instruction: str) -> list[str]:
    return [arguments for word, arguments in steps() if word == instruction]


def test_every_instruction_is_one_of_dockerfiles() -> None:
    assert [word for word, _ in steps()] == [
        "ARG",
        "FROM",
        "ARG",
        "COPY",
        "RUN",
        "COPY",
        "COPY",
        "COPY",
        "CMD",
    ]


def test_the_base_is_lambdas_own_of_a_python_that_packages_have() -> None:
    assert of("FROM") == ["${BASE}"]
    base, profile = of("ARG")
    found = re.fullmatch(r"BASE=public\.ecr\.aws/lambda/python:(3\.\d+)", base)
    assert found
    assert found[1] in PYTHONS
    assert profile.removeprefix("PROFILE=") in PROFILES


def test_dependencies_are_pinned_by_their_hashes() -> None:
    (run,) = of("RUN")
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(run.split())
    for profile in PROFILES:
        assert (REPOSITORY / "provider/chunkwise/packaging/locks" / f"{profile}.txt").exists()
    assert '"/tmp/locks/${PROFILE}.txt"' in run


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for arguments in of("COPY"):
        for path in arguments.split()[:-1]:
            assert (REPOSITORY / path).exists(), path
            assert f"!{Path(path).parts[0]}" in ignore, path


def test_every_handler_that_is_named_is_there() -> None:
    (command,) = (json.loads(arguments) for arguments in of("CMD"))
    named = {*command, *re.findall(r"chunkwise\.aws_lambda\.\w+\.handler", DOCKERFILE.read_text())}
    modules = (REPOSITORY / "provider" / "chunkwise" / "aws_lambda").glob("[a-z]*.py")
    there = {one.stem for one in modules if "\ndef handler(" in one.read_text()}
    assert {handler.split(".")[2] for handler in named} == there
    for handler in named:
        module, _, name = handler.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.long
def test_what_the_image_holds_processes_chunks(tmp_path: Path, s3: S3) -> None:
    """Its steps, done in folders of this machine by this Python."""
    root, locks = tmp_path / "task", tmp_path / "locks"
    variables = {"LAMBDA_TASK_ROOT": str(root), "PROFILE": "jsonl"}
    for word, arguments in steps():
        if word == "COPY":
            *paths, target = (
                arguments.replace("${LAMBDA_TASK_ROOT}", str(root)).replace("/tmp/locks", str(locks)).split()
            )
            for path in paths:
                copy(REPOSITORY / path, Path(target))
        elif word == "RUN":
            command = arguments.replace("python -m pip", f"{sys.executable} -m pip").replace(
                "/tmp/locks", str(locks)
            )
            done = subprocess.run(
                ["sh", "-c", command], env={**os.environ, **variables}, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
    assert not locks.exists()
    data = source(s3)
    staging = planned(s3, chunk_bytes=8_000)
    events = [
        {"manifest": f"s3://{s3.bucket}/{staging.manifest_key(chunk)}"}
        for chunk in range(staging.load().chunks)
    ]
    answers, _ = packages.run(
        Path(sys.executable),
        root,
        json.loads(of("CMD")[0])[0],
        events,
        AWS_ENDPOINT_URL_S3=s3.endpoint,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
    )
    assert {answer["state"] for answer in answers} == {"done"}
    merge_parts(s3.client, staging, owner="test", run="1")
    assert s3.get("out/in/people.jsonl") == data


def copy(path: Path, target: Path) -> None:
    """As COPY does: a folder's content, or a file into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    else:
        shutil.copy(path, target)
