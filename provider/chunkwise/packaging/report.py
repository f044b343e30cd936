"""How large a package is, and whether Lambda takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from chunkwise.core.units import MiB
from chunkwise.packaging.errors import PackageTooLarge
from chunkwise.packaging.slim import Entry
from chunkwise.packaging.target import Target

# Lambda quotas, AWS Lambda developer guide: 50 MB zipped for an upload through the API, more through S3;
# 250 MB unzipped with all layers. Lambda's own error counts 262,144,000 bytes.
UPLOAD_LIMIT: Final = 50 * MiB
UNZIPPED_LIMIT: Final = 250 * MiB
_NAMED: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """What one distribution takes.

    :param name: of the distribution; ``"chunkwise"``; or the path that was included.
    :param version: empty for what was included.
    :param unzipped: bytes.
    :param zipped: bytes; 0 before the archive is written.
    """

    name: str
    version: str
    unzipped: int
    zipped: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """A package that Lambda takes.

    :param path: of the archive.
    :param target: what it is for.
    :param zipped: bytes of the archive.
    :param unzipped: bytes of all files in it.
    :param code_sha256: as Lambda shows it (``CodeSha256`` of a function): equal means deployed already.
    :param parts: the largest first.
    :param installer: what installed the dependencies.
    """

    path: str
    target: Target
    zipped: int
    unzipped: int
    code_sha256: str
    parts: tuple[Part, ...]
    installer: str

    @property
    def needs_s3(self) -> bool:
        """Whether it is too large for a direct upload, and must go to the function through S3."""
        return self.zipped > UPLOAD_LIMIT

    def to_json(self) -> dict[str, Any]:
        """Everything, and the limits."""
        return {
            **asdict(self),
            "needs_s3": self.needs_s3,
            "upload_limit": UPLOAD_LIMIT,
            "unzipped_limit": UNZIPPED_LIMIT,
        }

    def lines(self) -> list[str]:
        """The same for a person."""
        through = "it must be uploaded through S3" if self.needs_s3 else "it can be uploaded directly"
        width = max(len(part.name) for part in self.parts)
        rows = [
            f"  {part.name:<{width}}  {part.version:<14} {_mib(part.zipped):>9} {_mib(part.unzipped):>9}"
            for part in self.parts
        ]
        return [
            f"{self.path}: {self.target}",
            f"  zipped       {_mib(self.zipped)} MiB of {_mib(UPLOAD_LIMIT)}: {through}",
            f"  unzipped     {_mib(self.unzipped)} MiB of {_mib(UNZIPPED_LIMIT)}",
            f"  CodeSha256   {self.code_sha256}",
            "",
            f"  {'part':<{width}}  {'version':<14} {'zipped':>9} {'MiB':>9}",
            *rows,
        ]


def parts_of(entries: Sequence[Entry], zipped: Mapping[str, int] | None = None) -> tuple[Part, ...]:
    """The parts of a package, the largest first.

    :param zipped: compressed size by part, where it is known.
    """
    sizes: dict[tuple[str, str], int] = {}
    for entry in entries:
        key = (entry.part, entry.version)
        sizes[key] = sizes.get(key, 0) + len(entry.data)
    parts = [
        Part(name=name, version=version, unzipped=size, zipped=(zipped or {}).get(name, 0))
        for (name, version), size in sizes.items()
    ]
    return tuple(sorted(parts, key=lambda part: (-part.unzipped, part.name)))


def check_size(target: Target, parts: Sequence[Part]) -> int:
    """Refuse what Lambda would refuse.

    :param parts: the largest first.
    :return: unzipped size in bytes.
    :raises PackageTooLarge: it names the largest parts.
    """
    total = sum(part.unzipped for part in parts)
    if total > UNZIPPED_LIMIT:
        largest = ", ".join(f"{part.name} {_mib(part.unzipped)} MiB" for part in parts[:_NAMED])
        raise PackageTooLarge(
            f"the {target} has {_mib(total)} MiB unzipped, {total - UNZIPPED_LIMIT:,} bytes more than the"
            f" {_mib(UNZIPPED_LIMIT)} MiB that Lambda takes; the largest parts are {largest}."
            " Leave something out, take a smaller profile, or build an image instead, which may have 10 GB"
        )
    return total


def _mib(size: int) -> str:
    return f"{size / MiB:,.1f}"
