"""The staging directory of a dispatch: which key holds what, and how it is read and written."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from chunkwise import __version__
from chunkwise.core import decoding
from chunkwise.core.dispatch.model import VERSION, Done, Failed, Manifest, Plan
from chunkwise.core.errors import ConfigError, DispatchNotFound, ProofFailed
from chunkwise.core.formats.registry import format_named
from chunkwise.core.storage import objects
from chunkwise.core.units import MiB

log = logging.getLogger(__name__)

T = TypeVar("T", bound=msgspec.Struct)

#: requests for small objects that are under way at once
IN_FLIGHT: Final = 16
#: a plan of 9,999 chunks is about 1 MB; Parquet files with very many row groups have more to say
_MAX_VALUE: Final = 64 * MiB
_SUFFIX: Final = ".dispatch/"
_OWN: Final = re.compile(
    r"plan\.json$|cancelled(\.[0-9]{4})?\.json$|(manifests|done|rejected)/chunk_|done/limit\.json$"
    r"|parts/(chunk_|merge\.)|concat/"
)
# msgspec's words
_UNKNOWN_FIELD: Final = "unknown field"
_REBUILD: Final = "build the package of the function again with the version that plans, and deploy it"
_STATE: Final = re.compile(
    r"chunk_([0-9]{4})\.(?:(?P<done>json)|(?P<attempt>[^.]+)\.(?P<kind>invoked|started|failed\.json|doubtful\.json))$"
)


class Staging:
    """Keys below one prefix, see "The S3 contract of a dispatch" in the design.

    :param client: boto3 S3 client.
    :param bucket: of the directory.
    :param prefix: of all its keys, with a slash at its end.
    :param extra_args: more arguments of the S3 calls, each goes to those that know it.
    """

    def __init__(
        self, client: Any, bucket: str, prefix: str, extra_args: Mapping[str, Any] | None = None
    ) -> None:
        if not prefix.endswith("/") or prefix == "/":
            raise ConfigError(f"a staging directory must be a prefix that ends with '/', not {prefix!r}")
        self.client = client
        self.bucket = bucket
        self.prefix = prefix
        self.extra_args = dict(extra_args or {})

    @classmethod
    def beside(
        cls,
        client: Any,
        bucket: str,
        key: str,
        *,
        uri: str | None = None,
        extra_args: Mapping[str, Any] | None = None,
    ) -> Staging:
        """The directory of a source.

        :param bucket: of the source.
        :param key: of the source.
        :param uri: ``s3://bucket/prefix`` below which the directory stands as
            ``{prefix}/{key}.dispatch/``; ``None``: beside the source. A prefix that ends with ``.dispatch/``
            is the directory itself.
        """
        if uri is None:
            return cls(client, bucket, key + _SUFFIX, extra_args)
        parts = urlsplit(uri, allow_fragments=False)
        if parts.scheme != "s3" or not parts.netloc or parts.query:
            raise ConfigError(f"{uri!r} is not of the form s3://bucket/prefix")
        prefix = parts.path.lstrip("/")
        if prefix.endswith(_SUFFIX):
            return cls(client, parts.netloc, prefix, extra_args)
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        return cls(client, parts.netloc, f"{prefix}{key}{_SUFFIX}", extra_args)

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix/``."""
        return f"s3://{self.bucket}/{self.prefix}"

    # --- keys -----------------------------------------------------------------------------------------------

    @property
    def plan_key(self) -> str:
        """Of the plan."""
        return f"{self.prefix}plan.json"

    @property
    def lock_key(self) -> str:
        """Of the merge's lease."""
        return f"{self.prefix}parts/merge.lock"

    @property
    def upload_key(self) -> str:
        """Of the id of the merge's upload, by which a later merge finds it if this one is killed."""
        return f"{self.prefix}parts/merge.upload.json"

    @property
    def state_prefix(self) -> str:
        """Below it lies all that tells how far the chunks are: one LIST per 1,000 chunks."""
        return f"{self.prefix}done/"

    def manifest_key(self, chunk: int) -> str:
        """Of a chunk's manifest."""
        return f"{self.prefix}manifests/chunk_{chunk:04d}.manifest.json"

    def part_key(self, chunk: int, attempt: str) -> str:
        """Of an attempt's part."""
        return f"{self.prefix}parts/chunk_{chunk:04d}.{attempt}.part"

    def rejected_key(self, chunk: int, attempt: str) -> str:
        """Of the rows that an attempt put aside."""
        return f"{self.prefix}rejected/chunk_{chunk:04d}.{attempt}.jsonl.gz"

    def done_key(self, chunk: int) -> str:
        """Of a chunk's done record."""
        return f"{self.state_prefix}chunk_{chunk:04d}.json"

    def started_key(self, chunk: int, attempt: str) -> str:
        """Of the mark that an attempt has begun; S3's time of it is when."""
        return f"{self.state_prefix}chunk_{chunk:04d}.{attempt}.started"

    def failed_key(self, chunk: int, attempt: str, *, doubtful: bool = False) -> str:
        """Of an attempt's failure; a doubtful one may be due to a wrong cut, which the merge finds out."""
        kind = "doubtful" if doubtful else "failed"
        return f"{self.state_prefix}chunk_{chunk:04d}.{attempt}.{kind}.json"

    def invoked_key(self, chunk: int, attempt: str) -> str:
        """Of the mark that an attempt was handed over to a function."""
        return f"{self.state_prefix}chunk_{chunk:04d}.{attempt}.invoked"

    @property
    def limit_key(self) -> str:
        """Of how much may run at once. Among the states, so that a poll's LIST shows that it changed."""
        return f"{self.state_prefix}limit.json"

    def cancelled_key(self, group: int | None = None) -> str:
        """Present once the dispatch, or this group of it, was cancelled."""
        return f"{self.prefix}cancelled.json" if group is None else f"{self.prefix}cancelled.{group:04d}.json"

    def cancelled(self, group: int) -> bool:
        """Whether the dispatch or this group of it was cancelled: one LIST."""
        keys = {self.cancelled_key(), self.cancelled_key(group)}
        return any(item.key in keys for item in self.list(f"{self.prefix}cancelled."))

    def owns(self, key: str) -> bool:
        """Whether a key below the prefix is one of a dispatch: whatever else lies there is not ours."""
        return key.startswith(self.prefix) and _OWN.match(key, len(self.prefix)) is not None

    # --- values ---------------------------------------------------------------------------------------------

    def get(self, key: str, kind: type[T]) -> tuple[T, str] | None:
        """A value and the ETag of its object, or ``None``.

        :raises ProofFailed: it is not of the form that it must have; names the field.
        """
        found = objects.get(self.client, self.bucket, key, max_bytes=_MAX_VALUE, extra_args=self.extra_args)
        if found is None:
            return None
        return decode(found.body, kind, f"s3://{self.bucket}/{key}"), found.etag

    def body(self, key: str) -> bytes | None:
        """The bytes of a small object, or ``None``."""
        found = objects.get(self.client, self.bucket, key, max_bytes=_MAX_VALUE, extra_args=self.extra_args)
        return None if found is None else found.body

    def put_new(self, key: str, value: Any) -> str:
        """Write a value where none stands; its ETag.

        :raises ObjectExists: there is one.
        """
        return objects.put_new(
            self.client, self.bucket, key, msgspec.json.encode(value), extra_args=self.extra_args
        )

    def put_if_match(self, key: str, value: Any, etag: str) -> str:
        """Replace exactly the value with this ETag.

        :raises ObjectChanged: it is another one.
        """
        return objects.put_if_match(
            self.client, self.bucket, key, msgspec.json.encode(value), etag=etag, extra_args=self.extra_args
        )

    def delete(self, *keys: str) -> None:
        """Delete; what is not there is fine."""
        if len(keys) == 1:
            objects.delete(self.client, self.bucket, keys[0], extra_args=self.extra_args)
        elif keys:
            objects.delete_all(self.client, self.bucket, keys, extra_args=self.extra_args)

    def list(self, prefix: str | None = None) -> Iterator[objects.Listed]:
        """What lies below a prefix, default the whole directory."""
        return objects.list_objects(
            self.client,
            self.bucket,
            self.prefix if prefix is None else prefix,
            extra_args=self.extra_args,
        )

    # --- the dispatch ---------------------------------------------------------------------------------------

    def find(self) -> Plan | None:
        """The plan, if there is one."""
        found = self.get(self.plan_key, Plan)
        return None if found is None else found[0]

    def load(self) -> Plan:
        """The plan.

        :raises DispatchNotFound: there is none.
        """
        plan = self.find()
        if plan is None:
            raise self.no_plan()
        return plan

    def no_plan(self) -> DispatchNotFound:
        """The error of whoever needs a plan."""
        if next(self.list(self.state_prefix), None) is not None:
            return DispatchNotFound(
                f"there is no plan in {self.uri}, though records of chunks lie there: somebody removed it, or"
                " a clean-up was stopped half way; plan again"
            )
        return DispatchNotFound(
            f"there is no plan in {self.uri}: it was never made, or the dispatch is finished and cleaned up"
        )

    def manifest(self, plan: Plan, chunk: int) -> Manifest:
        """What a chunk's manifest holds."""
        span = plan.span(chunk)
        return Manifest(
            dispatch=plan.dispatch,
            chunk=chunk,
            revision=plan.revision_of(chunk),
            span=span,
            source=plan.source,
            compression=plan.compression,
            format=plan.format,
            layout=format_named(plan.format).narrow(plan.layout, span),
            output=plan.output,
            config=plan.config,
            exact=plan.exact,
            group=chunk % plan.groups,
            planned_by=__version__,
        )

    def done(self, chunks: Iterable[int]) -> dict[int, tuple[Done, str]]:
        """The done records of these chunks that are there, with their ETags; several reads in flight."""
        wanted = list(chunks)
        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chunkwise-done") as pool:
            found = pool.map(self.done_of, wanted)
            return {chunk: value for chunk, value in zip(wanted, found, strict=True) if value is not None}

    def done_of(self, chunk: int) -> tuple[Done, str] | None:
        """The done record of a chunk and its ETag. One that cannot be read is removed: it proves nothing.

        :raises ProofFailed: it was written by a later version.
        """
        key = self.done_key(chunk)
        found = objects.get(self.client, self.bucket, key, max_bytes=_MAX_VALUE, extra_args=self.extra_args)
        if found is None:
            return None
        try:
            return decoding.decode(found.body, Done), found.etag
        except (msgspec.DecodeError, ValueError) as error:
            check_version(found.body, f"s3://{self.bucket}/{key}")
            log.warning("s3://%s/%s is no done record (%s): removing it", self.bucket, key, error)
            objects.delete(self.client, self.bucket, key, if_match=found.etag, extra_args=self.extra_args)
            return None

    def failures(self, listed: Iterable[objects.Listed]) -> dict[int, Failed]:
        """The latest failure of each chunk, among the listed states."""
        latest: dict[int, objects.Listed] = {}
        for item in listed:
            state = parse_state(item.key)
            if (
                state is not None
                and state.kind in ("failed", "doubtful")
                and (state.chunk not in latest or latest[state.chunk].last_modified <= item.last_modified)
            ):
                latest[state.chunk] = item
        failures = {}
        for chunk, item in latest.items():
            found = self.get(item.key, Failed)
            if found is not None:
                failures[chunk] = found[0]
        return failures


