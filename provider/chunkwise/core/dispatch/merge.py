"""Merge: prove, assemble on the server side, publish once, clean up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from chunkwise.core.dispatch import proof
from chunkwise.core.dispatch.assemble import checksum_of, segments_of, whole
from chunkwise.core.dispatch.model import Done, MergeReceipt, OpenUpload, Plan
from chunkwise.core.dispatch.pages import proof as pages_proof
from chunkwise.core.dispatch.pages.job import Connect
from chunkwise.core.dispatch.pages.model import ApiSource
from chunkwise.core.dispatch.plan import abort_merge, clear, write_manifests
from chunkwise.core.dispatch.process import Doubtful, process_chunk
from chunkwise.core.dispatch.rejected import check_limits, rejected_key
from chunkwise.core.dispatch.replan import replan
from chunkwise.core.dispatch.spec import Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import (
    ObjectChanged,
    ObjectExists,
    ProofFailed,
    SourceChanged,
)
from chunkwise.core.formats.registry import format_named
from chunkwise.core.storage import OnExists, objects
from chunkwise.core.storage.checksum import decode_crc32
from chunkwise.core.storage.concat import concat
from chunkwise.core.storage.lease import Lease
from chunkwise.core.storage.source import pin

log = logging.getLogger(__name__)

#: metadata of the output, by which a merge recognises that it has been published
DISPATCH: Final = "chunkwise-dispatch"
ROWS: Final = "chunkwise-rows"
SOURCE_ETAG: Final = "chunkwise-source-etag"

#: rounds of "process again what does not hold"
_ROUNDS: Final = 4
_LEASE_TTL: Final = 60.0


@dataclass(slots=True)
class _Merge:
    """One merge under way."""

    client: Any
    staging: Staging
    plan: Plan
    etag: str
    run_missing: Callable[[Sequence[int]], None]
    copies_in_flight: int
    replanned: int = 0
    done: dict[int, Done] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def prove(self) -> None:
        """Load the done records until they prove the whole source; process again what does not hold."""
        for _ in range(_ROUNDS):
            found = self.staging.done(range(self.plan.chunks))
            self.done = proof.valid(self.plan, {chunk: done for chunk, (done, _) in found.items()})
            stale = [chunk for chunk in found if chunk not in self.done]
            stale += self._without_part()
            source = self.plan.source
            if isinstance(source, ApiSource):
                stale += [
                    chunk for chunk in pages_proof.astray(self.plan, source, self.done) if chunk not in stale
                ]
            if stale:
                log.warning("chunks %s have done records that do not hold: processing them again", stale)
                for chunk in stale:
                    self.done.pop(chunk, None)
                    objects.delete(
                        self.client,
                        self.staging.bucket,
                        self.staging.done_key(chunk),
                        if_match=found[chunk][1],
                    )
                write_manifests(self.staging, self.plan, stale)
                self.run_missing(stale)
                continue
            failures = self.staging.failures(self.staging.list(self.staging.state_prefix))
            if isinstance(source, ApiSource):
                proof.check_failures(self.plan, self.done, failures)
                proof.check_complete(self.plan, self.done)
                proof.check_sums(self.plan, self.done)
                self.warnings = pages_proof.check(self.plan, source, self.done)
                return
            follows = proof.chain(self.plan, self.done)
            if follows.broken is not None:
                self.plan, self.etag, changed = replan(
                    self.client,
                    self.staging,
                    self.plan,
                    self.etag,
                    {chunk: found[chunk] for chunk in self.done},
                    follows.broken,
                )
                self.replanned += len(changed)
                self.run_missing(changed)
                continue
            proof.check_failures(self.plan, self.done, failures)
            proof.check_complete(self.plan, self.done)
            proof.check_sums(self.plan, self.done)
            return
        raise ProofFailed(f"the chunks in {self.staging.uri} do not hold after {_ROUNDS} rounds")

    def _without_part(self) -> list[int]:
        """Chunks whose part is gone or is another one."""
        parts = {item.key: item.etag for item in self.staging.list(f"{self.staging.prefix}parts/")}
        return [
            chunk
            for chunk, done in self.done.items()
            if done.part is not None and parts.get(done.part.key) != done.part.etag
        ]

    def _remember(self, upload_id: str) -> None:
        """Keep the id of the upload, so that a merge after a kill finds it."""
        target = self.plan.config.target
        upload = OpenUpload(bucket=target.bucket, key=target.key, upload_id=upload_id)
        self.staging.delete(self.staging.upload_key)
        self.staging.put_new(self.staging.upload_key, upload)

    def _check_target(self) -> None:
        """Save the work, and the rejected rows of an earlier job, where the commit could not succeed anyway.

        :raises ObjectExists: the target is not what the plan saw there.
        """
        target = self.plan.config.target
        if target.on_exists == "skip":
            return
        found = _metadata(self.client, target)
        etag = None if found is None else found[0].etag
        if etag != self.plan.seen and etag is not None:
            raise ObjectExists(
                f"{target.uri} was written by somebody else after the plan was made; nothing was published."
                " Plan again (with on_existing='resume') to replace it as it stands now: what is done is kept"
            ).naming("on_existing")

    def check_source(self) -> tuple[str | None, bool]:
        """CRC-32 of what was read, and whether S3's own of the source was compared with it."""
        crc = proof.source_crc32(self.plan, self.done)
        if crc is None:
            return None, False
        stored = self.plan.object.crc32
        if stored is not None and decode_crc32(stored) != crc:
            raise ProofFailed(
                f"the bytes that were read of {self.plan.source.uri} have CRC-32 {crc:08x}, and S3 says"
                f" {decode_crc32(stored):08x}"
            )
        return f"{crc:08x}", stored is not None

    def publish(self) -> MergeReceipt:
        """Assemble the object, under the condition of what the plan saw at its key."""
        plan, target = self.plan, self.plan.config.target
        rows_in = sum(done.rows_in for done in self.done.values())
        rows_out = sum(done.rows_out for done in self.done.values())
        rejected = sum(done.rejected for done in self.done.values())
        check_limits(plan.config.rejects, rejected, rows_in)
        crc, verified = self.check_source()
        self._check_target()
        segments = segments_of(self.client, plan, self.done)
        condition: OnExists = target.on_exists
        if target.on_exists == "replace" and plan.seen is None:
            condition = "fail"
        format_ = format_named(plan.output.format)
        content_type = {"gzip": "application/gzip", "zstd": "application/zstd"}.get(
            plan.output.compression, format_.content_type
        )
        quarantine = None
        refs = [done.quarantine for _, done in sorted(self.done.items()) if done.quarantine is not None]
        if refs and plan.config.rejects is not None:
            quarantine = concat(
                self.client,
                whole(refs),
                bucket=target.bucket,
                key=rejected_key(target, plan.config.rejects),
                content_type="application/gzip",
                extra_args=target.extra_args,
            ).uri
        written = concat(
            self.client,
            segments,
            bucket=target.bucket,
            key=target.key,
            on_exists=condition,
            if_match=plan.seen if target.on_exists == "replace" else None,
            content_type=content_type,
            metadata={
                **target.metadata,
                DISPATCH: plan.dispatch,
                ROWS: str(rows_out),
                SOURCE_ETAG: plan.source.etag.strip('"'),
            },
            extra_args=target.extra_args,
            copies_in_flight=self.copies_in_flight,
            crc32=checksum_of(segments),
            on_upload_id=self._remember,
            # below the staging directory they are removed with it, whatever happens to this process
            scratch=f"{self.staging.prefix}concat/" if self.staging.bucket == target.bucket else None,
        )
        return MergeReceipt(
            uri=None if written.skipped else written.uri,
            dispatch=plan.dispatch,
            source=_read(plan, self.done),
            chunks=plan.chunks,
            rows_in=rows_in,
            rows_out=rows_out,
            rejected=rejected,
            bytes=written.size or 0,
            etag=written.etag,
            version_id=written.version_id,
            crc32=written.crc32,
            source_crc32=crc,
            source_verified=verified,
            copied_bytes=written.copied_bytes,
            uploaded_bytes=written.uploaded_bytes,
            requests=written.requests,
            replanned=self.replanned,
            quarantine_uri=quarantine,
            skipped=written.skipped,
            processor_seconds=round(sum(done.seconds for done in self.done.values()), 3),
            peak_rss=max((done.peak_rss for done in self.done.values()), default=0),
            warnings=(*plan.warnings, *self.warnings),
        )


