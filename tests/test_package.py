"""``chunkwise package lambda``: what Lambda gets is all that a handler needs, for the machine that it runs
on, and the same bytes whoever builds it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from chunkwise.cli import main
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError
from chunkwise.packaging import (
    PROFILES,
    InstallFailed,
    Package,
    PackageTooLarge,
    Part,
    Target,
    archive,
    build,
    elf,
    names,
    report,
)
from chunkwise.packaging.install import lock_of
from chunkwise.packaging.slim import Entry
from tests.support import packages
from tests.support.dispatch import planned, source
from tests.support.files import MAKERS, people
from tests.support.s3 import S3

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "provider" / "chunkwise"
MB = 10**6
NATIVE = packages.pythons()
PYTHON = next(iter(NATIVE))
FOREIGN = Target(arch="arm64" if packages.ARCH == "x86_64" else "x86_64", python="3.12")
PROCESSOR = "chunkwise.aws_lambda.processor.handler"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Target], Package]:
    """Build a target once."""
    made: dict[Target, Package] = {}

    def get(target: Target) -> Package:
        if target not in made:
            made[target] = build(target, tmp_path_factory.mktemp("package") / target.file_name)
        return made[target]

    return get


@pytest.fixture
def jsonl(built: Callable[[Target], Package]) -> Package:
    """The smallest package, for this machine."""
    return built(Target(arch=packages.ARCH, python=PYTHON))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The smallest package for another machine, by the command, where that puts it; and what it showed."""
    folder, shown = tmp_path_factory.mktemp("foreign"), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(shown):
        assert main(["package", "lambda", "--arch", FOREIGN.arch, "--python", FOREIGN.python]) == 0
    (path,) = (folder / "dist").iterdir()
    return path, shown.getvalue()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A package with modules of somebody's own, at a time of his own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text("def handler(event, context):\n    import yours\n    return yours.word\n")
    (folder / "yours" / "deep").mkdir(parents=True)
    (folder / "yours" / "__init__.py").write_text("from yours.deep.there import word\n")
    (folder / "yours" / "deep" / "there.py").write_text("word = 'found'\n")
    (folder / "yours" / ".env").write_text("TOKEN=hunter2\n")
    (folder / "yours" / ".git").mkdir()
    (folder / "yours" / ".git" / "config").write_text("[remote]\n")
    target = Target(arch=packages.ARCH, python=PYTHON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        return build(target, folder / "own.zip", include=[folder / "mine.py", folder / "yours"])


def environment(s3: S3) -> dict[str, str]:
    """Of a function whose S3 is this one."""
    return {
        "AWS_ENDPOINT_URL_S3": s3.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def events(staging: Staging) -> list[dict[str, Any]]:
    chunks = range(staging.load().chunks)
    return [{"manifest": f"s3://{staging.bucket}/{staging.manifest_key(chunk)}"} for chunk in chunks]


@pytest.mark.parametrize(
    "python",
    [python if python == PYTHON else pytest.param(python, marks=pytest.mark.long) for python in NATIVE],
)
def test_a_package_alone_processes_chunks(
    python: str, built: Callable[[Target], Package], s3: S3, tmp_path: Path
) -> None:
    """In the Python it was built for, with its standard library and nothing else."""
    package = built(Target(arch=packages.ARCH, python=python))
    folder = packages.unpack(Path(package.path), tmp_path / "task")
    data = source(s3)
    staging = planned(s3, chunk_bytes=8_000)
    answers, files = packages.run(NATIVE[python], folder, PROCESSOR, events(staging), **environment(s3))
    assert [answer["state"] for answer in answers] == ["done"] * staging.load().chunks
    merge_parts(s3.client, staging, owner="test", run="1")
    assert s3.get("out/in/people.jsonl") == data
    ours = [file for file in files if file.startswith(str(folder))]
    assert any("/msgspec/" in file for file in ours)
    assert [file for file in files if "site-packages" in file or "/pyarrow/" in file] == []


def test_every_module_of_a_package_can_be_imported(jsonl: Package, tmp_path: Path) -> None:
    """But those that need what only larger profiles have."""
    folder = packages.unpack(Path(jsonl.path), tmp_path / "task")
    names = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in packages.entries(Path(jsonl.path))
        if name.startswith("chunkwise/")
        and name.endswith(".py")
        and not re.search(r"/(compact|parquet|delta|rds_export)[/.]", name)
    ]
    check = folder / "check.py"
    check.write_text(
        "from importlib import import_module\n"
        "def handler(event, context):\n    return [import_module(name).__name__ for name in event]\n"
    )
    answers, _ = packages.run(
        NATIVE[PYTHON], folder, "check.handler", [names], AWS_DEFAULT_REGION="us-east-1"
    )
    assert answers == [names]


def test_two_builds_are_one(jsonl: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere, later, by somebody with other habits."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o077)
    try:
        again = build(jsonl.target, Path("elsewhere/again.zip"))
    finally:
        os.umask(before)
    assert packages.entries(Path(again.path)) == packages.entries(Path(jsonl.path))
    assert Path(again.path).read_bytes() == Path(jsonl.path).read_bytes()
    assert again.code_sha256 == jsonl.code_sha256


@pytest.mark.long
def test_both_installers_make_the_same_package(jsonl: Package, tmp_path: Path) -> None:
    found = [build(jsonl.target, tmp_path / name, installer=name) for name in ("uv", "pip")]
    assert [package.installer for package in found] == ["uv", "pip"]
    assert {package.code_sha256 for package in found} == {jsonl.code_sha256}


def test_entries_carry_the_time_that_they_are_given(jsonl: Package, own: Package) -> None:
    assert times(Path(jsonl.path)) == {(1980, 1, 1, 0, 0, 0)}
    assert times(Path(own.path)) == {(2023, 11, 14, 22, 13, 20)}


@pytest.mark.parametrize(
    ("given", "carried"),
    [("0", 1980), ("315532799", 1980), ("315532800", 1980), ("347155200", 1981), ("4354819198", 2107)],
)
def test_a_time_before_that_of_zip_files_is_their_first_one(given: str, carried: int) -> None:
    """Every whole number from 0 on is allowed by the specification of ``SOURCE_DATE_EPOCH``."""
    found = archive.timestamp({"SOURCE_DATE_EPOCH": given})
    assert time.gmtime(found).tm_year == carried


@pytest.mark.parametrize("given", ["yesterday", "-1", "99999999999", "1.5", "9" * 5000, "²"])
def test_a_time_that_no_entry_can_carry_is_refused(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH must be whole seconds"):
        build(Target(), tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


def times(archive: Path) -> set[tuple[int, ...]]:
    with zipfile.ZipFile(archive) as opened:
        return {info.date_time for info in opened.infolist()}


def test_nothing_of_the_builder_is_in_the_archive(jsonl: Package) -> None:
    with zipfile.ZipFile(jsonl.path) as opened:
        names = [info.filename for info in opened.infolist()]
        assert {info.external_attr >> 16 for info in opened.infolist()} == {0o100644}
    assert names == sorted(set(names))
    noise = re.compile(
        r"\.pyc$|__pycache__|/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)$|^bin/"
    )
    assert [name for name in names if noise.search(name)] == []


def test_it_holds_core_and_the_handlers_and_no_adapter(jsonl: Package) -> None:
    names = {name for name in packages.entries(Path(jsonl.path)) if name.startswith("chunkwise/")}
    wanted = {
        str(file.relative_to(PACKAGE.parent))
        for folder in ("core", "aws_lambda")
        for file in (PACKAGE / folder).rglob("*.py")
    }
    assert names == wanted | {"chunkwise/__init__.py", "chunkwise/py.typed"}


def test_the_smallest_package_is_small(jsonl: Package) -> None:
    assert Path(jsonl.path).stat().st_size < 10 * MB
    assert not jsonl.needs_s3


def test_a_package_for_another_machine_holds_its_wheels(foreign: tuple[Path, str]) -> None:
    """The headers of the shared objects and the tags of the wheels say so."""
    path, _ = foreign
    machine, number = {"x86_64": ("x86_64", 62), "arm64": ("aarch64", 183)}[FOREIGN.arch]
    shared = {name: data for name, data in packages.entries(path).items() if name.endswith(".so")}
    assert any(name.startswith("msgspec/_core.cpython-312-") for name in shared)
    assert {struct.unpack_from("<H", data, 18)[0] for data in shared.values()} == {number}
    assert [name for name in shared if "cpython-312" not in name and "abi3" not in name] == []
    wheels = packages.tags(path)
    assert {"msgspec", "boto3"} <= {name.rpartition("-")[0] for name in wheels}
    for distribution, tags in wheels.items():
        assert any(usable(tag, machine) for tag in tags), f"{distribution}: {tags}"


def usable(tag: str, machine: str) -> bool:
    """Whether a wheel runs on Lambda's Python 3.12, whose system has glibc 2.34."""
    if tag.endswith("-none-any"):
        return True
    python, abi, platform = tag.split("-")
    if abi != "cp312" and not (abi == "abi3" and int(python.removeprefix("cp3")) <= 12):
        return False
    found = re.fullmatch(rf"manylinux(2014|_2_(\d+))_{machine}", platform)
    return found is not None and int(found[2] or 17) <= 34


def test_the_hash_is_lambdas(jsonl: Package) -> None:
    digest = hashlib.sha256(Path(jsonl.path).read_bytes()).digest()
    assert jsonl.code_sha256 == base64.b64encode(digest).decode()


def test_the_parts_are_the_whole(jsonl: Package) -> None:
    assert sum(part.unzipped for part in jsonl.parts) == jsonl.unzipped
    assert jsonl.unzipped == sum(map(len, packages.entries(Path(jsonl.path)).values()))
    assert jsonl.zipped == Path(jsonl.path).stat().st_size
    assert 0.8 * jsonl.zipped < sum(part.zipped for part in jsonl.parts) < jsonl.zipped
    sizes = [part.unzipped for part in jsonl.parts]
    assert sizes == sorted(sizes, reverse=True)
    assert {part.name for part in jsonl.parts} == {"chunkwise", *locked("jsonl")}


# --- what does not fit --------------------------------------------------------------------------------------


def test_what_lambda_would_refuse_is_refused_by_name() -> None:
    mib = 1024**2
    parts = [
        Part(name="pyarrow", version="1", unzipped=200 * mib),
        Part(name="chunkwise", version="1", unzipped=50 * mib),
    ]
    assert report.check_size(Target(), parts) == 262_144_000  # as Lambda's error counts
    with pytest.raises(
        PackageTooLarge, match=r"pyarrow 200\.0 MiB, chunkwise 50\.0 MiB, x 0\.0 MiB"
    ) as caught:
        report.check_size(Target(profile="full"), [*parts, Part(name="x", version="1", unzipped=1)])
    assert "full package for x86_64, Python 3.13 has 250.0 MiB unzipped, 1 bytes more" in str(caught.value)


def test_nothing_is_written_that_lambda_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "UNZIPPED_LIMIT", MB)
    output = tmp_path / "out" / "x.zip"
    assert main(["package", "lambda", "--output", str(output)]) == 1
    assert re.search(r"PackageTooLarge: .*the largest parts are botocore \d\.\d MiB", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_what_is_too_large_for_a_direct_upload_is_said(
    jsonl: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "can be uploaded directly" in "\n".join(jsonl.lines())
    monkeypatch.setattr(report, "UPLOAD_LIMIT", MB)
    assert jsonl.to_json()["needs_s3"]
    assert "must be uploaded through S3" in "\n".join(jsonl.lines())


# --- the user's own -----------------------------------------------------------------------------------------


def test_modules_of_ones_own_can_be_imported(own: Package, tmp_path: Path) -> None:
    assert {"mine.py", "yours"} <= {part.name for part in own.parts}
    assert [name for name in packages.entries(Path(own.path)) if name.startswith("yours/.")] == []
    folder = packages.unpack(Path(own.path), tmp_path / "task")
    assert packages.run(NATIVE[PYTHON], folder, "mine.handler", [{}])[0] == ["found"]


def test_ones_own_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "msgspec").mkdir()
    (tmp_path / "msgspec" / "__init__.py").write_text("")
    with pytest.raises(ConfigError, match=r"msgspec: `import msgspec` is msgspec, which is in the package"):
        build(Target(), tmp_path / "x.zip", include=[tmp_path / "msgspec"])
    with pytest.raises(ConfigError, match="nowhere: there is no such file or folder, or it is empty"):
        build(Target(), tmp_path / "x.zip", include=[tmp_path / "nowhere"])
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("boto3.py", "boto3, which is in the package"),
        ("botocore", "botocore, which is in the package"),
        ("six.py", "six, which is in the package"),
        ("fast.py", "fast-records, which is in the package"),
        ("chunkwise", "chunkwise, which is in the package"),
        ("json.py", "Python's standard library"),
        ("logging", "Python's standard library"),
        ("awslambdaric", "Lambda's runtime"),
    ],
)
def test_a_name_that_is_imported_already_is_refused(name: str, owner: str, tmp_path: Path) -> None:
    """Before it, nobody would find the library; behind it, nobody would find one's own."""
    path = tmp_path / name
    path.touch() if path.suffix else path.mkdir()
    with pytest.raises(ConfigError, match=re.escape(f"`import {path.stem}` is {owner}: rename yours")):
        names.check([path], files())


def test_two_of_ones_own_do_not_share_a_name(tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault.py").touch()
    with pytest.raises(ConfigError, match=re.escape(f"vault.py: `import vault` is {tmp_path / 'vault'}:")):
        names.check([tmp_path / "vault", tmp_path / "vault.py"], files())


def test_a_file_that_cannot_be_imported_may_be_called_as_one_likes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("json.txt", "boto3.json", "vault.py", "boto4")]
    for path in paths:
        path.touch() if path.suffix else path.mkdir()
    names.check(paths, files())


def files() -> list[Entry]:
    """Of a package with a module, packages, and an extension module."""
    parts = {
        "boto3/__init__.py": "boto3",
        "botocore/data/s3/service-2.json": "botocore",
        "six.py": "six",
        "fast.cpython-313-x86_64-linux-gnu.so": "fast-records",
        "fast_records-1.0.dist-info/METADATA": "fast-records",
        "chunkwise/core/units.py": "chunkwise",
    }
    return [Entry(name=name, data=b"", part=part, version="1") for name, part in parts.items()]


def test_an_archive_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    for output in (tmp_path, Path()):
        with pytest.raises(ConfigError, match="is a folder: name the archive, too"):
            build(Target(), output)


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_names_the_archive_after_its_target_and_shows_sizes(foreign: tuple[Path, str]) -> None:
    path, shown = foreign
    assert path.name == f"chunkwise-jsonl-{FOREIGN.arch}-python3.12.zip"
    assert re.search(r"zipped +\d\.\d MiB of 50\.0: it can be uploaded directly", shown)
    assert re.search(r"unzipped +\d+\.\d MiB of 250\.0", shown)
    assert re.search(r"botocore +1\.\S+ +\d\.\d +\d\.\d", shown)
    assert base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode() in shown


@pytest.mark.long
def test_the_command_shows_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "x.zip"
    assert main(["package", "lambda", "--json", "--output", str(output)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(output)
    assert found["target"] == {"profile": "jsonl", "arch": "x86_64", "python": "3.13"}
    assert found["unzipped"] <= found["unzipped_limit"] == 262_144_000
    assert not found["needs_s3"]


def test_a_target_that_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "x.zip")]
    assert main(["package", "lambda", "--profile", "full", "--python", "3.11", *output]) == 2
    assert "choose 3.12 or later" in capsys.readouterr().err
    for option in (["--profile", "small"], ["--arch", "riscv"], ["--python", "3.8"]):
        with pytest.raises(SystemExit):
            main(["package", "lambda", *option])
    with pytest.raises(ConfigError, match="arch 'amd64' is unknown: choose one of x86_64, arm64"):
        Target(arch="amd64")  # type: ignore[arg-type]


def test_an_installer_that_fails_tells_why_and_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        monkeypatch.setenv(name, "http://somebody:pa55word@127.0.0.1:9/packages/")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_OFFLINE", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(
        InstallFailed, match="uv could not install the dependencies of the jsonl package"
    ) as caught:
        build(Target(), tmp_path / "x.zip", installer="uv")
    assert "127.0.0.1:9" in str(caught.value)
    assert "pa55word" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# --- locks --------------------------------------------------------------------------------------------------


def locked(profile: str) -> dict[str, str]:
    """Versions by distribution."""
    text = lock_of(profile).read_text()  # type: ignore[arg-type]
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_lock_names_versions_and_hashes_and_nothing_else(profile: str) -> None:
    """A marker would mean the Python that installs to pip, and the target's to uv."""
    text = lock_of(profile).read_text()  # type: ignore[arg-type]
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert blocks
    for block in blocks:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+( \\\n    --hash=sha256:[0-9a-f]{64})+", block), block[
            :80
        ]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_lock_has_what_its_source_asks_for(profile: str) -> None:
    folder = REPOSITORY / "constraints"
    asked: set[str] = set()
    waiting = [f"lambda-{profile}.in"]
    while waiting:
        for line in (folder / waiting.pop()).read_text().splitlines():
            if line.startswith("-r "):
                waiting.append(line.removeprefix("-r ").strip())
            elif line and not line.startswith("#"):
                asked.add(canonicalize_name(line))
    assert asked <= locked(profile).keys()


