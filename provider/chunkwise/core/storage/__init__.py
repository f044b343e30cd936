"""S3: objects that appear whole or not at all, written and read in bounded memory."""

from __future__ import annotations

from chunkwise.core.storage.combine import combine_all, combine_crc32
from chunkwise.core.storage.lease import Lease
from chunkwise.core.storage.objects import Listed, Small
from chunkwise.core.storage.parts import (
    DEFAULT_PART,
    MAX_PART,
    MAX_PARTS,
    MIN_PART,
    largest_object,
    part_length,
)
from chunkwise.core.storage.receipt import ObjectReceipt
from chunkwise.core.storage.retries import Retries
from chunkwise.core.storage.saved import Cut, SavedUpload
from chunkwise.core.storage.source import ObjectRef, S3Source, pin
from chunkwise.core.storage.uploads import abort_below, abort_saved, abort_stale_uploads
from chunkwise.core.storage.writer import OnExists, S3Writer

__all__ = [
    "DEFAULT_PART",
    "MAX_PART",
    "MAX_PARTS",
    "MIN_PART",
    "Cut",
    "Lease",
    "Listed",
    "ObjectReceipt",
    "ObjectRef",
    "OnExists",
    "Retries",
    "S3Source",
    "S3Writer",
    "SavedUpload",
    "Small",
    "abort_below",
    "abort_saved",
    "abort_stale_uploads",
    "combine_all",
    "combine_crc32",
    "largest_object",
    "part_length",
    "pin",
]
