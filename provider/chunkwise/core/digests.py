"""Short digests by which one configuration is told from another."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec


def digest(value: Any) -> str:
    """Sixteen hex digits of anything that JSON or ``repr`` can show."""
    encoded = msgspec.json.encode(value, order="deterministic", enc_hook=repr)
    return hashlib.sha256(encoded).hexdigest()[:16]
