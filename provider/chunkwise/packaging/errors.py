"""What can go wrong with a package."""

from __future__ import annotations

from chunkwise.core.errors import ChunkwiseError


class InstallFailed(ChunkwiseError):
    """The dependencies could not be installed for the target: no wheel, no index, or no installer."""


class PackageTooLarge(ChunkwiseError):
    """Lambda would refuse the package."""