def test_what_lambda_runs_are_the_versions_that_the_tests_run_on() -> None:
    text = (REPOSITORY / "constraints" / "dev.txt").read_text()
    tested = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.MULTILINE))
    for profile in PROFILES:
        found = {name: version for name, version in locked(profile).items() if name in tested}
        assert {"botocore", "msgspec", "xxhash"} <= found.keys()
        assert found == {name: tested[name] for name in found}


# --- shared objects -----------------------------------------------------------------------------------------


def test_of_a_shared_object_all_segments_stay(jsonl: Package) -> None:
    """An independent reading of the header: no segment reaches beyond the end, no section is promised."""
    shared = [data for name, data in packages.entries(Path(jsonl.path)).items() if name.endswith(".so")]
    assert len(shared) > 3
    for data in shared:
        start, sections = struct.unpack_from("<QQ", data, 32)
        size, count, _, number, names = struct.unpack_from("<5H", data, 54)
        ends = [sum(struct.unpack_from("<Q16xQ", data, start + n * size + 8)) for n in range(count)]
        assert max(ends) == len(data)
        assert (sections, number, names) == (0, 0, 0)
        assert elf.loaded_only(data) == data


def test_a_file_with_its_sections_elsewhere_stays_as_it_is() -> None:
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 300, 300, 4096)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 200, 0, 64, 56, 1, 64, 1, 0
    )
    data = (header + segment).ljust(400, b"x")
    assert elf.is_elf(data)
    assert elf.machine(data) == 62
    assert elf.loaded_only(data) == data
    moved = bytearray(data)
    struct.pack_into("<Q", moved, 40, 320)
    assert elf.loaded_only(bytes(moved)) == bytes(
        moved[:40] + bytes(8) + moved[48:60] + bytes(4) + moved[64:300]
    )


