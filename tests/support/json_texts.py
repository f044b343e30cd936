"""JSON as APIs write it, with every value in a spelling that a careless reader would change."""

import json
import re

from hypothesis import strategies as st

#: spellings of scalars that json.loads() and json.dumps(), or a double, would not give back
SCALARS = [
    *(
        "1.10",
        "1E400",
        "-0",
        "0.0",
        "-0.0",
        "1e5",
        "1E+2",
        "18446744073709551616",
        "123456789012345678901234567890",
    ),
    *(
        '"\\u0041"',
        '"\\/"',
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\u2028"',
        '"é"',
        '"\\u00e9"',
        '"a\\nb"',
        '""',
        '"}"',
    ),
    *(
        '"{"',
        '","',
        '":"',
        '"\\\\"',
        '"\\""',
        '"null"',
        "null",
        "true",
        "false",
        "0.1000000000000000055511151231257",
    ),
]
KEYS = ["a", "b", "c", "id", "", "é", "\u2028", 'q"', "\\", "a.b", "x y", "}", "\ud800", "😀", "\x00"]
WHITE = st.sampled_from(["", "", " ", "  ", "\t"])

keys = st.sampled_from(KEYS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
scalars = (
    st.sampled_from(SCALARS)
    | st.integers().map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.text(max_size=6).map(json.dumps)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(
        lambda s: json.dumps(s, ensure_ascii=False)
    )
)


@st.composite
def spelled(draw, key):
    """A key, with or without escapes that it does not need."""
    if draw(st.integers(0, 4)) == 0:
        return '"' + "".join(f"\\u{unit:04x}" for unit in _utf16(key)) + '"'
    plain = json.dumps(key, ensure_ascii=False)
    return json.dumps(key) if re.search("[\ud800-\udfff]", plain) else plain


def _utf16(text):
    data = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


@st.composite
def objects(draw, depth=2, names=keys):
    """The text of an object, and its members as pairs of key and text."""
    names = draw(st.lists(names, max_size=5, unique=True))
    members = [(name, draw(values(depth - 1))) for name in names]
    white = draw(WHITE)
    body = ("," + white).join(f"{draw(spelled(name))}{draw(WHITE)}:{white}{text}" for name, text in members)
    return "{" + body + (white if members else "") + "}", members


@st.composite
def values(draw, depth=1):
    """The text of a value."""
    kind = draw(st.integers(0, 3)) if depth > 0 else 0
    if kind == 1:
        return draw(objects(depth))[0]
    if kind == 2:
        return "[" + ", ".join(draw(st.lists(values(depth - 1), max_size=3))) + "]"
    return draw(scalars)


def pairs(text):
    """The oracle: every member in its order, with numbers as they were spelled and nothing merged."""
    return json.loads(
        text,
        object_pairs_hook=lambda found: ("object", found),
        parse_int=lambda digits: ("number", digits),
        parse_float=lambda digits: ("number", digits),
    )


def raw_members(text):
    """The text of each key and value of an object, by a scan of strings, brackets and what is between."""
    if isinstance(text, bytes):
        text = text.decode()
    tokens = re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]', text, re.DOTALL)
    found, depth, start, key = [], 0, None, None
    for token in tokens:
        sign = token.group()
        if depth == 1 and start is not None and sign in (",", "}"):
            found.append((key, text[start : token.start()].strip(" \t\r\n")))
            start = None
        if sign in ("{", "["):
            depth += 1
        elif sign in ("}", "]"):
            depth -= 1
        elif depth == 1 and sign == ":" and start is None:
            start = token.end()
        elif depth == 1 and sign[0] == '"' and start is None:
            key = sign
    return found


def raw_values(text):
    """The text of each value of an object, by its key."""
    return {json.loads(key): value for key, value in raw_members(text)}
