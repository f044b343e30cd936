"""``python -m chunkwise`` is the ``chunkwise`` command."""

from __future__ import annotations

import sys

from chunkwise.cli import main

sys.exit(main())
