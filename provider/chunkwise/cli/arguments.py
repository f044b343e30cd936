"""What the command line understands."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

from chunkwise import __version__
from chunkwise.cli import package
from chunkwise.core.dispatch.places import bucket_and_key
from chunkwise.core.dispatch.spec import Compression, Mode, OnExisting, OutputCompression, OutputFormat
from chunkwise.core.errors import ConfigError
from chunkwise.core.storage import OnExists
from chunkwise.core.units import GiB, KiB, MiB

_UNITS: Final = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": KiB,
    "MIB": MiB,
    "GIB": GiB,
}
_FORMATS: Final = ("csv", "jsonl", "json", "parquet")

_EXIT_CODES: Final = """\
exit codes:
  0    done; `status`: every chunk has reported; `verify`: source and output agree
  1    it failed and would fail again; `verify`: they differ; `status`: chunks failed or are lost
  2    the command line is wrong
  3    it failed in a way that may pass: run the same command again, it goes on where it was
  4    `status`: there are chunks left
  130  ended by Ctrl-C or SIGTERM; what is done is kept
"""
_DISPATCH: Final = "s3://bucket/key of the source, or of its staging directory (it ends with .dispatch/)"


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    root = argparse.ArgumentParser(
        prog="chunkwise",
        description="Large files on S3, chunk by chunk: plan, process, merge. No data touches a disk.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"chunkwise {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for add in _SUBCOMMANDS:
        add(commands)
    return root


def _plan(commands: Any) -> None:
    plan = _command(commands, "plan", "cut a file into chunks, or say what that would cost")
    _source_and_target(plan)
    _config(plan)
    plan.add_argument("--on-existing", choices=get_args(OnExisting), default="resume", help="default: resume")
    plan.add_argument(
        "--dry-run", action="store_true", help="write nothing: boundaries, requests and cost only"
    )
    plan.add_argument("--reads-in-flight", type=_positive, default=8, metavar="N")


def _process(commands: Any) -> None:
    process = _command(commands, "process", "process the chunks that are left, or some of them")
    _dispatch(process)
    which = process.add_mutually_exclusive_group()
    which.add_argument(
        "--group", type=_natural, action="append", metavar="N", help="only this group; repeatable"
    )
    which.add_argument(
        "--chunk", type=_natural, action="append", metavar="N", help="only this chunk; repeatable"
    )
    _work(process)


def _merge(commands: Any) -> None:
    merge = _command(commands, "merge", "prove the parts, put them together and publish the object")
    _dispatch(merge)
    _finish(merge)
    _secrets(merge)


def _status(commands: Any) -> None:
    status = _command(commands, "status", "chunks by state, with a bar for each")
    _dispatch(status)
    status.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=2.0,
        metavar="SECONDS",
        help="look again every so often (default: 2) until every chunk has reported",
    )
    status.add_argument(
        "--tolerated-count", type=_natural, default=0, metavar="N", help="chunks that may fail"
    )
    status.add_argument(
        "--tolerated-share", type=float, default=0.0, metavar="SHARE", help="the same, 0 to 1"
    )
    status.add_argument("--no-rows", action="store_true", help="do not read done records: LIST only")


def _limit(commands: Any) -> None:
    limit = _command(commands, "limit", "change how many chunks functions may have in flight, while they run")
    _dispatch(limit)
    limit.add_argument(
        "--chunks-in-flight",
        type=_positive,
        required=True,
        metavar="N",
        help="of the whole dispatch, from the next poll on; what runs is left alone",
    )


def _resume(commands: Any) -> None:
    resume = _command(commands, "resume", "process exactly what is missing, and merge")
    _dispatch(resume)
    _work(resume)
    _finish(resume)


def _verify(commands: Any) -> None:
    verify = _command(commands, "verify", "read source and output again and compare them, without the plan")
    _source_and_target(verify)
    _config(verify)
    verify.add_argument("--rejected", type=_natural, default=0, metavar="N", help="rows that were put aside")


#: what adds each of them, in the order of the help
_SUBCOMMANDS: Final[tuple[Callable[[Any], None], ...]] = (
    _plan,
    _process,
    _merge,
    _status,
    _limit,
    _resume,
    _verify,
    package.add_to,
)


def _command(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = made.add_argument_group("S3 and output")
    common.add_argument("--endpoint-url", metavar="URL", help="of an S3-compatible server")
    common.add_argument("--profile", metavar="NAME", help="of the AWS configuration")
    common.add_argument("--region", metavar="NAME")
    common.add_argument("--json", action="store_true", help="one JSON object on standard output")
    common.add_argument("-v", "--verbose", action="store_true", help="log what is done to standard error")
    common.add_argument(
        "--staging-extra-args",
        type=_object,
        default={},
        metavar="JSON",
        help='arguments of the S3 calls on the staging directory, e.g. {"ServerSideEncryption": "aws:kms"}',
    )
    return made


def _source_and_target(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=_uri, help="s3://bucket/key")
    command.add_argument("target", type=_uri, help="s3://bucket/key")
    command.add_argument("--version-id", metavar="ID", help="of the source")
    command.add_argument(
        "--staging", metavar="URI", help="where staging directories stand; default: beside the source"
    )


def _dispatch(command: argparse.ArgumentParser) -> None:
    command.add_argument("dispatch", type=_uri, help=_DISPATCH)
    command.add_argument("--staging", metavar="URI", help="as in the plan")


def _config(command: argparse.ArgumentParser) -> None:
    """What is not said here, environment variables say (see ``PlanDispatchOperator``), then the defaults."""
    group = command.add_argument_group("what is done")
    group.add_argument("--format", choices=_FORMATS, help="default: by the mapping, or the suffix")
    group.add_argument("--options", type=_object, metavar="JSON", help='of the format, e.g. {"sep": ";"}')
    group.add_argument("--compression", choices=get_args(Compression), help="default: by the suffix")
    group.add_argument("--output-format", choices=get_args(OutputFormat))
    group.add_argument("--output-options", type=_object, metavar="JSON")
    group.add_argument("--output-compression", choices=get_args(OutputCompression))
    group.add_argument("--mode", choices=get_args(Mode), help="default: assume, and let the merge prove it")
    group.add_argument(
        "--threshold-bytes", type=_size, metavar="SIZE", help="a smaller file is one chunk; default 250MiB"
    )
    group.add_argument("--chunk-bytes", type=_size, metavar="SIZE", help="default 150MiB")
    group.add_argument("--groups", type=_positive, metavar="N", help="default 64")
    group.add_argument("--batch-rows", type=_positive, metavar="N", help="default 100000")
    group.add_argument("--batch-bytes", type=_size, metavar="SIZE", help="default 8MiB")
    group.add_argument(
        "--mapping",
        default="auto",
        metavar="auto|none|FILE",
        help="columns to protect; default: the mapping.json on S3 that is nearest to the source",
    )
    group.add_argument(
        "--protector",
        type=_object,
        metavar="JSON",
        help='e.g. {"name": "hmac", "secret": "key"}; holds no secret',
    )
    group.add_argument("--rejects", type=_object, metavar="JSON", help='e.g. {"max_records": 10}')
    group.add_argument("--deadline-seconds", type=_seconds, metavar="N", help="default 3600")
    group.add_argument("--on-exists", choices=get_args(OnExists), default="replace", help="default: replace")
    group.add_argument("--metadata", type=_object, default={}, metavar="JSON", help="of the target")
    group.add_argument(
        "--extra-args", type=_object, default={}, metavar="JSON", help="of the S3 calls on the target"
    )


def _work(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--in-flight", type=_positive, default=1, metavar="N", help="chunks at once; default 1"
    )
    _secrets(command)


def _finish(command: argparse.ArgumentParser) -> None:
    command.add_argument("--keep-staging", action="store_true", help="leave the staging directory")
    command.add_argument("--delete-input", action="store_true", help="remove the source in the end")
    command.add_argument(
        "--target", type=_uri, metavar="URI", help="lets a finished and cleaned up job be recognised"
    )


def _secrets(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("secrets of a protector, never by their value")
    group.add_argument(
        "--secret-env", type=_pair, action="append", default=[], metavar="NAME=VARIABLE", help="in a variable"
    )
    group.add_argument(
        "--secret-file", type=_pair, action="append", default=[], metavar="NAME=FILE", help="in a file"
    )


# --- values -------------------------------------------------------------------------------------------------


def _uri(text: str) -> str:
    """``s3://bucket/key``."""
    try:
        bucket_and_key(None, text, bucket_name="", key_name="")
    except ConfigError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form s3://bucket/key") from None
    return text


def _object(text: str) -> dict[str, Any]:
    """A JSON object, or ``@file`` with one."""
    try:
        found = json.loads(Path(text[1:]).read_text("utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"is no JSON: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("is no JSON object")
    return found


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError("must be NAME=WHERE")
    return name, value


def _size(text: str) -> int:
    """Bytes: ``1048576``, ``150MiB``, ``1.5GB``."""
    number = text.rstrip("BKMGIbkmgi ")
    unit = text[len(number) :].strip().upper()
    try:
        size = round(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1048576, 150MiB or 1.5GB") from None
    if size < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return size


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def _positive(text: str) -> int:
    number = _natural(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds
