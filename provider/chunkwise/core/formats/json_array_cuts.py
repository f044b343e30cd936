"""Where a JSON array can be cut: after the white space that follows a comma between two records.

Near a wanted place nobody knows whether it lies in a string, and how deep. Both can be assumed from what a
window shows, or computed by a pass over the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from chunkwise.core.formats.json_brackets import COMMA, Effect, Sign, effects, safe_end, signs
from chunkwise.core.formats.json_members import nested_end
from chunkwise.core.formats.json_text import WHITE
from chunkwise.core.formats.model import WINDOW, ByteSource
from chunkwise.core.units import KiB, MiB

#: how far back from a wanted place its comma may be
_BACK: Final = KiB
#: records up to this size are cut from one another without a pass over the source
_FARTHEST: Final = 32 * MiB
#: bytes that mostly tell whether the window begins in a string
_GLANCE: Final = 4 * KiB
#: bytes of a block of the pass: what is worked on stays in the caches of a processor
_BLOCK: Final = 64 * KiB

_NO_WHITE: Final = re.compile(rb"[^ \t\r\n]")
#: a string as a whole; control characters cannot occur in it (RFC 8259, section 7)
_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\.)*+"', re.DOTALL)
_REST_OF_STRING: Final = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\.)*+', re.DOTALL)
#: what may stand between two strings, and before the first and after the last one of a piece of text
_BETWEEN: Final = re.compile(rb"[ \t\r\n0-9+\-.eEtrufalsn,:{}\[\]]*+")
_PUNCTUATED: Final = re.compile(rb"[,:{}\[\]]")
_SCALAR: Final = re.compile(rb"[^,\]]*+")
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)


# --- assumed ------------------------------------------------------------------------------------------------


def assumed_cut(source: ByteSource, extent: int, details: Mapping[str, Any], near: int) -> int:
    """The first place at or after ``near`` that looks like the beginning of a record.

    Of all commas in sight those between records are the ones with the fewest brackets around them; what
    follows must begin like the records at the head of the array, and be JSON. Looks farther only for longer
    records.

    :param extent: bytes of the source.
    :param details: of the layout.
    :param near: behind the array's opening bracket.
    :return: ``extent`` where there is no such place, or none near enough.
    """
    shape = _shape(details)
    opens: int = details.get("opens", 0)
    around = len(details.get("path", ()))
    start = max(opens, near - _BACK)
    data, end, window = b"", start, WINDOW
    while end < extent and len(data) < _FARTHEST:
        block = source.read(end, min(end + window, extent))
        if not block:
            break
        data, end = data + block, end + len(block)
        if len(data) > WINDOW:
            window = min(len(data), 8 * MiB)
        below = 1 + around if end == extent else None
        found = _look(data, near - start, shape, at_start=start == opens, below=below)
        if found is not None:
            return start + found
    return extent


def opening_of(records: Sequence[bytes]) -> dict[str, Any]:
    """How records begin, for :func:`assumed_cut`: with which bytes, and with which key if all begin with one.

    :param records: some of them, without white space around them.
    """
    first = {text[:1] for text in records}
    keys = {found.group(1) for text in records if (found := _FIRST_KEY.match(text))}
    key = next(iter(keys)) if len(keys) == 1 and first == {b"{"} else b""
    try:
        return {"begin": sorted(byte.decode() for byte in first), "key": key.decode()}
    except UnicodeDecodeError:
        return {"begin": sorted(byte.decode("latin-1") for byte in first), "key": ""}


_FIRST_KEY: Final = re.compile(rb"\{[ \t\r\n]*+(" + _STRING.pattern + rb")", re.DOTALL)
_NUMBERS: Final = b"-0123456789"


def _shape(details: Mapping[str, Any]) -> re.Pattern[bytes]:
    """What a record begins like."""
    if details.get("key"):
        return re.compile(rb"\{[ \t\r\n]*+" + re.escape(details["key"].encode()) + rb"[ \t\r\n]*+:")
    begin = "".join(details.get("begin", ())).encode("latin-1")
    if any(byte in _NUMBERS for byte in begin):
        begin += _NUMBERS
    if any(byte in b"tfn" for byte in begin):
        begin += b"tfn"
    return re.compile(b"[" + re.escape(begin) + b"]") if begin else re.compile(rb"[^,\]]")


def _look(
    data: bytes, near: int, shape: re.Pattern[bytes], *, at_start: bool, below: int | None
) -> int | None:
    """The place in a window, for the state at its start under which it makes sense.

    :param near: where to begin.
    :param at_start: whether the window begins before the array's opening bracket.
    :param below: how many brackets are open between records; ``None``: the window does not reach to the end
        of the source, where all are closed.
    """
    # the first byte may be escaped, and so may one after a backslash
    start = 0
    if not at_start:
        start = 1
        while start < len(data) and data[start - 1] == 0x5C:
            start += 1
    end = safe_end(data, start, len(data))
    states = [False] if at_start else [False, True]
    for size in (_GLANCE, end):
        if len(states) > 1:
            states = [inside for inside in states if _plausible(data[:size], start, inside)]
    for inside in states:
        effect = effects(data[start:end])[inside]
        depth = 1 if at_start else -effect.dip if below is None else effect.net + below
        for sign in signs(data, start, end, inside=inside, depth=0):
            if at_start and _closes(sign):
                break
            if sign.byte == COMMA and sign.depth == depth:
                text = _NO_WHITE.search(data, sign.after)
                begin = -1 if text is None else text.start()
                if begin >= near and shape.match(data, begin) is not None and _record(data, begin):
                    return begin
    return None


def _plausible(data: bytes, start: int, inside: bool) -> bool:
    """Whether a piece of JSON text can begin in this state: is every string where one may be?"""
    if inside:
        rest = _REST_OF_STRING.match(data, start)
        start = len(data) if rest is None else rest.end()
        if start >= len(data) - 1:
            return True
        if data[start] != 0x22:
            return False  # a control character
        start += 1
    first = not inside
    while True:
        between = _BETWEEN.match(data, start)
        stop = start if between is None else between.end()
        if stop == len(data):
            return True
        if data[stop] != 0x22 or not (first or _PUNCTUATED.search(data, start, stop)):
            return False
        string = _STRING.match(data, stop)
        if string is None:
            # it goes on after the end, unless there is a control character in it
            rest = _REST_OF_STRING.match(data, stop + 1)
            return rest is None or rest.end() >= len(data) - 1
        start, first = string.end(), False


def _record(data: bytes, start: int) -> bool:
    """Whether a record begins here, as far as the window shows it."""
    if data[start] in b"{[":
        end = nested_end(data, start)
    else:
        string = _STRING.match(data, start)
        scalar = _SCALAR.match(data, start)
        end = string.end() if string is not None else scalar.end() if scalar is not None else len(data)
    follows = _NO_WHITE.search(data, end)
    if follows is None:
        return True
    try:
        _ANY.decode(data[start:end].strip(WHITE))
    except RecursionError:
        return True
    except (msgspec.DecodeError, UnicodeError):
        return False
    return data[follows.start()] in b",]"


# --- proved -------------------------------------------------------------------------------------------------


def proved_cuts(blocks: Iterator[bytes], extent: int, wanted: Sequence[int], opens: int = 0) -> Iterator[int]:
    """For each wanted position the first beginning of a record after a comma, at or after it.

    :param blocks: of the source, from ``opens`` on.
    :param extent: bytes of the source.
    :param wanted: increasing.
    :param opens: a place before the array's opening bracket, with white space at most between them.
    """
    left = iter(wanted)
    near = next(left, None)
    while near is not None and near <= 0:
        yield 0
        near = next(left, None)
    state = Effect(False, 0, 0)
    position, after_comma, held = opens, False, b""
    for data in _chained(blocks):
        if near is None:
            return
        block = held + data
        end = safe_end(block, 0, len(block))
        block, held = block[:end], block[end:]
        effect = effects(block)[state.inside]
        closed = None
        if state.net <= effect.dip and (closed := _closing(block, state)) is not None:
            block = block[:closed]
        if near < position + end:
            for begin in _beginnings(block, state, after_comma):
                while near is not None and near <= position + begin:
                    yield position + begin
                    near = next(left, None)
        if closed is not None:
            break
        text = block.rstrip(WHITE)
        state = state.then(effect)
        if text:
            after_comma = not state.inside and state.net == 1 and text.endswith(b",")
        position += end
    while near is not None:
        yield extent
        near = next(left, None)


def _beginnings(block: bytes, state: Effect, after_comma: bool) -> Iterator[int]:
    """Where in a block records begin that have a comma before them."""
    if after_comma and (text := _NO_WHITE.search(block)) is not None:
        yield text.start()
    for sign in signs(block, 0, len(block), inside=state.inside, depth=state.net):
        if _between_records(sign) and (text := _NO_WHITE.search(block, sign.after)) is not None:
            yield text.start()


def _closing(block: bytes, state: Effect) -> int | None:
    """Where in a block the array ends; what comes after it may look like records."""
    found = signs(block, 0, len(block), inside=state.inside, depth=state.net)
    return next((sign.after for sign in found if _closes(sign)), None)


def _closes(sign: Sign) -> bool:
    return sign.byte != COMMA and sign.depth <= 0


def _between_records(sign: Sign) -> bool:
    return sign.byte == COMMA and sign.depth == 1


def _chained(blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), _BLOCK):
            yield block[start : start + _BLOCK]
