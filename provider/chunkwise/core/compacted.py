"""How files are called that a compaction has written: who counts files of others tells them apart by it."""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"compacted-[0-9a-f]{32}\.parquet")


def is_named(name: str) -> bool:
    """Whether a name is that of an output of a compaction."""
    return _NAME.fullmatch(name) is not None
