"""What the records of a run look like, and how that differs from an earlier run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])

#: the first records of a run are all looked into, later ones by sample
FIRST = 1_000
#: keys that are kept; records that use keys as data have any number of them
MAX_KEYS = 1_000
#: characters of a key that are kept
MAX_KEY = 200


@dataclass(slots=True)
class RecordProfile:
    """Width and top-level keys of the records of a run, for little work.

    Every width is counted. Keys are read from each of the first 1,000 records, then from the first of each
    batch (about one in 25 at 20 kB): a key that few records have may be missed. No more than 1,000 keys are
    kept.
    """

    records: int = 0
    total_bytes: int = 0
    max_bytes: int = 0
    sampled: int = 0
    _keys: dict[str, None] = field(default_factory=dict)

    def observe(self, records: Sequence[msgspec.Raw | bytes | memoryview]) -> None:
        """Take a batch of raw records into account."""
        widths = [len(memoryview(record)) for record in records]
        if not widths:
            return
        looked_into = max(1, FIRST - self.records)
        self.records += len(widths)
        self.total_bytes += sum(widths)
        self.max_bytes = max(self.max_bytes, *widths)
        for record in records[:looked_into]:
            self._look(record)

    def _look(self, record: msgspec.Raw | Any) -> None:
        try:
            keys = _MEMBERS.decode(record)
        except (msgspec.DecodeError, RecursionError):  # lone surrogates, great depth: one record less
            return
        self.sampled += 1
        for key in keys:
            if len(self._keys) >= MAX_KEYS:
                return
            self._keys[key[:MAX_KEY]] = None

    def to_json(self) -> dict[str, Any]:
        """For a receipt: ``records``, ``mean_bytes``, ``max_bytes``, ``keys`` (sorted), ``keys_sampled``."""
        return {
            "records": self.records,
            "mean_bytes": round(self.total_bytes / self.records, 1) if self.records else 0.0,
            "max_bytes": self.max_bytes,
            "keys": sorted(self._keys),
            "keys_sampled": self.sampled,
        }

    def state(self) -> dict[str, Any]:
        """All of it, JSON-able, for a later try; see :meth:`restore`."""
        return {
            "records": self.records,
            "total_bytes": self.total_bytes,
            "max_bytes": self.max_bytes,
            "sampled": self.sampled,
            "keys": list(self._keys),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> RecordProfile:
        """The profile that :meth:`state` was taken of."""
        members = {name: value for name, value in state.items() if name != "keys"}
        return cls(**members, _keys=dict.fromkeys(state["keys"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftReport:
    """How a run's records differ from an earlier run's.

    :param new_keys: top-level keys that the earlier records did not have.
    :param lost_keys: and those that only they had.
    :param width_change: of the mean record, as a share: 0.5 is half as wide again.
    :param warnings: for a person, with numbers.
    """

    new_keys: Sequence[str]
    lost_keys: Sequence[str]
    width_change: float
    warnings: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return asdict(self)


def drift(
    previous: Mapping[str, Any], current: Mapping[str, Any], *, width_share: float = 0.25
) -> DriftReport:
    """Compare two profiles, each as :meth:`RecordProfile.to_json` gives it.

    Keys are not compared where a profile has as many as it may keep: its records use keys as data.

    :param width_share: growth of the mean width that is worth a warning.
    """
    if not previous.get("records") or not current.get("records"):
        return DriftReport(new_keys=(), lost_keys=(), width_change=0.0, warnings=())
    before, now = set(previous.get("keys", ())), set(current.get("keys", ()))
    if max(len(before), len(now)) >= MAX_KEYS:
        before = now = set()
    new, lost = sorted(now - before), sorted(before - now)
    old_width, width = previous.get("mean_bytes", 0.0), current.get("mean_bytes", 0.0)
    change = width / old_width - 1 if old_width else 0.0
    warnings = []
    if change > width_share:
        total_before, total = old_width * previous["records"], width * current["records"]
        warnings.append(
            f"records are {change:.0%} wider than last time: {width:,.0f} bytes instead of {old_width:,.0f}"
            " each,"
            f" {total / 1e6:,.1f} MB instead of {total_before / 1e6:,.1f} MB in all"
        )
    looked_into = f"in the {current.get('keys_sampled', 0):,} records that were looked into"
    if new:
        warnings.append(f"{len(new)} new top-level keys {looked_into}: {_some(new)}")
    if lost:
        warnings.append(f"{len(lost)} top-level keys were not found {looked_into}: {_some(lost)}")
    return DriftReport(new_keys=new, lost_keys=lost, width_change=round(change, 4), warnings=warnings)


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:10]) + (", ..." if len(keys) > 10 else "")
