"""One archive for one content: whoever builds it, wherever and whenever."""

from __future__ import annotations

import os
import stat
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from chunkwise.core.errors import ConfigError
from chunkwise.packaging.slim import Entry

_FIRST: Final = 315532800  # 1980-01-01 00:00 UTC, the first time of a zip entry: APPNOTE.TXT 4.4.6
_LAST: Final = 4354819198  # 2107-12-31 23:59:58 UTC, the last one
_UNIX: Final = 3  # APPNOTE.TXT 4.4.2: the modes are those of Unix, on whatever system this runs
_MODE: Final = stat.S_IFREG | 0o644  # Lambda runs as a user of its own, who must be able to read everything
_LEVEL: Final = 9


def timestamp(environment: Mapping[str, str] = os.environ) -> int:
    """Seconds since 1970 that all entries carry: ``SOURCE_DATE_EPOCH``, else the first of 1980.

    A zip file knows no time before 1980: an earlier one, such as 0, becomes that, as other tools have it.

    :raises ConfigError: the variable is no number of seconds, or of more than a zip file can hold.
    """
    given = environment.get("SOURCE_DATE_EPOCH", "")
    if not given:
        return _FIRST
    # int() takes no more than 4,300 digits
    if not (given.isascii() and given.isdigit() and len(given) < 100 and int(given) <= _LAST):
        raise ConfigError(
            f"SOURCE_DATE_EPOCH must be whole seconds since 1970, up to {_LAST} (the end of 2107)"
        )
    return max(int(given), _FIRST)


def write(entries: Sequence[Entry], path: Path, *, seconds: int) -> dict[str, int]:
    """Write the archive; it appears whole or not at all.

    :param entries: in any order, each name once.
    :param seconds: time of every entry.
    :return: compressed size by part.
    :raises ConfigError: the file cannot be written.
    """
    sizes: dict[str, int] = {}
    when = time.gmtime(seconds)[:6]
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
                for entry in sorted(entries, key=lambda one: one.name):
                    info = zipfile.ZipInfo(entry.name, when)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.create_system = _UNIX
                    info.external_attr = _MODE << 16
                    archive.writestr(info, entry.data)
                    sizes[entry.part] = sizes.get(entry.part, 0) + info.compress_size
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or type(error).__name__}") from None
    return sizes
