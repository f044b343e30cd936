"""Plan a dispatch: pin the source, cut it, snapshot the config, write the plan and its manifests."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from botocore.exceptions import ClientError

from chunkwise.core.digests import digest
from chunkwise.core.dispatch import boundaries
from chunkwise.core.dispatch.cancel import go_on
from chunkwise.core.dispatch.members import FORMATS, member_cuts
from chunkwise.core.dispatch.model import OpenUpload, Output, Plan
from chunkwise.core.dispatch.opening import UNKNOWN_END, open_source
from chunkwise.core.dispatch.rejected import rejected_key
from chunkwise.core.dispatch.spec import MAX_CHUNKS, PRESERVE, Config, OnExisting, Source
from chunkwise.core.dispatch.staging import IN_FLIGHT, Staging, parse_state
from chunkwise.core.dispatch.weights import weights
from chunkwise.core.errors import (
    ConfigError,
    DispatchDiffers,
    DispatchExists,
    DispatchNotFound,
    ObjectExists,
    UnsupportedSource,
)
from chunkwise.core.formats.model import Boundary, Format, Layout
from chunkwise.core.formats.registry import by_suffix, decompressed, format_named
from chunkwise.core.protect.mapping import Mapping, candidates, check_columns, parse_mapping
from chunkwise.core.protect.protector import check_class, check_operations
from chunkwise.core.storage import abort_below, objects
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.source import ObjectRef, pin
from chunkwise.core.storage.uploads import abort_upload

log = logging.getLogger(__name__)

#: fields of a config that decide how fast a dispatch is, not what comes out
FREE: Final = frozenset({"groups", "deadline_seconds", "batch_rows", "batch_bytes", "last_merge"})
_MAX_MAPPING: Final = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A plan, and what it cost.

    :param plan: it.
    :param resumed: whether it stood there already.
    :param requests: for bytes of the source.
    :param bytes_read: of the source.
    """

    plan: Plan
    resumed: bool = False
    requests: int = 0
    bytes_read: int = 0


def plan_dispatch(
    client: Any,
    source: Source,
    config: Config,
    staging: Staging,
    *,
    on_existing: OnExisting = "resume",
    write: bool = True,
    reads_in_flight: int = boundaries.READS_IN_FLIGHT,
) -> Planned:
    """Make a plan, or find it.

    Of two planners at once one writes the plan; the other one finds it. A planner that was killed left either
    no plan, or one whose missing manifests the next ``resume`` writes.

    :param client: boto3 S3 client.
    :param source: what is read.
    :param config: what is to be done.
    :param staging: where the plan goes.
    :param on_existing: what to do with a dispatch that stands there.
    :param write: ``False`` for a dry run: nothing is written, and a dispatch that stands there is not looked
        at.
    :param reads_in_flight: ranged reads at once.
    :raises DispatchExists: there is a dispatch, and ``on_existing`` is ``"fail"``.
    :raises DispatchDiffers: the dispatch that is to be resumed is of another source or config.
    :raises ChunkwiseError: the source cannot be read, is not what its format says, or does not fit the
        mapping.
    """
    check_places(config, staging, source)
    CallArguments(client, config.target.extra_args, key=config.target.key)  # the merge must not be the first
    CallArguments(client, staging.extra_args)
    existing = staging.find() if write else None
    if existing is not None and on_existing == "fail":
        raise DispatchExists(
            f"there is a dispatch in {staging.uri} already, of {existing.source.uri} with"
            f" {existing.chunks} chunks; resume it, restart it, or clean it up"
        )
    ref = pin(client, source.bucket, source.key, version_id=source.version_id)
    config = resolved(config, source.key)
    fingerprint = fingerprint_of(ref, config)
    if existing is not None and on_existing == "resume":
        return resume_plan(staging, fingerprint)
    planned = _make(client, ref, config, fingerprint, reads_in_flight)
    if not write:
        return planned
    if existing is not None:
        # only now: a plan that cannot be made must not cost the work of the old one
        log.info("restart: removing the dispatch in %s", staging.uri)
        clear(staging)
    try:
        staging.put_new(staging.plan_key, planned.plan)
    except ObjectExists:
        log.info("another planner was first in %s", staging.uri)
        if on_existing == "fail":
            raise DispatchExists(f"another planner was first in {staging.uri}") from None
        return resume_plan(staging, fingerprint)
    write_manifests(staging, planned.plan, range(planned.plan.chunks))
    return planned


