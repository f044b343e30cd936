"""The array of records inside a JSON document: what stands before it, and what stands after it.

Both are checked as JSON while they go by, in bounded memory: together with the records' own checks this is
the proof that the document is one JSON text, and that the array is the one that the path names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from chunkwise.core.errors import InvalidSource
from chunkwise.core.formats.json_grammar import TOKEN, Grammar
from chunkwise.core.formats.json_members import nested_end
from chunkwise.core.formats.json_text import BOM, decode_string, encode_text
from chunkwise.core.formats.json_window import NO_WHITE, Window
from chunkwise.core.units import MiB

#: strings that are longer go by in pieces; so long a key is none of a path
_LONGEST: Final = MiB
_WRONG: Final = "outside of the records, it cannot stand there: this is no JSON"

#: bytes of values that may be looked at in vain, for being longer than a window: so many, and so many for
#: each byte that went by
_IN_VAIN, _IN_VAIN_SHARE = MiB // 4, 1
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
#: groups of a token
_STRING, _SCALAR, _SIGN = 1, 2, 3
#: what shows that a number or a name has ended
_ENDED: Final = re.compile(rb"[ \t\r\n,\]}]")
#: what may be a scalar other than a string
_RUN: Final = re.compile(rb'[^ \t\r\n,:{}\[\]"]*+')
_INNER: Final = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+')
_HALF_ESCAPE: Final = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")


class Token(NamedTuple):
    """One token outside of the array.

    :param text: it; ``b'"'`` for a long string.
    :param position: of its first byte.
    :param key: whether it is a key.
    :param depth: objects and arrays that are open after it.
    """

    text: bytes
    position: int
    key: bool
    depth: int


def skip_to_array(window: Window, path: Sequence[str], name: str, keep: int) -> bytes:
    """Leave everything behind up to the array's bracket, this included.

    The first member of each name counts; that there is no other one is checked behind the array.

    :param window: at the start of the document.
    :param path: keys of the objects that lead to the array; none: the document is the array.
    :param name: of the source, for messages.
    :param keep: bytes.
    :return: the first so many bytes of what was left behind.
    :raises InvalidSource: it is no JSON, or the path leads nowhere, or to something else.
    """
    mark = len(BOM) if window.has(len(BOM)) and window.data.startswith(BOM) else 0
    tokens = _Tokens(window, Grammar(), name, start=mark, keep=keep, wrong=_WRONG)
    matched, wanted = 0, True
    for token in tokens:
        if token.key:
            wanted = token.depth == matched and _is(token.text, path[matched - 1])
            tokens.skim = not wanted
        elif wanted and token.text != b":":
            if token.text != (b"[" if matched == len(path) else b"{"):
                raise _misled(name, path, matched, token)
            if matched == len(path):
                return tokens.leave()
            matched, wanted = matched + 1, False
            tokens.skim = True
        elif token.depth < matched:
            raise InvalidSource(
                f"{name}: records_path {_shown(path)} leads nowhere: {_where(path[: matched - 1])},"
                f" which ends at byte {token.position}, has no member {path[matched - 1]!r}"
            )
    raise InvalidSource(
        f"{name}: there is no JSON in it: a JSON array begins with '['"
        if not path
        else f"{name}: it ends at byte {window.position}, before records_path {_shown(path)} was found"
    )


def check_rest(window: Window, path: Sequence[str], name: str, keep: int) -> bytes:
    """Leave everything behind that stands after the array.

    :param window: after the array's closing bracket; it reaches to the end of the document.
    :param keep: bytes.
    :return: the first so many bytes of what was left behind.
    :raises InvalidSource: it is no JSON, or a key of the path stands there again.
    """
    grammar = Grammar([b"}"] * len(path))
    depth = len(path)
    wrong = _WRONG if path else "the array ended before it"
    tokens = _Tokens(window, grammar, name, keep=keep, wrong=wrong)
    tokens.skim = True
    for token in tokens:
        depth = min(depth, token.depth)
        if token.key and token.depth == depth and _is(token.text, path[depth - 1]):
            raise InvalidSource(
                f"{name}: byte {token.position}: the key {path[depth - 1]!r} of records_path {_shown(path)}"
                " stands there a second time: which is meant? Mend the source"
            )
    if not grammar.complete:
        raise InvalidSource(
            f"{name}: it ends at byte {window.position}, and what is around the array of records_path"
            f" {_shown(path)} is not closed yet"
        )
    return tokens.leave()


class _Tokens:
    """The tokens of a stream. What was seen is left behind.

    :param grammar: at the start of the window.
    :param start: in the window.
    :param keep: bytes that are remembered of what is left behind.
    :param wrong: what is said of a byte that cannot stand there.
    """

    def __init__(
        self, window: Window, grammar: Grammar, name: str, *, start: int = 0, keep: int = 0, wrong: str
    ) -> None:
        self._window = window
        self._grammar = grammar
        self._name = name
        self._at = start
        self._keep = keep
        self._wrong = wrong
        self._kept = b""
        self._in_vain = 0
        #: whether the next value may be gone past at once, without its tokens
        self.skim = False

    def leave(self) -> bytes:
        """Leave behind what was seen; the first bytes of all that was."""
        if len(self._kept) < self._keep:
            self._kept += self._window.data[: min(self._at, self._keep - len(self._kept))]
        self._window.skip(self._at)
        self._at = 0
        return self._kept

    def __iter__(self) -> Iterator[Token]:
        grammar, window = self._grammar, self._window
        while True:
            if self.skim and grammar.at_value and self._skimmed():
                continue
            found = TOKEN.match(window.data, self._at)
            if found is None or (found.lastindex == _SCALAR and not _ENDED.match(window.data, found.end())):
                token = self._at_the_edge()
                if token is None:
                    return
                yield token
                continue
            kind = found.lastindex or 0
            start, key, text = found.start(kind), grammar.at_key, found.group(kind)
            if not (grammar.sign(text) if kind == _SIGN else grammar.scalar(string=kind == _STRING)):
                raise self._fault(window.position + start)
            self._at = found.end()
            yield Token(text, window.position + start, key, grammar.depth)

    def _skimmed(self) -> bool:
        """Go past an object or array at once, if the window has all of it."""
        data = self._window.data
        found = NO_WHITE.search(data, self._at)
        if found is None or data[found.start()] not in b"{[":
            return False
        start = found.start()
        if self._in_vain > _IN_VAIN + _IN_VAIN_SHARE * (self._window.position + start):
            return False
        end = nested_end(data, start)
        try:
            _ANY.decode(data[start:end])
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            # it goes on after the window, or the parser refuses it: token by token it will show
            self._in_vain += end - start
            return False
        self._grammar.scalar(string=False)
        self._at = end
        return True

    def _at_the_edge(self) -> Token | None:
        """The next token, where the window may end within it, or it is none; ``None``: the stream ends."""
        start = self._start()
        if start is None:
            return None
        grammar, window = self._grammar, self._window
        position, key, text = window.position + start, grammar.at_key, window.data[start : start + 1]
        found = TOKEN.match(window.data, start)
        if text == b'"':
            fits = grammar.scalar(string=True)
            if found is not None:
                text, self._at = found.group(), found.end()
            else:
                self._long_string(start)
        elif found is not None and found.lastindex == _SIGN:
            fits, self._at = grammar.sign(text), found.end()
        else:
            run = self._run(start)
            fits = TOKEN.fullmatch(window.data, start, run) is not None and grammar.scalar(string=False)
            self._at = run
        if not fits:
            raise self._fault(position)
        return Token(text, position, key, grammar.depth)

    def _start(self) -> int | None:
        """Where the next token begins; the window has all of it, unless it is long."""
        window = self._window
        self.leave()
        while (found := NO_WHITE.search(window.data, self._at)) is None:
            self._at = len(window.data)
            self.leave()
            if not window.has(1):
                return None
        start = found.start()
        while self._ends_early(start) and len(window.data) - start <= _LONGEST:
            if not window.has(len(window.data) + 1):
                break
        return start

    def _ends_early(self, start: int) -> bool:
        """Whether the window ends within the token that begins there."""
        data = self._window.data
        first = data[start : start + 1]
        if first in b"{}[],:":
            return False
        if first == b'"':
            return TOKEN.match(data, start) is None
        return self._run(start) == len(data)

    def _run(self, start: int) -> int:
        found = _RUN.match(self._window.data, start)
        return start if found is None else found.end()

    def _long_string(self, start: int) -> None:
        """Go to the end of a string that the window does not hold."""
        window = self._window
        self._at = start + 1
        while True:
            found = _INNER.match(window.data, self._at)
            self._at = self._at if found is None else found.end()
            rest = window.data[self._at : self._at + 6]
            if rest[:1] == b'"':
                self._at += 1
                return
            if not rest:
                self.leave()
            elif _HALF_ESCAPE.match(rest) is None:
                raise self._fault(window.position + self._at)
            if not window.has(len(window.data) + 1):
                raise self._fault(window.position + len(window.data))

    def _fault(self, position: int) -> InvalidSource:
        return InvalidSource(f"{self._name}: byte {position}: {self._wrong}")


def _is(token: bytes, key: str) -> bool:
    """Whether a string spells a key."""
    if b"\\" not in token:
        return token == encode_text(key)
    try:
        return decode_string(token) == key
    except UnicodeDecodeError:
        return False


def _misled(name: str, path: Sequence[str], matched: int, token: Token) -> InvalidSource:
    if not path:
        return InvalidSource(f"{name}: byte {token.position} is no '[': a JSON array begins with '['")
    wanted = "array" if matched == len(path) else "object"
    return InvalidSource(
        f"{name}: records_path {_shown(path)} leads to something else: {_where(path[:matched])}, at byte"
        f" {token.position}, is no {wanted}"
    )


def _shown(path: Sequence[str]) -> str:
    return repr(".".join(path))


def _where(path: Sequence[str]) -> str:
    return _shown(path) if path else "the document"