def merge_parts(
    client: Any,
    staging: Staging,
    *,
    owner: str,
    run: str,
    run_missing: Callable[[Sequence[int]], None] | None = None,
    keep_staging: bool = False,
    delete_input: bool = False,
    copies_in_flight: int = 8,
    secrets: Mapping[str, str] | None = None,
    lambda_client: Any = None,
    expected: tuple[Source | str, Target] | None = None,
    connect: Connect | None = None,
) -> MergeReceipt:
    """Verify the parts of a dispatch and publish them as one object.

    Delivery: the object appears by one conditional request, or not at all; on any error the staging directory
    stays, and a later merge goes on. Of two merges at once one publishes, and the other one returns that it
    has been done. Chunks whose cut was assumed wrongly are cut exactly and processed again, as are those
    whose part is gone.

    :param client: boto3 S3 client.
    :param staging: of the dispatch.
    :param owner: who merges, for whoever finds the lease (host, task).
    :param run: which run of it.
    :param run_missing: processes chunks; default: here, one after the other.
    :param keep_staging: do not remove the staging directory in the end.
    :param delete_input: remove the source in the end, if it still is the one that was read.
    :param copies_in_flight: server-side copies at once.
    :param secrets: for the protector, where chunks are processed here.
    :param lambda_client: the same.
    :param expected: source, or id of the dispatch, and target: lets a merge whose staging directory is gone
        recognise that an earlier one has published.
    :param connect: see :func:`~chunkwise.core.dispatch.process.process_chunk`, as for ``secrets``.
    :raises ChunksMissing: chunks are not done.
    :raises ChunkFailed: a chunk failed.
    :raises ProofFailed: what the done records say does not add up.
    :raises ObjectExists: the target has an object that the plan did not see.
    """
    started = time.monotonic()
    found = staging.get(staging.plan_key, Plan)
    if found is None:
        return _published_before(client, staging, expected)
    plan, etag = found

    def inline(chunks: Sequence[int]) -> None:
        for chunk in chunks:
            try:
                process_chunk(
                    client, staging, chunk, secrets=secrets, lambda_client=lambda_client, connect=connect
                )
            except Doubtful as error:
                log.warning("%s", error)

    finished = published(client, plan)
    if finished is None:
        lease = Lease(client, staging.bucket, staging.lock_key, owner=owner, run=run, ttl=_LEASE_TTL)
        try:
            held = lease.wait(look=lambda: published(client, plan) is None)
            finished = published(client, plan)
            if finished is None:
                plan, etag = staging.get(staging.plan_key, Plan) or (plan, etag)
                merge = _Merge(client, staging, plan, etag, run_missing or inline, copies_in_flight)
                abort_merge(staging)
                merge.prove()
                if held:
                    lease.check()
                try:
                    finished = merge.publish()
                except ObjectExists:
                    finished = published(client, merge.plan)
                    if finished is None:
                        raise
        finally:
            lease.release()
    if delete_input and not finished.skipped:
        _delete_input(client, plan)
    if not keep_staging:
        clear(staging)
    return msgspec.structs.replace(finished, seconds=round(time.monotonic() - started, 3))


