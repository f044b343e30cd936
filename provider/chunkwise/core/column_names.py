"""Names that a Delta table lets its columns have. Not in its package, which imports pyarrow."""

from __future__ import annotations

from typing import Final

#: what Delta's own writers refuse, without column mapping
_FORBIDDEN: Final = frozenset(" ,;{}()\n\t=")


def is_name(name: str) -> bool:
    """Whether Delta's own writers let a column have this name."""
    return bool(name) and not _FORBIDDEN.intersection(name)
