"""Find values in the text of records, and put others in their places; where it will do, by searches alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from chunkwise.core.formats.json_members import Member, members
from chunkwise.core.formats.json_text import STRING, encode_text

_ESCAPED_KEY: Final = re.compile(rb'\\.[^"\\]*+"[ \t\r\n]*+:', re.DOTALL)


def has_escaped_keys(text: bytes) -> bool:
    """Whether any key in a text, at any depth, may be spelled with an escape.

    After the last escape of such a key there are only plain characters up to its end and a colon. What ends
    otherwise is no key.
    """
    return b"\\" in text and _ESCAPED_KEY.search(text) is not None


@lru_cache(maxsize=4096)
def plain_key(column: str) -> bytes | None:
    """The one spelling of a key without escapes; ``None`` where it cannot be spelled without."""
    token = encode_text(column)
    return None if b"\\" in token else token


@lru_cache(maxsize=4096)
def _cell_pattern(key: bytes) -> re.Pattern[bytes]:
    return re.compile(
        re.escape(key) + rb"[ \t\r\n]*+:[ \t\r\n]*+(" + STRING + rb'|[^"{\[,}\] \t\r\n]++)', re.DOTALL
    )


@lru_cache(maxsize=4096)
def _prefix_pattern(key: bytes) -> re.Pattern[bytes]:
    return re.compile(re.escape(key) + rb'[ \t\r\n]*+:[ \t\r\n]*+"')


@lru_cache(maxsize=256)
def _string_patterns(prefix: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Strings after a prefix: without a look at escapes, and with one."""
    start = re.escape(prefix)
    return re.compile(start + rb'([^"]*)"'), re.compile(start + rb'((?:[^"\\]++|\\.)*+)"', re.DOTALL)


def cells_of(text: bytes, keys: Mapping[bytes, str]) -> list[Member]:
    """The top-level members with some keys, in any order, equal keys as often as they stand there.

    :param text: known to be a valid JSON object.
    :param keys: by their JSON text.
    :raises UnicodeDecodeError: a key is not UTF-8.
    """
    if has_escaped_keys(text):
        return list(members(text, keys))
    cells: list[Member] = []
    for token, column in keys.items():
        count = text.count(token)
        if count == 0 and b"\\" not in token:
            continue
        found = _cell_pattern(token).search(text) if count == 1 else None
        # where no object was opened before, it is no key further down
        if found is None or text.find(b"{", text.index(b"{") + 1, found.start()) >= 0:
            return list(members(text, keys))
        cells.append(Member(column, *found.span(1), False))
    return cells


def replace_strings(
    data: bytes, column: str, old: Sequence[str | None], new: Sequence[str | None]
) -> bytes | None:
    """Replace the values of one column in the text of many records, all of which have a string or nothing.

    :param data: records with anything between them that has no quotes. Wherever the key's spelling occurs in
        it, it is that of the top-level key of a record, and no record has it twice.
    :param old: the value of each record, ``None`` where it has none.
    :param new: what it becomes; ``None``, and an equal one, leave the bytes as they are.
    :return: ``None`` where the records are not alike enough.
    """
    if None in old:
        if any(after is not None for before, after in zip(old, new, strict=True) if before is None):
            return None
        there = [index for index, value in enumerate(old) if value is not None]
        old, new = [old[index] for index in there], [new[index] for index in there]
    if not old:
        return data
    key = plain_key(column)
    first = None if key is None else _prefix_pattern(key).search(data)
    if first is None:
        return None
    quick, careful = _string_patterns(first.group())
    pieces = quick.split(data)
    if len(pieces) != 2 * len(old) + 1:
        return None
    spelled = pieces[1::2]
    escaped = b"\\" in b"".join(spelled)
    if escaped:
        pieces = careful.split(data)
        if len(pieces) != 2 * len(old) + 1:
            return None
        spelled = pieces[1::2]
    texts = _inner_texts(old, new, spelled, escaped)
    out = [b""] * (4 * len(old) + 1)
    out[0::4] = pieces[0::2]
    out[1::4] = [first.group()] * len(old)
    out[2::4] = texts
    out[3::4] = [b'"'] * len(old)
    return b"".join(out)


def replace_at(text: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Put other bytes in some places of a record."""
    for start, end, value in sorted(changes, reverse=True):
        text = text[:start] + value + text[end:]
    return text


def _inner_texts(
    old: Sequence[str | None], new: Sequence[str | None], spelled: list[bytes], escaped: bool
) -> list[bytes]:
    """JSON strings without their quotes."""
    if None in new or escaped:
        return [
            spelling if after is None or after == before else encode_text(after)[1:-1]
            for before, after, spelling in zip(old, new, spelled, strict=True)
        ]
    try:
        encoded = msgspec.json.encode(new)
    except UnicodeEncodeError:  # lone surrogates
        encoded = b"\\"
    if b"\\" in encoded:
        return [encode_text(text)[1:-1] for text in new if text is not None]
    # without escapes no string has a quote in it
    return encoded[2:-2].split(b'","')
