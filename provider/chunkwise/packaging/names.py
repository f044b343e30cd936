"""Names by which code of the user's own is imported: each must be his alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from chunkwise.core.errors import ConfigError
from chunkwise.packaging.slim import Entry

#: what Lambda's runtimes for Python bring besides boto3, which is in the package: the runtime client with its
#: dependencies, and the SDK of durable functions
_RUNTIME: Final = frozenset(
    {
        "aws_durable_execution_sdk_python",
        "awslambdaric",
        "runtime_client",
        "simplejson",
        "snapshot_restore_py",
    }
)
_MODULES: Final = frozenset({".py", ".so"})


def check(include: Sequence[Path], entries: Iterable[Entry]) -> None:
    """Refuse what would stand in front of a library, or behind it, where nobody looks for it.

    The package comes first on ``sys.path`` of a function: before its runtime, and Python's own library.

    :param include: the user's modules and packages.
    :param entries: all other files of the package.
    :raises ConfigError: one has the import name of something else; names both.
    """
    taken = dict.fromkeys(sys.stdlib_module_names, "Python's standard library")
    taken.update(dict.fromkeys(_RUNTIME, "Lambda's runtime"))
    for entry in entries:
        for name in _import_names(PurePosixPath(entry.name).parts[0], is_folder="/" in entry.name):
            taken[name] = f"{entry.part}, which is in the package"
    for path in include:
        for name in _import_names(path.name, is_folder=path.is_dir()):
            if name in taken:
                raise ConfigError(f"include {path}: `import {name}` is {taken[name]}: rename yours")
            taken[name] = str(path)


def _import_names(name: str, *, is_folder: bool) -> Iterator[str]:
    """The name by which a file or folder in the root of the package is imported, if it is."""
    if is_folder or PurePosixPath(name).suffix in _MODULES:
        # an extension module's name ends with tags: name.cpython-313-x86_64-linux-gnu.so
        found = name if is_folder else name.partition(".")[0]
        if found.isidentifier():
            yield found
