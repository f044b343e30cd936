"""The Link header of RFC 8288."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPACE = re.compile(r"[ \t]*")
# RFC 9110, 5.6.2 allows fewer characters in a name; whatever cannot be mistaken for a delimiter is read as
# one.
_NAME = re.compile(r'[^\s,;="<>]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_UNQUOTED = re.compile(r'[^,;"]*')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
#: the rest of a link that is not understood, up to the comma that ends it
_REST = re.compile(r'(?:"(?:[^"\\]|\\.)*"|<[^<>]*>|[^,])*', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a Link header.

    :param target: its URI reference, as written.
    :param relations: its relation types in lower case, none if it has no ``rel``.
    :param anchor: the URI reference of what it is a link of, ``None`` for the page itself.
    """

    target: str
    relations: tuple[str, ...]
    anchor: str | None = None


def parse_link_header(value: str) -> tuple[list[Link], bool]:
    """The links of a Link header, and whether all of it was understood.

    Several headers are joined by commas, as HTTP clients do. Commas and semicolons inside ``<>`` and quotes
    delimit nothing; parameter names and relation types are matched in any case; only the first ``rel`` and
    ``anchor`` of a link count (RFC 8288, 3.2 and 3.3). A link that is not understood is left out, the ones
    around it are kept.
    """
    links: list[Link] = []
    clean = True
    position = 0
    while position < len(value):
        if value[position] in " \t,":
            position += 1
            continue
        link, position = _link(value, position)
        if link is None:
            clean = False
        else:
            links.append(link)
    return links, clean


def _link(value: str, position: int) -> tuple[Link | None, int]:
    """The link that starts at ``position``, or None; and where reading goes on."""
    end = value.find(">", position)
    target = value[position + 1 : end]
    if value[position] != "<" or end < 0:
        return None, _match_end(_REST, value, position)
    if "<" in target:  # its ">" is missing: what follows is the next link
        return None, value.index("<", position + 1)
    parameters: dict[str, str] = {}
    position = _match_end(_SPACE, value, end + 1)
    while position < len(value) and value[position] != ",":
        if value[position] != ";":
            return None, _match_end(_REST, value, position)
        position = _match_end(_SPACE, value, position + 1)
        name = _NAME.match(value, position)
        if name is None:  # ";;" or a semicolon at the end
            continue
        position = _match_end(_SPACE, value, name.end())
        content = ""
        if value[position : position + 1] == "=":
            position = _match_end(_SPACE, value, position + 1)
            found = _QUOTED.match(value, position)
            if found is not None:
                content = _ESCAPE.sub(r"\1", found[1])
            else:
                found = _UNQUOTED.match(value, position)
                content = found[0].strip() if found is not None else ""
            position = _match_end(_SPACE, value, found.end() if found is not None else position)
        parameters.setdefault(name[0].lower(), content)
    relations = tuple(parameters.get("rel", "").lower().split())
    return Link(target.strip(), relations, parameters.get("anchor")), position


def _match_end(pattern: re.Pattern[str], value: str, position: int) -> int:
    match = pattern.match(value, position)
    return position if match is None else match.end()
