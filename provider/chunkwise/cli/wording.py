"""Errors in the words of the command line."""

from __future__ import annotations

import re

from chunkwise.core.errors import ChunkwiseError


def worded(error: ChunkwiseError) -> str:
    """The text of an error, with options where it names parameters of operators.

    Only names that the error says it uses are replaced: ``on_existing='restart'`` becomes ``--on-existing
    restart``; a key or column that happens to be called like a parameter stays as it is. A name that is a
    word of English, such as ``mode``, is the parameter only at the start.
    """
    text = str(error)
    for name in error.parameters:
        option = f"--{name.replace('_', '-')}"
        text = re.sub(rf"\b{re.escape(name)}='([^']*)'", rf"{option} \1", text)
        start = "" if "_" in name else r"\A"
        text = re.sub(rf"{start}(?<![-\w/.:'\"]){re.escape(name)}(?![-\w/'\"])", option, text)
    return text
