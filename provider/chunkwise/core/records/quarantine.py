"""How many records may be put aside instead of failing a run, and how they are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from chunkwise.core.errors import ConfigError, QuarantineLimitExceeded

#: a folder beside the output: engines pass over it, and so do event filters, compactions and tables, so that
#: nobody who reads or loads what lies there takes what was put aside for rows
ASIDE: Final = "_chunkwise"


@dataclass(frozen=True, kw_only=True, slots=True)
class QuarantinePolicy:
    """Limits of a quarantine; the run fails beyond them.

    :param max_records: by number.
    :param max_share: of the records that were read, 0 to 1; known at the end of the run only.
    """

    max_records: int | None = None
    max_share: float | None = None

    def __post_init__(self) -> None:
        if self.max_records is None and self.max_share is None:
            raise ConfigError("a quarantine needs a limit: max_records or max_share")
        if self.max_records is not None and self.max_records < 0:
            raise ConfigError(f"max_records is a number of records, not {self.max_records}")
        if self.max_share is not None and not 0 <= self.max_share <= 1:
            raise ConfigError(f"max_share is a share from 0 to 1, not {self.max_share}")

    def check_count(self, rejected: int) -> None:
        """:raises QuarantineLimitExceeded: too many."""
        if self.max_records is not None and rejected > self.max_records:
            raise QuarantineLimitExceeded(
                f"more than {self.max_records} records were rejected; nothing was published."
                " Mend the transforms, or raise max_records"
            )

    def check_share(self, rejected: int, read: int) -> None:
        """:raises QuarantineLimitExceeded: too large a share."""
        if self.max_share is not None and rejected > self.max_share * read:
            raise QuarantineLimitExceeded(
                f"{rejected} of {read} records were rejected, more than {self.max_share:.2%}; nothing was"
                " published. Mend the transforms, or raise max_share"
            )


def aside_key(key: str) -> str:
    """Where what was put aside from an output lies: ``out/x.jsonl`` -> ``out/_chunkwise/x.jsonl``."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{ASIDE}/{name}"


def quarantine_line(*, page: int, index: int, reason: str, record: bytes) -> bytes:
    """The line of one rejected record, which keeps its bytes. ``record`` must be one line of JSON."""
    return b'{"page":%d,"index":%d,"reason":%s,"record":%s}\n' % (
        page,
        index,
        json.dumps(reason).encode(),
        record,
    )
