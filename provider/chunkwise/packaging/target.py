"""What a package is built for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from chunkwise.core.errors import ConfigError

Profile = Literal["jsonl", "full", "delta"]
Architecture = Literal["x86_64", "arm64"]

PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)
ARCHITECTURES: Final[tuple[Architecture, ...]] = get_args(Architecture)

# Minor version of glibc 2 by runtime. Lambda runtimes, AWS Lambda developer guide: 3.11 runs on Amazon
# Linux 2, the later ones on Amazon Linux 2023.
_GLIBC: Final = {"3.11": 26, "3.12": 34, "3.13": 34, "3.14": 34}
PYTHONS: Final = tuple(_GLIBC)
_OLDEST_GLIBC: Final = 17  # PEP 599: manylinux2014, the oldest that 64-bit Arm has
_MACHINES: Final[dict[Architecture, str]] = {"x86_64": "x86_64", "arm64": "aarch64"}
_ELF_MACHINES: Final[dict[Architecture, int]] = {
    "x86_64": 62,
    "arm64": 183,
}  # EM_X86_64, EM_AARCH64: ELF gABI


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A runtime of Lambda, and how much goes into the package.

    :param profile: ``"jsonl"`` has what JSON Lines, JSON arrays and CSV need; ``"full"`` Parquet and
        Zstandard, too; ``"delta"`` Delta Lake tables, too.
    :param arch: ``"x86_64"`` or ``"arm64"``, as Lambda calls them.
    :param python: version of the runtime, e.g. ``"3.13"``. 3.11 runs on an older system, for which pyarrow
        has no wheel: only ``"jsonl"`` can be built for it.
    :raises ConfigError: unknown values.
    """

    profile: Profile = "jsonl"
    arch: Architecture = "x86_64"
    python: str = "3.13"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("profile", self.profile, PROFILES),
            ("arch", self.arch, ARCHITECTURES),
            ("python", self.python, PYTHONS),
        ):
            if value not in known:
                raise ConfigError(f"{name} {value!r} is unknown: choose one of {', '.join(known)}")
        if self.profile != "jsonl" and _GLIBC[self.python] < 28:  # manylinux_2_28 is the oldest of pyarrow
            raise ConfigError(
                f"the profile {self.profile!r} needs pyarrow, which has no wheel for the system of"
                f" python{self.python}: choose 3.12 or later"
            )

    def __str__(self) -> str:
        return f"{self.profile} package for {self.arch}, Python {self.python}"

    @property
    def file_name(self) -> str:
        """Name of the archive unless another one is asked for."""
        return f"chunkwise-{self.profile}-{self.arch}-python{self.python}.zip"

    @property
    def uv_platform(self) -> str:
        """The target, as uv names it."""
        glibc = _GLIBC[self.python]
        return f"{_MACHINES[self.arch]}-manylinux_2_{glibc if glibc >= 28 else _OLDEST_GLIBC}"

    @property
    def pip_platforms(self) -> tuple[str, ...]:
        """Platform tags that run there, the best first: pip derives no older tag from a newer one."""
        machine = _MACHINES[self.arch]
        newest = _GLIBC[self.python]
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
        return (*tags, f"manylinux2014_{machine}")

    @property
    def abi(self) -> str:
        """E.g. ``"cp313"``."""
        return f"cp{self.python.replace('.', '')}"

    @property
    def elf_machine(self) -> int:
        """Machine in the header of its shared objects."""
        return _ELF_MACHINES[self.arch]
