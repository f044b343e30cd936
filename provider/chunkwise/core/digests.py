"""Short digests by which one configuration is told from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

#: rounds of PBKDF2: a digest lies in a database or on S3, and a short secret must not be guessed from it
_ROUNDS = 200_000


def digest(value: Any) -> str:
    """Sixteen hex digits of anything that JSON or ``repr`` can show."""
    encoded = msgspec.json.encode(value, order="deterministic", enc_hook=repr)
    return hashlib.sha256(encoded).hexdigest()[:16]


def digest_secrets(secrets: Mapping[str, str] | None, salt: str) -> str:
    """The same for secrets, in a way that takes long to guess from."""
    text = msgspec.json.encode(dict(secrets or {}), order="deterministic")
    return hashlib.pbkdf2_hmac("sha256", text, salt.encode(), _ROUNDS).hex()[:16] if secrets else ""