def published(client: Any, plan: Plan) -> MergeReceipt | None:
    """The receipt of an earlier merge of the same dispatch, as far as its object tells."""
    target = plan.config.target
    found = _metadata(client, target)
    if found is None or found[1].get(DISPATCH) != plan.dispatch:
        return None
    ref, metadata = found
    log.info("%s is the object of dispatch %s already", target.uri, plan.dispatch)
    return MergeReceipt(
        uri=target.uri,
        dispatch=plan.dispatch,
        source=_source(plan),
        chunks=plan.chunks,
        rows_out=int(metadata.get(ROWS, 0)),
        bytes=ref.size,
        etag=ref.etag,
        version_id=ref.version_id,
        crc32=ref.crc32,
        already=True,
        warnings=plan.warnings,
    )


def _published_before(
    client: Any, staging: Staging, expected: tuple[Source | str, Target] | None
) -> MergeReceipt:
    """The staging directory is gone: the object tells whether it was published from this source."""
    if expected is not None:
        source, target = expected
        found = _metadata(client, target)
        if isinstance(source, str):
            if found is not None and found[1].get(DISPATCH) == source:
                return _already(found, target, source={})
            raise staging.no_plan()
        try:
            etag = pin(client, source.bucket, source.key, version_id=source.version_id).etag.strip('"')
        except SourceChanged:
            etag = None  # removed after the merge, as asked
        if found is not None and DISPATCH in found[1] and etag in (None, found[1].get(SOURCE_ETAG)):
            seen = {"uri": f"s3://{source.bucket}/{source.key}", "etag": found[1].get(SOURCE_ETAG)}
            return _already(found, target, source=seen)
    raise staging.no_plan()


