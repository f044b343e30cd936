"""Which of the installed files a Lambda needs, and which distribution brought them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from chunkwise.packaging import elf
from chunkwise.packaging.errors import InstallFailed
from chunkwise.packaging.target import Target

# The services that the handlers call, with sts for roles; endpoints and retries are files beside them.
SERVICES: Final = frozenset({"glue", "kms", "lambda", "s3", "secretsmanager", "sqs", "sts"})

# By distribution: paths that no code of ours, and no code that it calls, opens.
_UNUSED: Final[dict[str, re.Pattern[str]]] = {
    # clients of services that no handler calls, examples of calls
    "boto3": re.compile(r"boto3/(examples/|data/(?!s3/|sqs/))"),
    "botocore": re.compile(
        rf"botocore/(data/(?!({'|'.join(sorted(SERVICES))})/)[^/]+/|data/[^/]+/[^/]+/examples-)"
    ),
    # What every module is linked with must stay: Substrait, Acero and Dataset, too. Left out are Flight, the
    # file systems of clouds (core reads S3 itself), encryption, ORC, headers, and copies under other names of
    # what the modules load as libarrow_python.so.<version>.
    "pyarrow": re.compile(
        r"pyarrow/(include/|includes/|src/|tests/|libarrow_flight|libarrow_s3|libarrow_python_flight"
        r"|libarrow_python_parquet_encryption|_flight|_s3fs|_gcsfs|_azurefs|_hdfs|_orc|_dataset_orc|_dataset_parquet_enc"
        r"|_parquet_encryption|_pyarrow_cpp_tests|lib[a-z_]+\.so($|\.\d+\.\d))"
    ),
    # the backend for PyPy
    "zstandard": re.compile(r"zstandard/_cffi\."),
}
_SOURCES: Final = frozenset({".a", ".c", ".cc", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyc", ".pyi", ".pyx"})
# WHEEL says for which systems the distribution was built; the installer's own notes differ between installers
_INFO: Final = re.compile(
    r"[^/]+\.dist-info/(METADATA|WHEEL|licenses/.*|(LICEN[CS]E|NOTICE|COPYING|AUTHORS)[^/]*)$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file of the package.

    :param name: path in the archive.
    :param data: what is in it.
    :param part: what brought it: a distribution, ``"chunkwise"``, or a path of the user's.
    :param version: of the part; empty for the user's own.
    """

    name: str
    data: bytes
    part: str
    version: str


def installed(folder: Path, target: Target) -> Iterator[Entry]:
    """The files of the distributions in a folder that a Lambda needs.

    :param folder: as :func:`~chunkwise.packaging.install.install` left it.
    :raises InstallFailed: a shared object is for another machine than the target.
    """
    for info in sorted(folder.glob("*.dist-info")):
        distribution, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        name = re.sub(r"[-_.]+", "-", distribution).lower()  # PEP 503
        with (info / "RECORD").open(encoding="utf-8", newline="") as record:
            paths = sorted({row[0] for row in csv.reader(record) if row})
        for path in paths:
            if not _needed(name, path):
                continue
            data = (folder / path).read_bytes()
            if elf.is_elf(data):
                if elf.machine(data) != target.elf_machine:
                    raise InstallFailed(
                        f"{path} of {name} {version} is not for {target.arch}, as the {target} needs it"
                    )
                data = elf.loaded_only(data)
            yield Entry(name=path, data=data, part=name, version=version)


def _needed(distribution: str, path: str) -> bool:
    parts = PurePosixPath(path).parts
    if parts[0] in ("..", "/", "bin", "__pycache__"):  # commands, which nobody calls on Lambda
        return False
    if parts[0].endswith(".dist-info"):
        return _INFO.match(path) is not None
    if "__pycache__" in parts or PurePosixPath(path).suffix in _SOURCES:
        return False
    unused = _UNUSED.get(distribution)
    return unused is None or unused.match(path) is None