def load_mapping(client: Any, bucket: str, key: str) -> Mapping | None:
    """The ``mapping.json`` beside a file, or in the nearest folder above it.

    :raises MappingError: it is wrong.
    """
    for candidate in candidates(key):
        found = objects.get(client, bucket, candidate, max_bytes=_MAX_MAPPING)
        if found is not None:
            return parse_mapping(found.body, f"s3://{bucket}/{candidate}")
    return None


def resolved(config: Config, key: str) -> Config:
    """The config with what the mapping and the key's suffix say where it says nothing itself."""
    mapping = config.mapping
    named, compression = by_suffix(key)
    told = mapping.input if mapping is not None else None
    out = mapping.output if mapping is not None else None
    own = mapping.dispatch if mapping is not None else None
    format_ = config.format or (told.format if told is not None else None) or named
    if format_ is None:
        raise UnsupportedSource(
            f"the suffix of {key!r} says no format: give one (csv, jsonl, json or parquet)"
        )
    output_format: Any = config.output_format
    if output_format == PRESERVE and out is not None and out.format:
        output_format = out.format
    changes: dict[str, Any] = {}
    if own is not None and own.large_file_chunk_size_bytes is not None:
        changes["chunk_bytes"] = own.large_file_chunk_size_bytes
    if own is not None and own.large_file_dispatch_threshold_bytes is not None:
        changes["threshold_bytes"] = own.large_file_dispatch_threshold_bytes
    options = {**(told.spec if told is not None else {}), **config.options}
    if format_ == "csv" and decompressed(key.lower())[0].endswith(".tsv"):
        options.setdefault("sep", "\t")
    return msgspec.structs.replace(
        config,
        format=format_,
        options=options,
        compression=config.compression or compression,
        output_format=output_format,
        output_options={**(out.spec if out is not None else {}), **config.output_options},
        **changes,
    )


