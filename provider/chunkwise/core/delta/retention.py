"""For how long a checkpoint of Delta remembers files that were removed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

#: delta.deletedFileRetentionDuration, where a table does not say (Delta, table properties)
_DEFAULT: Final = timedelta(weeks=1)
_INTERVAL: Final = re.compile(
    r"(?:interval\s+)?((?:\d+\s+(?:micro|milli)?(?:second|minute|hour|day|week)s?\s*)+)", re.IGNORECASE
)
_PART: Final = re.compile(r"(\d+)\s+([a-z]+?)s?(?=\s|$)", re.IGNORECASE)
#: by which the clocks of those who remove files may be wrong
_DOUBT: Final = timedelta(hours=1)


def remembered(configuration: Mapping[str, Any]) -> timedelta:
    """For how long a removal is surely in every checkpoint; nothing where the table says what is not known.

    :param configuration: of the table when the checkpoint was written.
    """
    text = configuration.get("delta.deletedFileRetentionDuration")
    if text is None:
        return _DEFAULT - _DOUBT
    match = _INTERVAL.fullmatch(str(text).strip())
    if match is None:
        return timedelta()
    try:
        parts = {f"{unit.lower()}s": int(count) for count, unit in _PART.findall(match[1])}
        return max(timedelta(), timedelta(**parts) - _DOUBT)
    except (OverflowError, TypeError):  # longer than anything, or a unit that is none
        return timedelta()
