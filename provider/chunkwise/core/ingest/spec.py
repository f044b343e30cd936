"""What an ingest is to do: the values that an operator, a Lambda handler or a command line fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chunkwise.core.choices import check_choices
from chunkwise.core.digests import digest, digest_secrets
from chunkwise.core.ingest.fingerprint import described
from chunkwise.core.paging.fetcher import FetchOptions
from chunkwise.core.paging.model import BaseRequest, Paginator
from chunkwise.core.paging.rate_limit import RateLimit
from chunkwise.core.paging.retry import RetryPolicy
from chunkwise.core.paging.serialise import paginator_to_json
from chunkwise.core.records.compression import Compression
from chunkwise.core.records.lines import OnStampConflict
from chunkwise.core.records.quarantine import QuarantinePolicy
from chunkwise.core.records.transforms import transform_to_json
from chunkwise.core.storage import OnExists
from chunkwise.core.units import MiB

OnEmpty = Literal["write", "skip", "fail"]


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpOptions:
    """How requests are made.

    :param connect_timeout: seconds to a connection.
    :param read_timeout: seconds between two bytes of an answer.
    :param retry: when and how often a page is asked for again.
    :param rate_limit: requests in a time that are not exceeded, if any.
    :param allowed_origins: other origins that next links and redirects may lead to; they get no credentials.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    rate_limit: RateLimit | None = None
    allowed_origins: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """The object that is written.

    :param bucket: its bucket.
    :param key: its key.
    :param on_exists: see :class:`chunkwise.core.storage.S3Writer`.
    :param compression: ``"gzip"``, ``"zstd"`` or ``"none"``; the key must have its suffix.
    :param level: of the compression, ``None`` for its default.
    :param part_size: bytes of a part of the upload. A checkpoint ends a part early, at the end of a page; S3
        takes no part below 5 MiB, so with that part size there is none.
    :param parts_in_flight: parts that are uploaded at once.
    :param metadata: user metadata of the object.
    :param extra_args: more arguments of the S3 calls (``ServerSideEncryption``, ``SSEKMSKeyId``, ``ACL``,
        ``Tagging`` ...).
    :param checksum: ``"CRC32"``, or ``None`` for servers that know no checksums.
    """

    bucket: str
    key: str
    on_exists: OnExists = "replace"
    compression: Compression = "gzip"
    level: int | None = None
    part_size: int = 8 * MiB
    parts_in_flight: int = 2
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra_args: Mapping[str, Any] = field(default_factory=dict)
    checksum: Literal["CRC32"] | None = "CRC32"

    @property
    def uri(self) -> str:
        """``s3://bucket/key``."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestSpec:
    """A paged API, and the one object that its records become.

    :param request: what every page's request shares.
    :param paginator: how one page leads to the next.
    :param records_path: where a page's records are.
    :param destination: the object.
    :param http: how requests are made.
    :param fetch: bounds and guards of the paged read.
    :param stamps: members that each record gets at its end.
    :param on_stamp_conflict: what to do with a record that has such a member already.
    :param transforms: what is done to each record, in order; declarative ones, and Python callables.
    :param on_empty: without any record, ``"write"`` an empty object, ``"skip"`` (no object), or ``"fail"``.
    :param quarantine: how many records may be put aside instead of failing, into ``….rejected…`` in
        ``_chunkwise/`` beside the object; ``None``: not one.
    :param previous: the receipt of an earlier run, to compare this one's records with.
    :param width_share: growth of the mean record, as a share, that is worth a warning.
    """

    request: BaseRequest
    paginator: Paginator
    records_path: str | Sequence[str]
    destination: Destination
    http: HttpOptions = field(default_factory=HttpOptions)
    fetch: FetchOptions = field(default_factory=FetchOptions)
    stamps: Mapping[str, Any] = field(default_factory=dict)
    on_stamp_conflict: OnStampConflict = "fail"
    transforms: Sequence[Any] = ()
    on_empty: OnEmpty = "write"
    quarantine: QuarantinePolicy | None = None
    previous: Mapping[str, Any] | None = None
    width_share: float = 0.25

    def __post_init__(self) -> None:
        check_choices(self, on_empty=OnEmpty, on_stamp_conflict=OnStampConflict)

    def fingerprint(self, secrets: Mapping[str, str] | None = None) -> dict[str, str]:
        """A short digest for each field that decides what the object holds, so that a difference can be
        named.
        """
        fields = {
            "url": self.request.url,
            "method": self.request.method,
            "params": self.request.params,
            "headers": self.request.headers,
            "json": self.request.json,
            "paginator": described(self.paginator, paginator_to_json),
            "records_path": self.records_path,
            "bucket": self.destination.bucket,
            "key": self.destination.key,
            "compression": [self.destination.compression, self.destination.level],
            "extra_args": self.destination.extra_args,
            "stamps": [self.stamps, self.on_stamp_conflict],
            "transforms": [described(transform, transform_to_json) for transform in self.transforms],
            "non_finite": self.fetch.non_finite,
        }
        found = {name: digest(value) for name, value in fields.items()}
        return found | {"secrets": digest_secrets(secrets, self.destination.uri)}
