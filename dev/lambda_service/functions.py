"""What is deployed: functions, their settings, and the names and ARNs that callers use for them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

ACCOUNT = "123456789012"
REGION = "us-east-1"
LATEST = "$LATEST"
MAX_TIMEOUT = 900  # Lambda quotas: function timeout
MAX_EVENT_AGE = 21_600  # PutFunctionEventInvokeConfig: MaximumEventAgeInSeconds
MAX_RETRY_ATTEMPTS = 2  # PutFunctionEventInvokeConfig: MaximumRetryAttempts

#: FunctionName of Invoke: a name, a partial or a full ARN, each with or without a qualifier.
NAME = re.compile(
    r"(?:(?:arn:aws[a-z-]*:lambda:[a-z0-9-]+:)?\d{12}:)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_]+)(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?"
)
VERSION = re.compile(r"[1-9]\d*")


class ConfigError(ValueError):
    """A setting of a function is wrong; the text names the function and the setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """One deployed function. The defaults are Lambda's.

    :param name: its name, e.g. ``"processor"``.
    :param handler: ``"module.function"``, importable from ``cwd`` or ``python_path``.
    :param timeout_seconds: an invocation that takes longer is killed; fractions are for tests.
    :param memory_mb: an environment that takes more (in MiB) is killed.
    :param environment: its environment variables.
    :param reserved_concurrency: so many invocations at a time; ``None``: as the account allows; 0: none.
    :param max_retry_attempts: 0 to 2, how often a failed ``Event`` is tried again.
    :param maximum_event_age: seconds after which an ``Event`` that waits is dropped.
    :param on_failure: where records of dropped events go: URL of an SQS queue, or ``"s3://bucket"``.
    :param durable: it answers as durable functions do, and is invoked with a qualifier.
    :param execution_timeout_seconds: of a durable execution as a whole.
    :param python_path: folders that its modules are imported from, beside ``cwd``.
    :param cwd: its task root; default: the current folder.
    :param version: the published version, beside ``$LATEST``.
    :param aliases: names for versions; default: ``live`` is the published one.
    :param duplicate_every: every so many-th ``Event`` is delivered twice, with the same request id; 0: none.
    """

    name: str
    handler: str
    timeout_seconds: float = 3.0
    memory_mb: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None
    max_retry_attempts: int = MAX_RETRY_ATTEMPTS
    maximum_event_age: float = MAX_EVENT_AGE
    on_failure: str | None = None
    durable: bool = False
    execution_timeout_seconds: float = 3600.0
    python_path: tuple[str, ...] = ()
    cwd: str | None = None
    version: str = "1"
    aliases: Mapping[str, str] | None = None
    duplicate_every: int = 0

    def __post_init__(self) -> None:
        self._require(re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", self.name), "name", "letters, digits, - and _")
        self._require("." in self.handler, "handler", "module.function")
        self._require(0 < self.timeout_seconds <= MAX_TIMEOUT, "timeout_seconds", "above 0, at most 900")
        self._require(16 <= self.memory_mb <= 10_240, "memory_mb", "16 to 10240")
        self._require(0 <= self.max_retry_attempts <= MAX_RETRY_ATTEMPTS, "max_retry_attempts", "0, 1 or 2")
        self._require(
            0 < self.maximum_event_age <= MAX_EVENT_AGE, "maximum_event_age", "above 0, at most 21600"
        )
        self._require(self.cwd is None or Path(self.cwd).is_dir(), "cwd", "a folder that is there")
        self._require(VERSION.fullmatch(self.version), "version", "a positive number")
        self._require(
            self.on_failure is None or self.on_failure.startswith(("http://", "https://", "s3://")),
            "on_failure",
            "the URL of an SQS queue, or s3://bucket",
        )
        self._require(
            set(self.versions.values()) <= {LATEST, self.version},
            "aliases",
            f"names for version {self.version}",
        )

    def _require(self, condition: object, setting: str, allowed: str) -> None:
        if not condition:
            raise ConfigError(f"Function {self.name!r}: {setting} must be {allowed}.")

    @property
    def versions(self) -> dict[str, str]:
        """The version behind each qualifier."""
        aliases = {"live": self.version} if self.aliases is None else dict(self.aliases)
        return {LATEST: LATEST, self.version: self.version, **aliases}

    @property
    def log_group(self) -> str:
        return f"/aws/lambda/{self.name}"

    def arn(self, qualifier: str | None = None) -> str:
        """Its ARN, unqualified or for a version or alias."""
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}"
        return arn if qualifier is None else f"{arn}:{qualifier}"


def parse_name(text: str) -> tuple[str, str | None] | None:
    """Name and qualifier of a ``FunctionName``, ``None`` if it is not one."""
    match = NAME.fullmatch(text)
    return None if match is None else (match["name"], match["qualifier"])


def load_functions(path: Path) -> list[Function]:
    """The functions of a JSON file: ``{"functions": [{"name": ..., "handler": ...}, ...]}``.

    Relative folders are those beside the file.

    :raises ConfigError: it is not such a file, or a setting is unknown or wrong.
    """
    try:
        document = json.loads(path.read_text())
        entries = list(document["functions"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'{path} is no JSON object with a list "functions": {error}') from error
    return [_function(entry, path) for entry in entries]


def _function(entry: Any, path: Path) -> Function:
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: a function must be a JSON object.")
    name = entry.get("name", "?")
    unknown = entry.keys() - {known.name for known in fields(Function)}
    if unknown:
        raise ConfigError(f"{path}: function {name!r} has unknown settings: {', '.join(sorted(unknown))}.")
    here = path.resolve().parent
    folders = {
        "cwd": str(here / entry.get("cwd", ".")),
        "python_path": tuple(str(here / folder) for folder in entry.get("python_path", ())),
    }
    try:
        return Function(**{**entry, **folders})
    except TypeError as error:
        raise ConfigError(f"{path}: function {name!r}: {error}") from error
