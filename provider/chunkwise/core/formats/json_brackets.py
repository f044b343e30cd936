"""What a block of JSON text does to whoever reads it: in or outside of a string, and how deep.

A block has one effect for each state in which it may begin, and effects can be composed (Pison, PVLDB 14(4),
2021, does this for one record): so the state at any byte of a large file is found without a parser, by
operations on whole blocks. A block must not end right after a backslash, and so never begins with an escaped
character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple

#: all brackets alike: which kind closes which is the parser's business
_KINDS: Final = bytes.maketrans(b"[]", b"{}")
_OTHERS: Final = bytes(sorted(set(range(256)) - set(b'"{}[]')))
COMMA: Final = 0x2C
_STEPS: Final = {0x7B: 1, 0x7D: -1}
#: rounds in which pairs of brackets are taken out of a block: deeper ones are counted one by one
_ROUNDS: Final = 32

_REST_OF_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SIGN: Final = re.compile(
    rb'[^"{}\[\],]*+(?:"(?:[^"\\]++|\\.)*+"[^"{}\[\],]*+)*+([{}\[\],])',
    re.DOTALL,
)


class Effect(NamedTuple):
    """What a block does.

    :param inside: whether it ends inside a string.
    :param dip: how many levels it goes below its start, at most.
    :param net: levels that it opens and does not close, less those that it closes and did not open.
    """

    inside: bool
    dip: int
    net: int

    def then(self, other: Effect) -> Effect:
        """This block and the next one together.

        :param other: of the next block, from the state in which this one ends.
        """
        return Effect(other.inside, max(self.dip, other.dip - self.net), self.net + other.net)


def effects(block: bytes) -> tuple[Effect, Effect]:
    """The effects of a block that begins outside of a string, and inside of one."""
    if b"\\" in block:
        block = block.replace(b"\\\\", b"").replace(b'\\"', b"")
    # strings without brackets go, wherever the block began: both quotes do
    parts = block.translate(_KINDS, _OTHERS).replace(b'""', b"").split(b'"')
    odd_quotes = len(parts) % 2 == 0
    first, second = _levels(b"".join(parts[0::2])), _levels(b"".join(parts[1::2]))
    return Effect(odd_quotes, *first), Effect(not odd_quotes, *second)


def safe_end(data: bytes, start: int, end: int) -> int:
    """The last place at or before ``end`` where a block may end; ``start``: there is none."""
    while end > start and data[end - 1] == 0x5C:
        end -= 1
    return end


class Sign(NamedTuple):
    """A bracket or comma outside of strings.

    :param after: the position after it.
    :param byte: it.
    :param depth: levels after it.
    """

    after: int
    byte: int
    depth: int


def signs(data: bytes, start: int, end: int, *, inside: bool, depth: int) -> Iterator[Sign]:
    """The brackets and commas outside of strings in ``data[start:end]``.

    :param inside: whether ``start`` is inside a string.
    :param depth: levels at ``start``.
    """
    if inside:
        rest = _REST_OF_STRING.match(data, start, end)
        if rest is None:
            return
        start = rest.end()
    while (found := _SIGN.match(data, start, end)) is not None:
        start = found.end()
        byte = data[start - 1]
        if byte in b"{[":
            depth += 1
        elif byte != COMMA:
            depth -= 1
        yield Sign(start, byte, depth)


def _levels(brackets: bytes) -> tuple[int, int]:
    """Dip and net of some brackets."""
    for _ in range(_ROUNDS):
        fewer = brackets.replace(b"{}", b"")
        if len(fewer) == len(brackets):
            closed = brackets.count(b"}")  # all of them before all that open
            return closed, len(brackets) - 2 * closed
        brackets = fewer
    depths = list(accumulate(map(_STEPS.__getitem__, brackets), initial=0))
    return -min(depths), depths[-1]
