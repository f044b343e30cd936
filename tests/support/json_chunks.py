"""A small dispatch in memory for the JSON formats, and JSON values that are hard to cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from chunkwise.core.formats.model import RECORD, BadRow, Batch, Boundary, Part, ReadRequest, Span
from chunkwise.core.segments import Literal, Range
from tests.support.sources import BytesSource

HOSTILE = 'x"},{"ssn":"no"}, {"ssn": "1"}]\\\\\\",[{"ssn":"\u2028\u0085é'

# --- values -------------------------------------------------------------------------------------------------

_PIECES = [
    "},{",
    '"',
    '\\"',
    "\\",
    "\\\\",
    "\n",
    "\u2028",
    "\u0085",
    "é",
    "😀",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "ssn",
    '"ssn":',
    " ",
    "a",
]
texts = st.lists(st.sampled_from(_PIECES), max_size=6).map("".join)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.sampled_from([1.5, -0.25, 1e30]), texts
)
keys = st.one_of(st.sampled_from(["ssn", "name", "id", "in", ""]), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)
_names = st.dictionaries(st.sampled_from(["ssn", "name"]), scalars, max_size=2)
_others = st.dictionaries(keys.filter(lambda key: key not in ("ssn", "name")), values, max_size=3)
#: objects with the columns ``ssn`` and ``name``, neither of them nested, in any order
objects = st.tuples(_others, _names, _others).map(lambda parts: {**parts[0], **parts[1], **parts[2]})


@st.composite
def spelled(draw: st.DrawFn, value: Any, *, lines: bool) -> str:
    """One of the many spellings of a value: white space, escapes."""
    layout = {"ensure_ascii": draw(st.booleans())}
    layout["separators"] = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :  ")]))
    if not lines and draw(st.booleans()):
        layout |= {
            "indent": draw(st.integers(0, 2)),
            "separators": (draw(st.sampled_from([",", " ,"])), ": "),
        }
    text = json.dumps(value, **layout)
    if draw(st.booleans()):
        # never wrong: an s after an odd number of backslashes does not occur
        text = text.replace("s", "\\u0073") if not _s_outside_strings(value) else text
    return draw(st.sampled_from(["", " ", "\t"])) + text + draw(st.sampled_from(["", " "]))


def _s_outside_strings(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_s_outside_strings(inner) for inner in value.values())
    if isinstance(value, list):
        return any(_s_outside_strings(inner) for inner in value)
    return value is False


# --- dispatch -----------------------------------------------------------------------------------------------


class Dispatch:
    """Cut, read, replace, encode, join.

    :param exact: cut by a pass over the source.
    """

    def __init__(
        self,
        format_: Any,
        source: BytesSource,
        *,
        chunk_bytes: int = 1 << 30,
        options: dict[str, Any] | None = None,
        request: ReadRequest | None = None,
        replace: Callable[[str, str | None], str | None] | None = None,
        exact: bool = False,
    ) -> None:
        self.format = format_
        self.source = source
        self.layout = format_.inspect(source, options or {})
        self.request = request or ReadRequest()
        self._replace = replace
        wanted = format_.wanted(self.layout, chunk_bytes)
        if exact:
            cuts = list(format_.exact(source, self.layout, wanted))
        else:
            cuts = [format_.cut(source, self.layout, near) for near in wanted]
        self.boundaries = tile(self.layout.extent, cuts)
        self.rows = 0
        #: good rows of each part
        self.kept: list[int] = []
        self.bad: list[BadRow] = []
        self.readers: list[Any] = []
        self.parts: list[bytes] = []
        self.notes: list[dict[str, Any]] = []

    def process(self, target: dict[str, Any], other: Any = None) -> None:
        """Make the parts.

        :param other: format of the output, if it is another one.
        """
        for start, end in zip(self.boundaries, self.boundaries[1:], strict=False):
            reader = self.format.read(self.source, self.layout, Span(start=start, end=end), self.request)
            encoder = (other or self.format).encoder(target)
            part, kept = b"", 0
            for batch in reader:
                self.change(batch)
                self.bad += batch.bad
                kept += batch.rows
                if other is None:
                    part += b"".join(encoder.native(batch))
                elif batch.rows:
                    part += b"".join(encoder.convert(batch.records(), batch.first))
            part += b"".join(encoder.finish(reader))
            self.rows += reader.rows
            self.readers.append(reader)
            self.parts.append(part)
            self.kept.append(kept)
            self.notes.append(json.loads(json.dumps(encoder.notes())))

    def change(self, batch: Batch) -> None:
        if self._replace is None:
            return
        found = {column: batch.values(column) for column in self.request.columns}
        for column, old in found.items():
            batch.replace(column, [self._replace(column, value) for value in old])

    def output(self) -> bytes:
        target = self.format.target(self.layout, {}, native=True)
        self.process(target)
        parts = [
            Part(chunk=number, ref=number if part else None, size=len(part), rows=0, notes=notes)
            for number, (part, notes) in enumerate(zip(self.parts, self.notes, strict=True))
        ]
        return assembled(self.format.join(target, parts, "source"), self.parts, self.source.data)

    def chain_closes(self) -> bool:
        ends = [reader.end for reader in self.readers]
        return ends == list(self.boundaries[1:]) and all(end.state == RECORD for end in ends)


def assembled(segments: Any, parts: Sequence[bytes], source: bytes) -> bytes:
    out = b""
    for segment in segments:
        if isinstance(segment, Literal):
            out += segment.data
        else:
            assert isinstance(segment, Range)
            data = source if segment.of == "source" else parts[segment.of]
            assert 0 <= segment.start < segment.end <= len(data)
            out += data[segment.start : segment.end]
    return out


def tile(extent: int, cuts: Sequence[Boundary]) -> list[Boundary]:
    """As a plan does it."""
    inner: list[Boundary] = []
    for cut in cuts:
        if 0 < cut.position < extent and (not inner or cut.position > inner[-1].position):
            inner.append(cut)
    return [Boundary(position=0), *inner, Boundary(position=extent)]


def boundaries(format_: Any, data: bytes, chunk_bytes: int) -> list[int]:
    return [
        found.position for found in Dispatch(format_, BytesSource(data), chunk_bytes=chunk_bytes).boundaries
    ]


def read_all(format_: Any, source: BytesSource, *, request: ReadRequest) -> list[Any]:
    layout = format_.inspect(source, {})
    span = Span(start=Boundary(position=0), end=Boundary(position=layout.extent))
    return list(format_.read(source, layout, span, request))


def rows_of(format_: Any, data: bytes) -> int:
    return sum(batch.rows for batch in read_all(format_, BytesSource(data), request=ReadRequest()))


def bytes_of(format_: Any, batch: Batch) -> bytes:
    return b"".join(format_.encoder({"native": True, "bom": False}).native(batch))
