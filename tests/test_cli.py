"""The ``chunkwise`` command: the same core without Airflow."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from chunkwise.cli import main
from chunkwise.cli.arguments import _size, parser
from chunkwise.cli.screen import Screen, table
from chunkwise.core.dispatch.board import Board, snapshot
from chunkwise.core.dispatch.model import Limit
from chunkwise.core.dispatch.staging import Staging
from tests.support.dispatch import CHUNK, planned, processed, source
from tests.support.faults import Faults
from tests.support.files import HMAC, KEY, MAKERS, MAPPING, READERS
from tests.support.s3 import S3

REPOSITORY = Path(__file__).resolve().parent.parent
SIZES = ["--chunk-bytes", str(CHUNK), "--threshold-bytes", "0", "--groups", "4"]


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "2",
    }.items():
        monkeypatch.setenv(name, value)


class Cli:
    """The command, as a user calls it."""

    def __init__(self, s3: S3, endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.uri = f"s3://{s3.bucket}/in/people.jsonl"
        self.target = f"s3://{s3.bucket}/out/people.jsonl"
        self._endpoint = endpoint
        self._capsys = capsys

    def __call__(self, command: str, *arguments: str, code: int = 0) -> str:
        """Run a command; its standard output. Its standard error is in ``err``."""
        self._capsys.readouterr()
        got = main([command, "--endpoint-url", self._endpoint, *arguments])
        out, self.err = self._capsys.readouterr()
        assert got == code, out + self.err
        return out

    def json(self, command: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run it with ``--json``."""
        found: dict[str, Any] = json.loads(self(command, "--json", *arguments, code=code))
        return found

    def plan(self, *arguments: str) -> dict[str, Any]:
        return self.json("plan", self.uri, self.target, *SIZES, *arguments)


