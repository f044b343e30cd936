"""Build a package."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from chunkwise.core.errors import ConfigError
from chunkwise.packaging import archive, names, sources
from chunkwise.packaging.install import install
from chunkwise.packaging.report import Package, check_size, parts_of
from chunkwise.packaging.slim import Entry, installed
from chunkwise.packaging.target import Target


def build(target: Target, output: Path, *, include: Sequence[Path] = (), installer: str = "auto") -> Package:
    """Build the archive of the Lambda handlers; the same content gives the same bytes.

    It holds core, the handlers, the dependencies of the profile as wheels of the target, and boto3 with the
    services that the handlers call: the one in Lambda's runtime changes without notice, and may be older than
    what conditional writes need. Nothing of Airflow is in it.

    :param output: path of the archive; an older one is replaced.
    :param include: modules and packages of your own, e.g. with a protector; each is found by
        ``import <its name>``, which must be the name of nothing else.
    :param installer: ``"auto"``, ``"uv"`` or ``"pip"``; the configuration of indexes is theirs.
    :return: sizes, parts, and the hash by which Lambda knows the code.
    :raises ConfigError: a parameter, a path that is not there, or a name that is taken.
    :raises InstallFailed: a dependency cannot be installed for the target.
    :raises PackageTooLarge: Lambda would refuse it; nothing is written then.
    """
    if not output.name or output.is_dir():
        raise ConfigError(f"output {output} is a folder: name the archive, too")
    seconds = archive.timestamp()
    entries = [*sources.own()]
    own = [entry for path in include for entry in sources.included(path)]
    with tempfile.TemporaryDirectory(prefix="chunkwise-package-") as folder:
        used = install(target, Path(folder), installer=installer)
        entries += installed(Path(folder), target)
    names.check(include, entries)
    entries += own
    _check_names(entries)
    unzipped = check_size(target, parts_of(entries))
    zipped = archive.write(entries, output, seconds=seconds)
    data = output.read_bytes()
    return Package(
        path=str(output),
        target=target,
        zipped=len(data),
        unzipped=unzipped,
        code_sha256=base64.b64encode(hashlib.sha256(data).digest()).decode(),
        parts=parts_of(entries, zipped),
        installer=used,
    )


def _check_names(entries: Sequence[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.name in seen:
            raise ConfigError(
                f"{entry.name} is in {seen[entry.name]} and in {entry.part}: rename the one of yours"
            )
        seen[entry.name] = entry.part
