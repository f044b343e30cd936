"""Packages of the Lambda handlers: core, the handlers and their pinned dependencies, for a target that need
not be the machine that builds.
"""

from __future__ import annotations

from chunkwise.packaging.build import build
from chunkwise.packaging.errors import InstallFailed, PackageTooLarge
from chunkwise.packaging.report import Package, Part
from chunkwise.packaging.target import ARCHITECTURES, PROFILES, PYTHONS, Target

__all__ = [
    "ARCHITECTURES",
    "PROFILES",
    "PYTHONS",
    "InstallFailed",
    "Package",
    "PackageTooLarge",
    "Part",
    "Target",
    "build",
]