def _already(found: tuple[Any, dict[str, str]], target: Target, *, source: dict[str, Any]) -> MergeReceipt:
    ref, metadata = found
    return MergeReceipt(
        uri=target.uri,
        dispatch=metadata[DISPATCH],
        source=source,
        chunks=0,
        rows_out=int(metadata.get(ROWS, 0)),
        bytes=ref.size,
        etag=ref.etag,
        version_id=ref.version_id,
        crc32=ref.crc32,
        already=True,
    )


def _metadata(client: Any, target: Target) -> tuple[Any, dict[str, str]] | None:
    try:
        ref = pin(client, target.bucket, target.key)
        head = client.head_object(Bucket=target.bucket, Key=target.key, IfMatch=ref.etag)
    except SourceChanged:
        return None
    return ref, head.get("Metadata", {})


def _read(plan: Plan, done: Mapping[int, Done]) -> dict[str, Any]:
    """The source, and what was seen of it."""
    if not isinstance(plan.source, ApiSource):
        return _source(plan)
    pages = [record.pages for record in done.values() if record.pages is not None]
    return {
        **_source(plan),
        "pages": sum(each.pages for each in pages),
        "declared_total": pages_proof.total_of(done),
        "stop_reason": next((each.stop for each in pages if each.stop is not None), None),
        "retries": sum(each.retries for each in pages),
        "retry_wait_seconds": round(sum(each.retry_wait for each in pages), 3),
    }


def _source(plan: Plan) -> dict[str, Any]:
    ref = plan.source
    if isinstance(ref, ApiSource):
        return {"uri": ref.uri, "etag": ref.etag}
    return {"uri": ref.uri, "etag": ref.etag, "version_id": ref.version_id, "size": ref.size}


def _delete_input(client: Any, plan: Plan) -> None:
    if isinstance(plan.source, ApiSource):
        return
    ref = plan.object
    if (ref.bucket, ref.key) == (plan.config.target.bucket, plan.config.target.key):
        return
    try:
        objects.delete(client, ref.bucket, ref.key, if_match=ref.etag)
    except ObjectChanged:
        log.warning("%s was overwritten after it had been read: it is not deleted", ref.uri)