def fingerprint_of(ref: ObjectRef, config: Config) -> dict[str, str]:
    """A digest for each field that decides what comes out, so that a difference can be named."""
    fields = {
        f"source.{name}": getattr(ref, name) for name in ("bucket", "key", "etag", "size", "version_id")
    }
    fields |= {name: value for name, value in msgspec.to_builtins(config).items() if name not in FREE}
    return {name: digest(value) for name, value in fields.items()}


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Names of the fields that differ."""
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def clear(staging: Staging) -> None:
    """Remove everything of a dispatch, and nothing else that lies there; its plan last, so that a clear that
    is killed can be seen.
    """
    abort_merge(staging)
    _abort_parts(staging)
    keys = [item.key for item in staging.list() if staging.owns(item.key)]
    first = [key for key in keys if key != staging.plan_key]
    staging.delete(*first)
    staging.delete(*(key for key in keys if key == staging.plan_key))


def abort_merge(staging: Staging) -> None:
    """Abort the upload that a killed merge left open."""
    found = staging.get(staging.upload_key, OpenUpload)
    if found is None:
        return
    upload = found[0]
    arguments = CallArguments(staging.client, staging.extra_args, key=upload.key)
    abort_upload(staging.client, upload.bucket, upload.key, upload.upload_id, arguments=arguments)
    staging.delete(staging.upload_key)


def _abort_parts(staging: Staging) -> None:
    """Abort the uploads of parts that killed processors left open."""
    try:
        abort_below(staging.client, staging.bucket, staging.prefix, extra_args=staging.extra_args)
    except ClientError as error:  # it needs a permission of its own, which many roles lack
        log.warning(
            "uploads that killed processors may have left below %s could not be listed (%s): a lifecycle rule"
            " AbortIncompleteMultipartUpload removes them",
            staging.uri,
            error.response.get("Error", {}).get("Code"),
        )


def write_manifests(staging: Staging, plan: Plan, chunks: Iterable[int]) -> None:
    """Write the manifests of these chunks where they are missing; several requests in flight."""

    def write(chunk: int) -> None:
        try:
            staging.put_new(staging.manifest_key(chunk), staging.manifest(plan, chunk))
        except ObjectExists:
            found = staging.get(staging.manifest_key(chunk), type(staging.manifest(plan, chunk)))
            if found is not None and found[0].revision != plan.revision_of(chunk):
                staging.put_if_match(staging.manifest_key(chunk), staging.manifest(plan, chunk), found[1])

    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chunkwise-manifests") as pool:
        for _ in pool.map(write, chunks):
            pass


def repair(staging: Staging, plan: Plan) -> list[int]:
    """Give every chunk that is not done its manifest again.

    :return: chunks that are not done.
    """
    states = (parse_state(item.key) for item in staging.list(staging.state_prefix))
    named = {state.chunk for state in states if state is not None and state.kind == "done"}
    done = staging.done(named)  # those that can be read
    missing = [chunk for chunk in range(plan.chunks) if chunk not in done]
    prefix = f"{staging.prefix}manifests/"
    there = {item.key for item in staging.list(prefix)}
    write_manifests(staging, plan, [c for c in missing if staging.manifest_key(c) not in there])
    return missing


def check_places(config: Config, staging: Staging, source: Source | None = None) -> None:
    """Refuse places at which one object of the job would destroy another one.

    :param source: the object that is read, if one is.
    :raises ConfigError: naming both.
    """
    target, rejects = config.target, config.rejects
    named = {"target": (target.bucket, target.key)}
    if source is not None:
        named["source"] = source.bucket, source.key
    if rejects is not None:
        named["rejects.key"] = (target.bucket, rejected_key(target, rejects))
    for name, (bucket, key) in named.items():
        if bucket == staging.bucket and key.startswith(staging.prefix):
            raise ConfigError(
                f"{name} s3://{bucket}/{key} lies in the staging directory {staging.uri}, which is removed in"
                " the end: choose another key, or another staging directory"
            )
    if rejects is not None and named["rejects.key"] in (named["target"], named.get("source")):
        raise ConfigError(
            f"rejects.key s3://{target.bucket}/{rejected_key(target, rejects)} is the key of the source or"
            " target: choose another one"
        )


def resume_plan(staging: Staging, fingerprint: dict[str, str]) -> Planned:
    """Go on with the dispatch that stands there, if it is the same one.

    :raises DispatchDiffers: it is another one; names the fields that differ.
    :raises DispatchNotFound: it is gone.
    """
    found = staging.get(staging.plan_key, Plan)
    if found is None:
        raise DispatchNotFound(f"the plan in {staging.uri} was removed meanwhile; plan again")
    plan, etag = found
    differing = differences(plan.fingerprint, fingerprint)
    if differing:
        raise DispatchDiffers(
            f"the dispatch in {staging.uri} is another one: it differs in {', '.join(differing)}; finish it"
            " as it was, or restart it (on_existing='restart')"
        ).naming("on_existing")
    seen = seen_at(staging.client, plan.config)
    if seen != plan.seen and plan.config.target.on_exists == "replace":
        # whoever plans again looks again at what is replaced
        log.warning("%s was changed after the plan; it is replaced as it stands now", plan.config.target.uri)
        plan = msgspec.structs.replace(plan, seen=seen)
        staging.put_if_match(staging.plan_key, plan, etag)
    go_on(staging)
    missing = repair(staging, plan)
    log.info(
        "resuming dispatch %s in %s: %d of %d chunks are left",
        plan.dispatch,
        staging.uri,
        len(missing),
        plan.chunks,
    )
    return Planned(plan=plan, resumed=True)


def _make(
    client: Any, ref: ObjectRef, config: Config, fingerprint: dict[str, str], reads_in_flight: int
) -> Planned:
    format_ = format_named(str(config.format))
    compression = str(config.compression)
    if format_.compresses_itself and compression != "none":
        raise UnsupportedSource(f"{ref.uri}: {format_.name} inside {compression} cannot be read in parts")
    seen = seen_at(client, config)
    if seen is not None and config.target.on_exists == "fail":
        raise ObjectExists(
            f"{config.target.uri} exists already, and on_exists is 'fail'; nothing was read"
        ).naming("on_exists")
    source, raw = open_source(client, ref, compression)
    layout = format_.inspect(source, config.options)
    if config.mapping is not None:
        if config.protector is not None:
            check_operations(config.protector, config.mapping)
            check_class(config.protector)
        _check_mapping(config.mapping, layout, format_, ref.uri)
    output = _output(config, layout, format_, compression)
    protected = tuple(config.mapping.columns) if config.mapping is not None else ()
    format_.check(layout, protected, ref.uri, native=output.native)
    warnings = list(layout.warnings)
    chunk_bytes = config.chunk_bytes
    tiles: tuple[Boundary, ...]
    if compression != "none":
        tiles = (Boundary(position=0), Boundary(position=ref.size))
        if compression == "gzip" and format_.name in FORMATS and _is_cut(config, ref):
            tiles = member_cuts(client, raw, ref, max(chunk_bytes, -(-ref.size // MAX_CHUNKS)))
        if ref.size > chunk_bytes and len(tiles) == 2:
            warnings.append(f"{ref.uri} is compressed by {compression} as a whole: it is one chunk, streamed")
    elif not _is_cut(config, ref):
        tiles = (Boundary(position=0), Boundary(position=layout.extent))
    else:
        positions, chunk_bytes = boundaries.wanted(format_, layout, config.chunk_bytes)
        if chunk_bytes != config.chunk_bytes:
            warnings.append(
                f"chunk_bytes grew from {config.chunk_bytes} to {chunk_bytes}: a dispatch has at most"
                " 9,999 chunks"
            )
        if config.mode == "exact":
            tiles = boundaries.prove(format_, source, layout, positions)
        else:
            tiles = boundaries.assume(format_, source, layout, positions, reads_in_flight=reads_in_flight)
    plan = Plan(
        dispatch=uuid.uuid4().hex,
        source=ref,
        compression=compression,
        format=format_.name,
        layout=layout,
        output=output,
        config=config,
        fingerprint=fingerprint,
        boundaries=tiles,
        chunk_bytes=chunk_bytes,
        groups=max(1, min(config.groups, len(tiles) - 1)),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        exact=config.mode == "exact",
        seen=seen,
        warnings=tuple(warnings),
    )
    largest = max(weights(plan))
    if compression == "none" and _is_cut(config, ref) and largest > 2 * chunk_bytes:
        warnings.append(
            f"the largest chunk has {largest} bytes, and chunk_bytes is {chunk_bytes}: a record or row group"
            " is larger and cannot be cut (Parquet: only with an offset index)"
        )
        plan = msgspec.structs.replace(plan, warnings=tuple(warnings))
    for warning in warnings:
        log.warning("%s", warning)
    return Planned(plan=plan, requests=raw.requests, bytes_read=raw.bytes_read)


def _is_cut(config: Config, ref: ObjectRef) -> bool:
    return config.threshold_bytes is None or ref.size >= config.threshold_bytes


def _check_mapping(mapping: Mapping, layout: Layout, format_: Format, name: str) -> None:
    if layout.columns is None:
        if mapping.columns and layout.extent not in (0, UNKNOWN_END):
            raise ConfigError(f"{name} has no named columns, and the mapping protects some")
        return
    columns = [column.name for column in layout.columns]
    if format_.name in ("json", "jsonl"):
        # what was seen is a sample: a record further on may have the columns that it lacks
        known = {*columns}
        columns += [name for name in (*mapping.columns, *mapping.ignored_columns) if name not in known]
    check_columns(mapping, columns, name)


def _output(config: Config, layout: Layout, source: Format, compression: str) -> Output:
    asked = config.output_compression
    kept = config.output_format in (PRESERVE, source.name)
    format_ = source if kept else format_named(config.output_format)
    # another codec inside a file, or another dialect, is another file: it is decoded and written anew
    native = (
        kept
        and source.keeps(layout, config.output_options)
        and not (source.compresses_itself and (asked != "preserve" or "compression" in config.output_options))
    )
    options = dict(config.output_options)
    if format_.compresses_itself:
        if asked != "preserve":
            options.setdefault("compression", asked)
        outer = "none"
    else:
        outer = compression if asked == "preserve" else asked
    return Output(
        format=format_.name,
        native=native,
        target=format_.target(layout, options, native=native),
        compression=outer,
    )


def seen_at(client: Any, config: Config) -> str | None:
    """ETag of what stands at the target's key."""
    target = config.target
    for item in objects.list_objects(client, target.bucket, target.key):
        return item.etag if item.key == target.key else None
    return None
