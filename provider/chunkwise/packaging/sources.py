"""The part of Chunkwise that runs on Lambda, and what a user adds to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import chunkwise
from chunkwise.core.errors import ConfigError
from chunkwise.packaging.slim import Entry

_PACKAGE: Final = Path(chunkwise.__file__).parent
_FOLDERS: Final = ("core", "aws_lambda")


def own() -> Iterator[Entry]:
    """``chunkwise`` without what needs Airflow: core and the handlers."""
    files = [_PACKAGE / "__init__.py", _PACKAGE / "py.typed"]
    for folder in _FOLDERS:
        files += _PACKAGE.joinpath(folder).rglob("*.py")
    for file in sorted(files):
        name = file.relative_to(_PACKAGE.parent).as_posix()
        yield Entry(name=name, data=file.read_bytes(), part="chunkwise", version=chunkwise.__version__)


def included(path: Path) -> Iterator[Entry]:
    """A module, or a package with all that is in it, so that ``import <its name>`` finds it.

    Hidden files stay out: no code needs them, and ``.env`` and its like hold secrets.

    :raises ConfigError: there is nothing, or it cannot be read.
    """
    try:
        if path.is_file():
            yield Entry(name=path.name, data=path.read_bytes(), part=path.name, version="")
            return
        found = False
        for file in sorted(path.rglob("*")):
            inside = file.relative_to(path)
            hidden = any(part.startswith(".") for part in inside.parts)
            if file.is_file() and file.suffix != ".pyc" and not hidden:
                found = True
                name = (path.name / inside).as_posix()
                yield Entry(name=name, data=file.read_bytes(), part=path.name, version="")
    except OSError as error:
        raise ConfigError(f"include {path}: {type(error).__name__}") from None
    if not found:
        raise ConfigError(f"include {path}: there is no such file or folder, or it is empty")
