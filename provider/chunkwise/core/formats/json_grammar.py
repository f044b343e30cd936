"""What may come next in a JSON text (RFC 8259, section 2): no recursion, so that any depth will do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

#: white space and one token: a string, another scalar, or a sign. That strings are UTF-8 is not checked.
TOKEN: Final = re.compile(
    rb"[ \t\r\n]*+(?:"
    rb'("(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+")'
    rb"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null)"
    rb"|([{}\[\],:]))"
)
_OPEN: Final = {b"{": b"}", b"[": b"]"}

# what may come next
_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _COLON, _AFTER = range(6)


class Grammar:
    """The place in a text, as far as it decides what may follow.

    :param inside: closing brackets of what is open around a value that has just ended, the innermost last;
        ``None``: at the beginning of a text.
    """

    __slots__ = ("_expected", "_open")

    def __init__(self, inside: Sequence[bytes] | None = None) -> None:
        self._open = list(inside or ())
        self._expected = _VALUE if inside is None else _AFTER

    @property
    def depth(self) -> int:
        """Objects and arrays that are open."""
        return len(self._open)

    @property
    def complete(self) -> bool:
        """Whether the text may end here."""
        return self._expected == _AFTER and not self._open

    @property
    def at_key(self) -> bool:
        """Whether a string would be a key."""
        return self._expected in (_KEY, _KEY_OR_END)

    @property
    def at_value(self) -> bool:
        """Whether a value may come."""
        return self._expected in (_VALUE, _VALUE_OR_END)

    def scalar(self, *, string: bool) -> bool:
        """Go past a string or another scalar; ``False``: it cannot stand here."""
        if string and self.at_key:
            self._expected = _COLON
        elif self.at_value:
            self._expected = _AFTER
        else:
            return False
        return True

    def sign(self, sign: bytes) -> bool:
        """Go past a bracket, colon or comma; ``False``: it cannot stand here."""
        if sign in _OPEN:
            if not self.at_value:
                return False
            self._open.append(_OPEN[sign])
            self._expected = _KEY_OR_END if sign == b"{" else _VALUE_OR_END
        elif sign == b":" and self._expected == _COLON:
            self._expected = _VALUE
        elif sign == b"," and self._expected == _AFTER and self._open:
            self._expected = _KEY if self._open[-1] == b"}" else _VALUE
        elif self._open and sign == self._open[-1] and self._expected in (_AFTER, _KEY_OR_END, _VALUE_OR_END):
            self._open.pop()
            self._expected = _AFTER
        else:
            return False
        return True