class State(msgspec.Struct, frozen=True):
    """What the key of a state says.

    :param chunk: number.
    :param kind: ``"done"``, ``"invoked"``, ``"started"``, ``"failed"`` or ``"doubtful"``.
    :param attempt: name of the attempt, empty for a done record.
    """

    chunk: int
    kind: str
    attempt: str = ""


def parse_state(key: str) -> State | None:
    """Read the key of a state, see :meth:`Staging.done_key` and its neighbours; ``None``: it is none."""
    match = _STATE.search(key)
    if match is None:
        return None
    if match["done"]:
        return State(int(match[1]), "done")
    return State(int(match[1]), match["kind"].removesuffix(".json"), match["attempt"])


def decode(body: bytes, kind: type[T], name: str) -> T:
    """Read a value strictly.

    :raises ProofFailed: it is not of its form, or of a later version; names the object and the field.
    """
    check_version(body, name)
    try:
        return decoding.decode(body, kind)
    except (msgspec.DecodeError, ValueError) as error:
        text = f"{name} is not a {kind.__name__.lower()} record: {error}"
        raise ProofFailed(text + _skew(body, error)) from None


def check_version(body: bytes, name: str) -> None:
    """:raises ProofFailed: a value of a later version, which must not be read by guessing."""
    found = _version(body)
    if found.version > VERSION:
        raise ProofFailed(
            f"{name} has version {found.version}, and this Chunkwise ({__version__}) knows {VERSION}:"
            f" {_older(found.planned_by)}"
        )


class _Versioned(msgspec.Struct):
    version: int = 1
    planned_by: str = ""


def _version(body: bytes) -> _Versioned:
    try:
        return decoding.decode(body, _Versioned)
    except (msgspec.DecodeError, ValueError):
        return _Versioned()


def _skew(body: bytes, error: Exception) -> str:
    """What to add where another version of Chunkwise wrote what this one cannot read."""
    by = _version(body).planned_by
    if _UNKNOWN_FIELD in str(error) and by != __version__:
        return f". This Chunkwise is {__version__}: {_older(by)}"
    if by and by != __version__:
        return f". Chunkwise {by} wrote it, and this one is {__version__}: in Lambda, {_REBUILD}"
    return ""


def _older(by: str) -> str:
    writer = f"the one that wrote it ({by})" if by else "the one that wrote it"
    return (
        f"it is older than {writer}; in Lambda, the function's package is older than the provider: {_REBUILD}"
    )