@pytest.fixture
def cli(s3: S3, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(s3, s3.endpoint, capsys)


def test_a_whole_job(cli: Cli, s3: S3) -> None:
    data = source(s3)
    found = cli.plan()
    assert (found["groups"], found["resumed"], found["boundaries"][-1]) == (4, False, len(data))
    assert f"{found['chunks']} chunks processed" in cli("process", cli.uri)
    merged = cli("merge", cli.uri)
    assert f"{cli.target}: {len(data):,} bytes, 300 rows" in merged
    assert s3.get("out/people.jsonl") == data
    assert s3.keys() == ["in/people.jsonl", "out/people.jsonl"]
    assert "300 rows in, 300 out" in cli("verify", cli.uri, cli.target)


def test_the_same_in_json(cli: Cli, s3: S3) -> None:
    data = source(s3)
    chunks = cli.plan()["chunks"]
    assert cli.json("process", cli.uri, "--in-flight", "2")["chunks"] == chunks
    assert cli.json("status", cli.uri)["verdict"] == "done"
    receipt = cli.json("merge", cli.uri, "--keep-staging")
    assert (receipt["rows_out"], receipt["bytes"]) == (300, len(data))
    assert cli.json("merge", cli.uri)["already"] is True
    assert cli.json("resume", cli.uri, "--target", cli.target)["already"] is True
    assert cli.json("verify", cli.uri, cli.target)["ok"] is True


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(cli: Cli, s3: S3) -> None:
    source(s3)
    text = cli("plan", cli.uri, cli.target, *SIZES, "--dry-run")
    for word in ("would be cut", "requests", "GB-seconds", "largest chunk"):
        assert word in text
    found = cli.plan("--dry-run")
    assert len(found["boundaries"]) == found["chunks"] + 1
    assert found["estimate"]["chunks"] == found["chunks"]
    assert s3.keys() == ["in/people.jsonl"]


def test_a_group_or_a_chunk_alone(cli: Cli, s3: S3) -> None:
    source(s3)
    plan = cli.plan()
    staging = plan["staging_uri"]
    assert cli.json("process", staging, "--chunk", "0", "--chunk", "5")["chunks"] == 2
    assert cli.json("process", staging, "--group", "1")["done_before"] == 1
    counts = cli.json("status", staging, code=4)
    assert counts["done"] == len(range(1, plan["chunks"], 4)) + 1
    for wrong in (("--group", "4"), ("--chunk", str(plan["chunks"]))):
        cli("process", staging, *wrong, code=2)
        assert "the plan has" in cli.err


def test_resume_does_what_is_missing(cli: Cli, s3: S3) -> None:
    data = source(s3)
    plan = cli.plan()
    cli("process", cli.uri, "--group", "0")
    staging = Staging.beside(s3.client, s3.bucket, "in/people.jsonl")
    before = {chunk: done.attempt for chunk, (done, _) in staging.done(range(plan["chunks"])).items()}
    text = cli("resume", cli.uri, "--keep-staging", "-v")
    after = {chunk: done.attempt for chunk, (done, _) in staging.done(range(plan["chunks"])).items()}
    assert {chunk: after[chunk] for chunk in before} == before
    assert len(after) == plan["chunks"]
    assert s3.get("out/people.jsonl") == data
    assert "300 rows" in text


def test_a_second_plan_goes_on_and_another_one_names_what_differs(cli: Cli, s3: S3) -> None:
    source(s3)
    first = cli.plan()
    assert cli.plan()["dispatch"] == first["dispatch"]
    cli("plan", cli.uri, cli.target, *SIZES[2:], "--chunk-bytes", "999", code=1)
    assert "it differs in chunk_bytes; finish it as it was, or restart it (--on-existing restart)" in cli.err
    assert cli.plan("--on-existing", "restart")["dispatch"] != first["dispatch"]
    cli("plan", cli.uri, cli.target, *SIZES, "--on-existing", "fail", code=1)
    assert "DispatchExists" in cli.err


@pytest.mark.parametrize("way", ["env", "file"])
def test_a_secret_comes_from_a_variable_or_a_file(
    cli: Cli, s3: S3, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = source(s3)
    s3.put("mapping.json", json.dumps(MAPPING).encode())
    monkeypatch.setenv("THE_KEY", KEY)
    (tmp_path / "key").write_text(KEY + "\n")
    where = {"env": ("--secret-env", "key=THE_KEY"), "file": ("--secret-file", f"key={tmp_path / 'key'}")}
    plan = cli("plan", cli.uri, cli.target, *SIZES, "--protector", json.dumps(HMAC), "--json")
    process = cli("process", cli.uri, *where[way], "-v")
    log = cli.err
    merged = cli("merge", cli.uri, *where[way])
    assert KEY not in plan + process + log + merged
    written = s3.get("out/people.jsonl")
    assert b"person" not in written
    assert [row["id"] for row in READERS["jsonl"](written)] == [row["id"] for row in READERS["jsonl"](data)]
    found = cli.json("verify", cli.uri, cli.target)
    assert found["ok"] is True
    assert found["columns"] == ["id", "note"]


def test_equal_keys_give_equal_tokens_whichever_way_they_come(
    cli: Cli, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source(s3, rows=20)
    s3.put("mapping.json", json.dumps(MAPPING).encode())
    monkeypatch.setenv("THE_KEY", KEY)
    (tmp_path / "key").write_text(KEY + "\r\n")
    written = []
    for where in (("--secret-env", "key=THE_KEY"), ("--secret-file", f"key={tmp_path / 'key'}")):
        cli("plan", cli.uri, cli.target, "--protector", json.dumps(HMAC))
        cli("resume", cli.uri, *where)
        written.append(s3.get("out/people.jsonl"))
    assert written[0] == written[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--secret-env", "key=NOT_SET"),
        ("--secret-file", "key=/nonexistent/file"),
        (),
    ],
)
def test_a_secret_that_is_missing_is_named(cli: Cli, s3: S3, arguments: tuple[str, ...]) -> None:
    source(s3)
    s3.put("mapping.json", json.dumps(MAPPING).encode())
    cli("plan", cli.uri, cli.target, *SIZES, "--protector", json.dumps(HMAC))
    cli("process", cli.uri, *arguments, code=2)
    assert "key" in cli.err


@pytest.mark.parametrize("which", [(), ("--chunk", "0")])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give it by --secret-env key=VARIABLE or --secret-file key=FILE"),
        (("--secret-env", "key=THE_KEY"), "it is the value of variable THE_KEY"),
        (("--secret-file", "key={path}"), "it is the content of {path}"),
    ],
)
def test_a_secret_that_cannot_be_used_is_looked_for_before_the_first_chunk(
    cli: Cli,
    s3: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    which: tuple[str, ...],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    source(s3)
    s3.put("mapping.json", json.dumps(MAPPING).encode())
    monkeypatch.setenv("THE_KEY", "too short")
    (tmp_path / "key").write_text("too short")
    cli("plan", cli.uri, cli.target, *SIZES, "--protector", json.dumps(HMAC))
    before = s3.keys()
    cli("process", cli.uri, *which, *(word.format(path=tmp_path / "key") for word in arguments), code=2)
    assert says.format(path=tmp_path / "key") in cli.err
    assert "'key'" in cli.err
    assert "too short" not in cli.err
    assert ("at least 32" in cli.err) is bool(arguments)
    assert s3.keys() == before


def test_a_secret_can_not_be_given_by_its_value() -> None:
    texts = parser().format_help() + "".join(
        action.format_help() for action in parser()._subparsers._group_actions[0].choices.values()
    )
    options = set(re.findall(r"--[a-z-]+", texts))
    assert {option for option in options if "secret" in option or "key" in option} == {
        "--secret-env",
        "--secret-file",
    }


def test_a_mapping_on_s3_counts_unless_it_is_refused(cli: Cli, s3: S3) -> None:
    """A file whose folder asks for protection is not passed on in clear by an oversight."""
    source(s3)
    s3.put("mapping.json", json.dumps(MAPPING).encode())
    cli("plan", cli.uri, cli.target, code=2)
    assert "no protector" in cli.err
    assert cli.json("plan", cli.uri, cli.target, "--mapping", "none")["chunks"] == 1


def test_verify_finds_a_difference(cli: Cli, s3: S3) -> None:
    data = source(s3)
    s3.put("out/people.jsonl", data.replace(b'"00007"', b'"7"'))
    s3.put("mapping.json", json.dumps(MAPPING).encode())
    text = cli("verify", cli.uri, cli.target, code=1)
    assert "DIFFER" in text
    assert "values differ in id" in text
    s3.put("out/people.jsonl", data + b'{"id": "", "name": "", "note": ""}\n')
    assert "301 out" in cli("verify", cli.uri, cli.target, code=1)


def test_verify_raises_the_alarm_if_a_protected_column_is_what_it_was(cli: Cli, s3: S3) -> None:
    s3.put("out/people.jsonl", source(s3))
    s3.put("mapping.json", json.dumps(MAPPING).encode())
    found = cli.json("verify", cli.uri, cli.target, code=1)
    assert (found["ok"], found["unchanged"], found["differing"]) == (False, ["name"], [])
    assert "the mapping changes name, and the values are the same" in cli(
        "verify", cli.uri, cli.target, code=1
    )
    assert cli.json("verify", cli.uri, cli.target, "--mapping", "none")["identical"] is True


def test_options_of_a_format_and_a_mapping_of_ones_own(cli: Cli, s3: S3, tmp_path: Path) -> None:
    rows = [{"a;b": "1", "c": "x\ty"}, {"a;b": "", "c": "z"}]
    s3.put("in/people.jsonl", MAKERS["csv"](rows).replace(b",", b"|"))
    (tmp_path / "mapping.json").write_text(json.dumps({"ignored-columns": ["a;b", "c"]}))
    cli(
        "plan",
        cli.uri,
        f"s3://{s3.bucket}/out.json",
        *("--format", "csv", "--options", '{"sep": "|"}', "--output-format", "json"),
        *("--mapping", str(tmp_path / "mapping.json")),
    )
    cli("resume", cli.uri)
    assert json.loads(s3.get("out.json")) == rows


# --- status -------------------------------------------------------------------------------------------------


def test_status_shows_a_bar_for_each_state(cli: Cli, s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    assert "pending" in cli("status", cli.uri, code=4)
    processed(staging, 0, 1)
    text = cli("status", cli.uri, code=4)
    counts = cli.json("status", cli.uri, code=4)
    done = next(line for line in text.splitlines() if line.strip().startswith("done"))
    assert re.search(rf" {counts['done']} +\d+\.\d%$", done)
    assert counts["rows"] > 100
    assert f"{counts['rows']:,} rows" in text
    processed(staging)
    assert "100.0%" in cli("status", cli.uri)
    assert cli.json("status", cli.uri, "--no-rows")["rows"] == 0


def test_status_watches_until_the_end(s3: S3, faults: Faults, capsys: pytest.CaptureFixture[str]) -> None:
    import threading

    source(s3)
    staging = planned(s3)

    def work() -> None:
        while faults.seen["ListObjectsV2"] < 3:
            time.sleep(0.02)
        processed(staging)

    thread = threading.Thread(target=work)
    thread.start()
    text = Cli(s3, faults.endpoint, capsys)("status", staging.uri, "--watch", "0.05")
    thread.join()
    assert text.splitlines()[0].startswith("0 of ")
    assert "100.0%" in text


def test_status_of_failed_and_lost_chunks(cli: Cli, s3: S3) -> None:
    source(s3)
    staging = planned(s3, deadline_seconds=0.001)
    processed(staging, 1)
    s3.put(staging.started_key(0, "gone"), b"{}")
    time.sleep(1.1)  # S3's times are whole seconds
    text = cli("status", cli.uri, code=1)
    assert "lost: 0" in text
    assert cli.json("status", cli.uri, "--tolerated-count", "1", code=4)["lost_chunks"] == [0]


def test_a_live_table_is_drawn_over_the_one_before(s3: S3) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    source(s3)
    staging = planned(s3)
    board = Board(staging.load())
    out = Terminal()
    screen = Screen(out)
    for group in range(3):
        processed(staging, group)
        snapshot(staging, board)
        screen.draw(board, "title", last=False)
    frames = out.getvalue().split("\x1b[")
    lines = len(table(board, title="title"))
    assert len(frames) == 1 + 2 * 2
    assert f"\x1b[{lines}A\x1b[J" in out.getvalue()


def test_a_terminal_without_block_characters_gets_plain_ones(s3: S3) -> None:
    source(s3)
    staging = planned(s3)
    processed(staging, 0)
    board = Board(staging.load())
    snapshot(staging, board)
    text = "\n".join(table(board, title="title", ascii_only=True))
    assert text.isascii()
    assert "#" in text
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    Screen(out).draw(board, "title", last=True)


def test_the_limit_of_chunks_in_flight_is_changed_while_a_dispatch_runs(cli: Cli, s3: S3) -> None:
    source(s3)
    staging = Staging.beside(s3.client, s3.bucket, "in/people.jsonl")
    cli("limit", cli.uri, "--chunks-in-flight", "3", code=1)
    assert "DispatchNotFound" in cli.err
    cli.plan()
    for number in (3, 1000):
        found = cli.json("limit", cli.uri, "--chunks-in-flight", str(number))
        assert found == {"staging_uri": staging.uri, "chunks_in_flight": number}
        limit = staging.get(staging.limit_key, Limit)
        assert limit is not None
        assert limit[0].chunks_in_flight == number
    assert "at most 7 chunks" in cli("limit", staging.uri, "--chunks-in-flight", "7")


# --- errors and exit codes ----------------------------------------------------------------------------------


def test_what_may_pass_has_an_exit_code_of_its_own(
    s3: S3, faults: Faults, capsys: pytest.CaptureFixture[str]
) -> None:
    source(s3)
    through = Cli(s3, faults.endpoint, capsys)
    through.plan()
    processed_ = through.json("process", through.uri, "--group", "0")
    assert processed_["chunks"] > 0
    through("merge", through.uri, code=3)
    assert "ChunksMissing" in through.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (
            ("plan", "s3://{bucket}/in/people.jsonl", "s3://{bucket}/in/people.jsonl", "--on-exists", "fail"),
            1,
            "and --on-exists is 'fail'",
        ),
        (("status", "s3://{bucket}/in/nothing.csv"), 1, "DispatchNotFound"),
        (
            ("plan", "s3://{bucket}/in/nothing.csv", "s3://{bucket}/out"),
            1,
            "SourceNotFound: there is no object s3://",
        ),
        (
            ("plan", "s3://{bucket}/in/people.jsonl", "s3://{bucket}/out", "--mapping", "/nonexistent"),
            2,
            "--mapping /nonexistent: FileNotFoundError",
        ),
        (("status", "s3://{bucket}/x.csv", "--profile", "nobody-has-this"), 2, "nobody-has-this"),
    ],
)
def test_errors_name_what_is_wrong(
    cli: Cli, s3: S3, arguments: tuple[str, ...], code: int, says: str
) -> None:
    source(s3)
    cli(*(argument.format(bucket=s3.bucket) for argument in arguments), code=code)
    assert says in cli.err
    assert "Traceback" not in cli.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("unknown",),
        ("plan", "s3://b/k"),
        ("plan", "s3://b/k", "no-bucket"),
        ("process", "in/people.jsonl"),
        ("merge", "s3://b/k", "--target", "s3://b/"),
        ("limit", "s3://b/k"),
        ("limit", "s3://b/k", "--chunks-in-flight", "0"),
        ("plan", "s3://b/k", "s3://b/o", "--chunk-bytes", "-1"),
        ("plan", "s3://b/k", "s3://b/o", "--options", "[]"),
        ("plan", "s3://b/k", "s3://b/o", "--options", "{"),
        ("plan", "s3://b/k", "s3://b/o", "--mode", "guess"),
        ("process", "s3://b/k", "--group", "1", "--chunk", "1"),
        ("process", "s3://b/k", "--secret-env", "value"),
        ("process", "s3://b/k", "--in-flight", "0"),
        ("status", "s3://b/k", "--watch", "0"),
    ],
)
def test_a_wrong_command_line_is_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"),
    [("1048576", 1 << 20), ("150MiB", 157_286_400), ("1.5GB", 1_500_000_000), ("2 kib", 2048)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert _size(text) == size


def test_the_exit_codes_stand_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["status", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert "exit codes:" in capsys.readouterr().out


# --- as a process -------------------------------------------------------------------------------------------

NO_AIRFLOW = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise AssertionError(f"{{name}} was imported")
sys.meta_path.insert(0, Refuse())
from chunkwise.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(s3: S3, *arguments: str, refused: str = '{"airflow"}') -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NO_AIRFLOW.format(refused=refused), *arguments, "--endpoint-url", s3.endpoint],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )


def test_it_imports_no_airflow_and_a_light_format_nothing_heavy(s3: S3) -> None:
    data = source(s3)
    uri, target = f"s3://{s3.bucket}/in/people.jsonl", f"s3://{s3.bucket}/out/people.jsonl"
    refused = '{"airflow", "pyarrow", "numpy", "pandas"}'
    for arguments in (("plan", uri, target, *SIZES), ("process", uri), ("status", uri), ("merge", uri)):
        done = run(s3, *arguments, refused=refused)
        assert done.returncode == 0, done.stderr
    assert s3.get("out/people.jsonl") == data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_keeps_what_is_done(s3: S3, number: int) -> None:
    source(s3, rows=3_000)
    staging = planned(s3, groups=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "chunkwise", "process", staging.uri, "--endpoint-url", s3.endpoint],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=dict(os.environ),
    )
    chunks = staging.load().chunks
    deadline = time.monotonic() + 60
    while len(staging.done(range(5))) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "what is done is kept" in err
    assert 3 <= len(staging.done(range(chunks))) < chunks
    assert s3.open_uploads() == []


def test_the_command_is_installed() -> None:
    script = Path(sys.executable).with_name("chunkwise")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"chunkwise \d+\.\d+\.\d+\S*\n", done.stdout)