# --- the large profiles -------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("arch", ["x86_64", "arm64"])
def test_a_package_with_everything_fits(arch: str, built: Callable[[Target], Package]) -> None:
    delta, full = (built(Target(profile=profile, arch=arch, python="3.13")) for profile in ("delta", "full"))
    assert full.unzipped < delta.unzipped < 250 * 1024**2
    assert delta.needs_s3
    assert not full.needs_s3
    assert {part.name for part in full.parts} == {"chunkwise", *locked("full")}
    assert {part.name for part in delta.parts} == {"chunkwise", *locked("delta")}


_LARGE = """
def handler(event, context):
    import io, tempfile
    import deltalake, zstandard
    import pyarrow as pa, pyarrow.csv, pyarrow.dataset, pyarrow.json, pyarrow.parquet as pq
    import pyarrow.compute as pc
    import chunkwise.core.formats.parquet
    table = pa.table({"a": [1, 2], "b": ["x", None], "c": pa.array([[1.5], []])})
    found = []
    for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli"):
        out = io.BytesIO()
        pq.write_table(table, out, compression=codec)
        found.append(pq.read_table(io.BytesIO(out.getvalue())).equals(table))
    found.append(pc.sum(table["a"]).as_py() == 3)
    found.append(zstandard.decompress(zstandard.compress(b"x" * 100)) == b"x" * 100)
    with tempfile.TemporaryDirectory() as folder:
        deltalake.write_deltalake(folder, table)
        found.append(deltalake.DeltaTable(folder).version() == 0)
    return found
"""


@pytest.mark.long
def test_a_package_with_everything_runs(built: Callable[[Target], Package], s3: S3, tmp_path: Path) -> None:
    """In every Python of this machine that it can be built for: what was left out is not missed."""
    for python, interpreter in NATIVE.items():
        if python == "3.11":
            continue
        target = Target(profile="delta", arch=packages.ARCH, python=python)
        folder = packages.unpack(Path(built(target).path), tmp_path / python)
        (folder / "large.py").write_text(_LARGE)
        assert packages.run(interpreter, folder, "large.handler", [{}], HOME="/")[0] == [[True] * 9]
        rows = people(300)
        key = f"in/{python}.parquet"
        s3.put(key, MAKERS["parquet"](rows))
        staging = planned(s3, key)
        answers, _ = packages.run(interpreter, folder, PROCESSOR, events(staging), **environment(s3))
        assert sum(answer["rows_in"] for answer in answers) == 300
