"""What a dispatch is to do: the values that an operator, a Lambda handler or a command line fills in."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from chunkwise.core.choices import check_choices
from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.mapping import Mapping
from chunkwise.core.protect.protector import ProtectorSpec
from chunkwise.core.storage import OnExists
from chunkwise.core.units import MiB

#: Below this the whole source is one chunk (250 MiB, as LARGE_FILE_DISPATCH_THRESHOLD_BYTES of S3 Protector).
DEFAULT_THRESHOLD: Final = 262_144_000
#: 150 MiB, as its LARGE_FILE_CHUNK_SIZE_BYTES
DEFAULT_CHUNK: Final = 157_286_400
#: S3: parts of one multipart upload are at most 10,000, and the header may need one of its own
MAX_CHUNKS: Final = 9_999

OnExisting = Literal["fail", "resume", "restart"]
"""A dispatch that stands there already: an error, gone on with if it is of the same source and config, or
thrown away."""
Mode = Literal["assume", "exact"]
"""How boundaries are found: near each cut, proved by the merge; or by a pass over the whole source first."""
PRESERVE: Final = "preserve_input_format"
OutputFormat = Literal["preserve_input_format", "csv", "jsonl", "json", "parquet"]
Compression = Literal["gzip", "zstd", "none"]
OutputCompression = Literal["preserve", "gzip", "zstd", "none"]


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The object that is written.

    :param bucket: its bucket.
    :param key: its key.
    :param on_exists: ``"replace"`` what the plan saw there (an object that came later is an error),
        ``"skip"`` or ``"fail"``.
    :param metadata: user metadata of the object.
    :param extra_args: more arguments of the S3 calls that write it (``ServerSideEncryption``,
        ``SSEKMSKeyId``, ``ACL``, ``Tagging``, ``StorageClass`` ...).
    """

    bucket: str
    key: str
    on_exists: OnExists = "replace"
    metadata: dict[str, str] = {}
    extra_args: dict[str, Any] = {}

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


class Rejects(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many bad rows may be put aside instead of failing the dispatch.

    :param max_records: by number, over all chunks.
    :param max_share: of all rows, 0 to 1.
    :param key: of the object that holds them, in the target's bucket; default: the target's name with
        ``.rejected.jsonl.gz`` in ``_chunkwise/`` beside it, which readers and event filters pass over.
    """

    max_records: int | None = None
    max_share: float | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        if self.max_records is None and self.max_share is None:
            raise ConfigError("rejects needs a limit: max_records or max_share")
        if self.max_records is not None and self.max_records < 0:
            raise ConfigError(f"rejects.max_records is {self.max_records}: it must be 0 or more")
        if self.max_share is not None and not 0 <= self.max_share <= 1:
            raise ConfigError(f"rejects.max_share is {self.max_share}: it must be from 0 to 1")


class LastMerge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The processor of the last chunk merges, too: nobody waits for the chunks.

    :param delete_input: remove the source in the end, if it still is the one that was read.
    :param keep_staging: do not remove the staging directory in the end.
    """

    delete_input: bool = False
    keep_staging: bool = False


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides what comes out. A snapshot goes into the plan, so that nothing that changes
    later changes a running dispatch. Holds no secret.

    :param target: the object that is written.
    :param format: of the source, ``None``: by the mapping, or the key's suffix.
    :param options: of that format, see its module.
    :param compression: of the source as a whole, ``None``: by the key's suffix.
    :param output_format: ``"preserve_input_format"``, or another one to convert to.
    :param output_options: of the output's format. CSV that is asked for in another form than its source's
        (delimiter, quotes, line end, header, encoding ...) is written anew; what they leave open stays.
    :param output_compression: ``"preserve"`` the source's, or another one. For Parquet its codec.
    :param mode: how boundaries are found.
    :param threshold_bytes: a smaller source is one chunk; ``None``: every source is cut.
    :param chunk_bytes: size of a chunk; grows where more than 9,999 chunks were needed.
    :param groups: tasks that the chunks are shared out to, at most.
    :param batch_rows: rows that are worked on at once, at most.
    :param batch_bytes: bytes of the same; what bounds memory.
    :param mapping: columns that are protected, and those that are left alone.
    :param protector: who protects.
    :param rejects: bad rows that may be put aside; ``None``: not one.
    :param deadline_seconds: a started chunk that reported nothing for so long is lost.
    :param last_merge: how the processor of the last chunk merges; ``None``: whoever planned does it.
    """

    target: Target
    format: str | None = None
    options: dict[str, Any] = {}
    compression: Compression | None = None
    output_format: OutputFormat = "preserve_input_format"
    output_options: dict[str, Any] = {}
    output_compression: OutputCompression = "preserve"
    mode: Mode = "assume"
    threshold_bytes: int | None = DEFAULT_THRESHOLD
    chunk_bytes: int = DEFAULT_CHUNK
    groups: int = 64
    batch_rows: int = 100_000
    batch_bytes: int = 8 * MiB
    mapping: Mapping | None = None
    protector: ProtectorSpec | None = None
    rejects: Rejects | None = None
    deadline_seconds: float = 3600.0
    last_merge: LastMerge | None = None

    def __post_init__(self) -> None:
        check_choices(self, output_format=OutputFormat, output_compression=OutputCompression, mode=Mode)
        check_choices(self.target, on_exists=OnExists)
        for name in ("chunk_bytes", "groups", "batch_rows", "batch_bytes", "deadline_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)!r}: it must be above 0")
        if self.threshold_bytes is not None and self.threshold_bytes < 0:
            raise ConfigError(f"threshold_bytes is {self.threshold_bytes}: it must be 0 or more, or None")
        protects = self.mapping is not None and bool(self.mapping.columns)
        if protects and self.protector is None:
            raise ConfigError("the mapping names columns to protect, and there is no protector")
        if self.protector is not None and not protects:
            raise ConfigError("there is a protector, and no mapping that names columns for it")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The object that is read.

    :param bucket: its bucket.
    :param key: its key.
    :param version_id: a version of it; ``None``: the one that stands there when the plan is made.
    """

    bucket: str
    key: str
    version_id: str | None = None
