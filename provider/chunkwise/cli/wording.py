"""Errors in the words of the command line."""

from __future__ import annotations

import argparse
import re

from chunkwise.core.errors import ChunkwiseError, SecretRejected


def worded(error: ChunkwiseError, given: argparse.Namespace) -> str:
    """The text of an error, with options where it names parameters of operators.

    Only names that the error says it uses are replaced: ``on_existing='restart'`` becomes ``--on-existing
    restart``; a key or column that happens to be called like a parameter stays as it is. A name that is a
    word of English, such as ``mode``, is the parameter only at the start. An error about a secret names where
    it was looked for.

    :param given: the command line.
    """
    text = str(error)
    for name in error.parameters:
        option = f"--{name.replace('_', '-')}"
        text = re.sub(rf"\b{re.escape(name)}='([^']*)'", rf"{option} \1", text)
        start = "" if "_" in name else r"\A"
        text = re.sub(rf"{start}(?<![-\w/.:'\"]){re.escape(name)}(?![-\w/'\"])", option, text)
    if isinstance(error, SecretRejected):
        text += f"; {_place(error.secret, given)}"
    return text


def _place(secret: str, given: argparse.Namespace) -> str:
    variables, files = dict(getattr(given, "secret_env", ())), dict(getattr(given, "secret_file", ()))
    if secret in files:
        return f"it is the content of {files[secret]}"
    if secret in variables:
        return f"it is the value of variable {variables[secret]}"
    return f"give it by --secret-env {secret}=VARIABLE or --secret-file {secret}=FILE"
