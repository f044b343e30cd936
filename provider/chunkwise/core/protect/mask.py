"""Values with most of their characters hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec

from chunkwise.core.errors import ConfigError
from chunkwise.core.protect.model import Limits, Task


class MaskOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left to see.

    :param keep_first: characters at the beginning.
    :param keep_last: characters at the end.
    :param character: that stands for a hidden one.
    :param length: hidden characters that are shown: ``"same"`` as there are, or a number, which tells nothing
        about the length of the value.
    """

    keep_first: Annotated[int, msgspec.Meta(ge=0)] = 0
    keep_last: Annotated[int, msgspec.Meta(ge=0)] = 0
    character: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = "*"
    length: Literal["same"] | Annotated[int, msgspec.Meta(ge=1)] = "same"


class MaskProtector:
    """Keeps some characters at the beginning and the end, and hides the others.

    A value that is not longer than what would be kept is hidden as a whole. A character is a Unicode code
    point.
    """

    parallel: Final = 1
    cache: Final = None
    local: Final = True

    def __init__(self, options: MaskOptions) -> None:
        self._options = options

    def limits(self, task: Task) -> Limits:  # noqa: ARG002 - the protocol has it
        """None."""
        return Limits()

    def protect(self, task: Task, values: Sequence[str]) -> Sequence[str]:
        """The masked values.

        :raises ConfigError: the task is to unprotect.
        """
        if task.operation != "protect":
            raise ConfigError(
                f"column {task.column!r}: what protector 'mask' hid is gone; unprotect needs another one"
            )
        options = self._options
        first, last, character = options.keep_first, options.keep_last, options.character
        kept = first + last
        if options.length == "same":
            return [
                value[:first] + character * (len(value) - kept) + value[len(value) - last :]
                if len(value) > kept
                else character * len(value)
                for value in values
            ]
        hidden = character * options.length
        return [
            value[:first] + hidden + value[len(value) - last :] if len(value) > kept else hidden
            for value in values
        ]
