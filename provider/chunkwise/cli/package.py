"""``chunkwise package lambda``: the archive that a function of Lambda is made of."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from chunkwise.packaging import ARCHITECTURES, PROFILES, PYTHONS, Package, Target, build

WHAT: Final = "build the package of the Lambda handlers"
_ABOUT: Final = """\
Build the package of the Lambda handlers: core, the handlers and their pinned dependencies as wheels of the
target, without Airflow. The same content gives the same bytes, wherever and whenever it is built; with
SOURCE_DATE_EPOCH, its entries carry that time (1980 if it is earlier). What Lambda would refuse is refused.

uv installs the dependencies, or pip where there is no uv; their own configuration says from which index.
"""
_HANDLERS: Final = """\
handlers:
  chunkwise.aws_lambda.processor.handler     processes chunks
  chunkwise.aws_lambda.dispatcher.handler    plans a dispatch when a file arrives
  chunkwise.aws_lambda.ingest.handler        ingests a range of pages
  chunkwise.aws_lambda.webhook.handler       takes rows by HTTP
  chunkwise.aws_lambda.delta.handler         adds files that arrive to Delta tables (profile delta)
exit codes:
  0  it is built
  1  a dependency cannot be installed for the target, or Lambda would refuse the package
  2  the command line is wrong
"""


def add_to(commands: Any) -> None:
    """Let the command line understand it.

    :param commands: subparsers of the command.
    """
    package = commands.add_parser("package", help=WHAT, description=f"{WHAT[0].upper()}{WHAT[1:]}.")
    made = package.add_subparsers(dest="what", required=True, metavar="lambda").add_parser(
        "lambda",
        help=WHAT,
        description=_ABOUT,
        epilog=_HANDLERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--profile",
        choices=PROFILES,
        default="jsonl",
        help="jsonl (default): JSON and CSV; full: Parquet and Zstandard, too; delta: Delta Lake, too",
    )
    made.add_argument("--arch", choices=ARCHITECTURES, default="x86_64", help="default: x86_64")
    made.add_argument("--python", choices=PYTHONS, default="3.13", help="of the runtime; default: 3.13")
    made.add_argument(
        "--output", type=Path, metavar="FILE", help="default: dist/chunkwise-PROFILE-ARCH-pythonVERSION.zip"
    )
    made.add_argument(
        "--include",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a module or package of yours, e.g. with a protector, whose name is no other's; repeatable",
    )
    made.add_argument("--installer", choices=("auto", "uv", "pip"), default="auto", help="default: auto")
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")
    made.add_argument("-v", "--verbose", action="store_true", help="log what is done to standard error")


def built(given: argparse.Namespace) -> Package:
    """Build what the command line asks for."""
    target = Target(profile=given.profile, arch=given.arch, python=given.python)
    output = given.output or Path("dist") / target.file_name
    return build(target, output, include=given.include, installer=given.installer)
