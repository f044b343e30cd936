"""Run one command."""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from chunkwise.cli import package
from chunkwise.cli.arguments import parser
from chunkwise.cli.screen import Screen
from chunkwise.cli.wording import worded
from chunkwise.core.dispatch import settings
from chunkwise.core.dispatch.board import Board, snapshot
from chunkwise.core.dispatch.estimate import Estimate, estimate
from chunkwise.core.dispatch.limit import set_limit
from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.model import Done, MergeReceipt, Plan
from chunkwise.core.dispatch.places import source_of, staging_of, target_of
from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.process import check_protector, process_chunk, process_group
from chunkwise.core.dispatch.resume import resume
from chunkwise.core.dispatch.spec import Config, Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.dispatch.verify import verify
from chunkwise.core.errors import ChunkwiseError, ConfigError
from chunkwise.core.protect.mapping import Mapping
from chunkwise.core.units import MiB

DONE: Final = 0
FAILED: Final = 1
WRONG: Final = 2
AGAIN: Final = 3
LEFT: Final = 4
INTERRUPTED: Final = 130

log = logging.getLogger("chunkwise")


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``chunkwise`` command.

    :param arguments: default: of this process.
    :return: exit code, see ``chunkwise --help``.
    """
    given = parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if given.verbose else logging.WARNING,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    with _Stopping() as stopping:
        try:
            return _COMMANDS[given.command](_Call(given, stopping))
        except KeyboardInterrupt:
            _tell("chunkwise: ended; what is done is kept")
            return INTERRUPTED
        except ConfigError as error:
            _tell(f"chunkwise: {worded(error, given)}")
            return WRONG
        except ChunkwiseError as error:
            _tell(f"chunkwise: {type(error).__name__}: {worded(error, given)}")
            return AGAIN if error.transient else FAILED
        except BrokenPipeError:
            # who reads our output has seen enough; nothing more may be written at the interpreter's end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE


# --- the commands -------------------------------------------------------------------------------------------


def _plan(call: _Call) -> int:
    given = call.given
    source, target = call.source_and_target()
    staging = call.staging(given.source)
    planned = plan_dispatch(
        call.client,
        source,
        call.config(target, call.mapping(source), call.given.protector),
        staging,
        on_existing=given.on_existing,
        write=not given.dry_run,
        reads_in_flight=given.reads_in_flight,
    )
    plan, cost = planned.plan, estimate(planned.plan)
    found = {
        "staging_uri": staging.uri,
        "dispatch": plan.dispatch,
        "source": {"uri": plan.source.uri, "etag": plan.source.etag, "size": plan.object.size},
        "target": plan.config.target.uri,
        "format": plan.format,
        "output_format": plan.output.format,
        "chunks": plan.chunks,
        "groups": plan.groups,
        "chunk_bytes": plan.chunk_bytes,
        "exact": plan.exact,
        "resumed": planned.resumed,
        "dry_run": given.dry_run,
        "requests": planned.requests,
        "bytes_read": planned.bytes_read,
        "boundaries": [boundary.position for boundary in plan.boundaries],
        "warnings": list(plan.warnings),
        "estimate": cost.to_json(),
    }
    call.show(found, _plan_lines(plan, found, cost))
    return DONE


def _plan_lines(plan: Plan, found: dict[str, Any], cost: Estimate) -> list[str]:
    how = (
        "would be cut"
        if found["dry_run"]
        else "was planned before and goes on"
        if found["resumed"]
        else "is cut"
    )
    size = f"{plan.object.size / MiB:,.1f} MiB of {plan.format}"
    lines = [
        f"{plan.source.uri} ({size}) {how}: {plan.chunks} chunks in {plan.groups} groups",
        f"  largest chunk    {cost.largest_chunk / MiB:,.1f} MiB, {cost.seconds_per_chunk:,.1f} s on Lambda",
        f"  boundaries       {'exact' if plan.exact else 'assumed, the merge proves them'}",
        f"  read for it      {found['requests']} requests, {found['bytes_read']:,} bytes",
        f"  on Lambda        {cost.gb_seconds:,.0f} GB-seconds, ${cost.lambda_dollars:,.4f}",
        f"  on S3            {cost.read_requests:,} GET, {cost.write_requests:,} PUT, ${cost.s3_dollars:.4f}",
        f"  output           {found['target']}",
    ]
    if not found["dry_run"]:
        lines.append(f"  staging          {found['staging_uri']}")
    return [*lines, *(f"  warning: {warning}" for warning in cost.warnings)]


def _process(call: _Call) -> int:
    given = call.given
    staging = call.staging(given.dispatch)
    plan = staging.load()
    options: dict[str, Any] = {
        "secrets": call.secrets(),
        "lambda_client": call.lambda_client(plan),
        "stop": call.stopping.asked,
    }
    if given.chunk:
        _check_numbers("chunk", given.chunk, plan.chunks)
        check_protector(plan, options["secrets"], options["lambda_client"])
        done = [process_chunk(call.client, staging, chunk, **options) for chunk in given.chunk]
        found: dict[str, Any] = {
            "chunks": len(done),
            "rows_in": sum(one.rows_in for one in done),
            "rows_out": sum(one.rows_out for one in done),
            "rejected": sum(one.rejected for one in done),
        }
        call.show(
            found, [f"{found['chunks']} chunks: {found['rows_in']:,} rows in, {found['rows_out']:,} out"]
        )
        return DONE
    groups = given.group or range(plan.groups)
    _check_numbers("group", groups, plan.groups)
    receipts = [
        process_group(
            call.client, staging, group, on_chunk=call.progress(plan), in_flight=given.in_flight, **options
        ).to_json()
        for group in groups
    ]
    names = ("chunks", "done_before", "doubtful", "rows_in", "rows_out", "rejected", "bytes_in", "bytes_out")
    found = {name: sum(receipt[name] for receipt in receipts) for name in names}
    line = (
        f"{found['chunks']} chunks processed, {found['done_before']} were done before:"
        f" {found['rows_in']:,} rows in, {found['rows_out']:,} out, {found['rejected']:,} put aside"
    )
    call.show(found, [line])
    return DONE


def _merge(call: _Call) -> int:
    staging = call.staging(call.given.dispatch)
    receipt = merge_parts(
        call.client,
        staging,
        secrets=call.secrets(),
        lambda_client=call.lambda_client(staging.find()),
        **call.finish(),
    )
    call.show(receipt.to_json(), _receipt_lines(receipt))
    return DONE


def _limit(call: _Call) -> int:
    staging = call.staging(call.given.dispatch)
    number = call.given.chunks_in_flight
    set_limit(staging, number)
    call.show(
        {"staging_uri": staging.uri, "chunks_in_flight": number},
        [f"{staging.uri}: at most {number:,} chunks in flight"],
    )
    return DONE


def _resume(call: _Call) -> int:
    staging = call.staging(call.given.dispatch)
    plan = staging.find()
    receipt = resume(
        call.client,
        staging,
        secrets=call.secrets(),
        lambda_client=call.lambda_client(plan),
        on_chunk=None if plan is None else call.progress(plan),
        in_flight=call.given.in_flight,
        **call.finish(),
    )
    call.show(receipt.to_json(), _receipt_lines(receipt))
    return DONE


def _receipt_lines(receipt: MergeReceipt) -> list[str]:
    if receipt.skipped:
        return ["the target exists already and is left alone: nothing was published"]
    if receipt.already:
        return [f"{receipt.uri} had been published already"]
    lines = [
        f"{receipt.uri}: {receipt.bytes:,} bytes, {receipt.rows_out:,} rows",
        f"  from             {receipt.source['uri']}, {receipt.rows_in:,} rows in {receipt.chunks} chunks",
        f"  copied by S3     {receipt.copied_bytes:,} bytes; {receipt.uploaded_bytes:,} uploaded",
        f"  ETag             {receipt.etag}",
    ]
    if receipt.rejected:
        lines.append(f"  put aside        {receipt.rejected:,} rows, {receipt.quarantine_uri}")
    if receipt.replanned:
        lines.append(f"  cut again        {receipt.replanned} chunks")
    return [*lines, *(f"  warning: {warning}" for warning in receipt.warnings)]


def _status(call: _Call) -> int:
    given = call.given
    staging = call.staging(given.dispatch)
    plan = staging.load()
    board = Board(plan)
    screen = Screen(sys.stdout)
    title = f"{plan.source.uri} -> {plan.config.target.uri}"
    while True:
        snapshot(staging, board, rows=not given.no_rows)
        verdict = board.verdict(given.tolerated_count, given.tolerated_share)
        last = given.watch is None or verdict != "waiting"
        if not given.json:
            screen.draw(board, title, last=last)
        if last:
            break
        time.sleep(given.watch)
    if given.json:
        found = {"staging_uri": staging.uri, "dispatch": plan.dispatch, "verdict": verdict, **board.to_json()}
        call.show(found, [])
    return {"done": DONE, "failed": FAILED, "waiting": LEFT}[verdict]


def _verify(call: _Call) -> int:
    source, target = call.source_and_target()
    mapping = call.mapping(source)
    # who protects need not be said: without columns to protect, the config asks for nobody
    told = None if mapping is None else msgspec.structs.replace(mapping, columns={})
    found = verify(
        call.client,
        source,
        target,
        call.config(target, told),
        rejected=call.given.rejected,
        changed=() if mapping is None else tuple(mapping.columns),
    )
    verdict = "agree" if found.ok else "DIFFER"
    rows = f"{found.source_rows:,} rows in, {found.output_rows:,} out"
    lines = [f"source and output {verdict}: {rows}, {len(found.columns)} columns compared"]
    if found.differing:
        lines.append(f"  values differ in {', '.join(found.differing)}")
    if found.unchanged:
        lines.append(f"  the mapping changes {', '.join(found.unchanged)}, and the values are the same")
    if found.identical is False:
        lines.append("  the bytes differ, and nothing was to change them")
    call.show(found.to_json(), lines)
    return DONE if found.ok else FAILED


def _package(call: _Call) -> int:
    made = package.built(call.given)
    call.show(made.to_json(), made.lines())
    return DONE


_COMMANDS: Final[dict[str, Callable[[_Call], int]]] = {
    "plan": _plan,
    "process": _process,
    "merge": _merge,
    "status": _status,
    "limit": _limit,
    "resume": _resume,
    "verify": _verify,
    "package": _package,
}


# --- what they share ----------------------------------------------------------------------------------------


class _Call:
    """One call of the command: its arguments, and what is made of them."""

    def __init__(self, given: argparse.Namespace, stopping: _Stopping) -> None:
        self.given = given
        self.stopping = stopping
        self._clients: dict[str, Any] = {}

    @property
    def client(self) -> Any:
        """The S3 client."""
        return self._client("s3")

    def lambda_client(self, plan: Plan | None) -> Any:
        """The Lambda client, for a protector that needs one."""
        protector = None if plan is None else plan.config.protector
        return self._client("lambda") if protector is not None and protector.name == "lambda" else None

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            import boto3
            from botocore.config import Config as ClientConfig
            from botocore.exceptions import BotoCoreError

            endpoint = self.given.endpoint_url if service == "s3" else None
            options: dict[str, Any] = (
                {"retries": {"mode": "standard", "total_max_attempts": 4}}
                if service == "s3"
                # the caller retries: botocore would run the function again behind our back
                else {"read_timeout": 910, "tcp_keepalive": True, "retries": {"total_max_attempts": 1}}
            )
            options["max_pool_connections"] = 50  # above all that is in flight at once
            if endpoint:
                options["s3"] = {"addressing_style": "path"}
            try:
                session = boto3.Session(profile_name=self.given.profile, region_name=self.given.region)
                self._clients[service] = session.client(
                    service, endpoint_url=endpoint, config=ClientConfig(**options)
                )
            except (BotoCoreError, ValueError) as error:
                raise ConfigError(f"no client for {service}: {error}") from None
        return self._clients[service]

    def staging(self, uri: str) -> Staging:
        """The staging directory, by the URI of the source or its own."""
        extra = self.given.staging_extra_args
        if uri.endswith(".dispatch/"):
            return staging_of(self.client, staging_uri=uri, extra_args=extra)
        return staging_of(self.client, s3_key=uri, staging_uri=self.given.staging, extra_args=extra)

    def source_and_target(self) -> tuple[Source, Target]:
        """What is read and what is written."""
        given = self.given
        target = target_of(
            None,
            given.target,
            on_exists=given.on_exists,
            metadata=given.metadata,
            extra_args=given.extra_args,
        )
        return source_of(None, given.source, given.version_id), target

    def mapping(self, source: Source) -> Mapping | None:
        """What ``--mapping`` means."""
        said = self.given.mapping
        if said in ("auto", "none"):
            return settings.mapping_of(self.client, source, said if said == "auto" else None)
        try:
            return settings.mapping_of(self.client, source, Path(said).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--mapping {said}: {type(error).__name__}") from None

    def config(self, target: Target, mapping: Mapping | None, protector: Any = None) -> Config:
        """The config, from the arguments and the environment."""
        given = self.given
        said = {name: getattr(given, name) for name in settings.PARAMETERS if name != "protector"}
        return settings.config_of(target, {**said, "mapping": mapping, "protector": protector})

    def secrets(self) -> dict[str, str]:
        """The protector's secrets, by name."""
        secrets = {}
        for name, variable in self.given.secret_env:
            if not os.environ.get(variable):
                raise ConfigError(f"--secret-env {name}: there is no variable {variable}, or it is empty")
            secrets[name] = os.environ[variable]
        for name, path in self.given.secret_file:
            try:
                secrets[name] = Path(path).read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"--secret-file {name}: {path}: {type(error).__name__}") from None
            if not secrets[name]:
                raise ConfigError(f"--secret-file {name}: {path} is empty")
        return secrets

    def finish(self) -> dict[str, Any]:
        """Arguments of a merge."""
        given = self.given
        expected = None
        if given.target and not given.dispatch.endswith(".dispatch/"):
            expected = (source_of(None, given.dispatch), target_of(None, given.target))
        return {
            "owner": f"{getpass.getuser()} on {socket.gethostname()}",
            "run": uuid.uuid4().hex,
            "keep_staging": given.keep_staging,
            "delete_input": given.delete_input,
            "expected": expected,
        }

    def progress(self, plan: Plan) -> Callable[[Done], None]:
        """Log each chunk that is done."""

        def on_chunk(done: Done) -> None:
            log.info(
                "chunk %d of %d done: %d rows, %.1f MB in %.1f s",
                done.chunk,
                plan.chunks,
                done.rows_in,
                done.bytes_in / 1e6,
                done.seconds,
            )

        return on_chunk

    def show(self, found: dict[str, Any], lines: Sequence[str]) -> None:
        """The result, on standard output."""
        sys.stdout.write(
            f"{json.dumps(found)}\n" if self.given.json else "".join(f"{line}\n" for line in lines)
        )
        sys.stdout.flush()


class _Stopping:
    """SIGINT and SIGTERM end the work soon: threads are asked, the main thread is interrupted."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether to end."""
        return self._asked

    def __enter__(self) -> _Stopping:
        with contextlib.suppress(
            ValueError
        ):  # not the main thread: who calls us there has handlers of its own
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: Any) -> None:  # noqa: ARG002 - the signature is Python's
        self._asked = True
        raise KeyboardInterrupt


def _check_numbers(name: str, numbers: Sequence[int] | range, total: int) -> None:
    for number in numbers:
        if number >= total:
            raise ConfigError(f"{name} {number}: the plan has {name}s 0 to {total - 1}")


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
