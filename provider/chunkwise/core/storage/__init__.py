"""S3: objects that appear whole or not at all, written in bounded memory."""

from __future__ import annotations

from chunkwise.core.storage.parts import (
    DEFAULT_PART,
    MAX_PART,
    MAX_PARTS,
    MIN_PART,
    largest_object,
    part_length,
)
from chunkwise.core.storage.receipt import ObjectReceipt
from chunkwise.core.storage.saved import Cut, SavedUpload
from chunkwise.core.storage.uploads import abort_saved, abort_stale_uploads
from chunkwise.core.storage.writer import OnExists, S3Writer

__all__ = [
    "DEFAULT_PART",
    "MAX_PART",
    "MAX_PARTS",
    "MIN_PART",
    "Cut",
    "ObjectReceipt",
    "OnExists",
    "S3Writer",
    "SavedUpload",
    "abort_saved",
    "abort_stale_uploads",
    "largest_object",
    "part_length",
]
