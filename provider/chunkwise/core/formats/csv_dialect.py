"""How a CSV file is written: what separates, quotes and escapes, and in which encoding."""

from __future__ import annotations

import codecs
import importlib
from typing import Final, Literal

import msgspec

from chunkwise.core.errors import ConfigError, UnsupportedSource

#: UTF-8's, which belongs to no cell; kept as it is, since nobody asked to remove it
BOM: Final = b"\xef\xbb\xbf"
_WIDE: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
#: Encodings in which a byte below 0x80 is always the ASCII character. Not so in Shift JIS, GBK or Big5, whose
#: second bytes can be ``\\`` or ``|``.
_SAFE: Final = frozenset({"utf-8", "ascii", "iso8859-1", "euc_jp", "euc_kr", "gb2312"})
_ASCII: Final = "".join(map(chr, range(128)))

#: which bytes end a line: LF, CR and CRLF mixed, or only one of the two (the other is data)
Ends = Literal["any", "lf", "cr"]


class Dialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The meaning of bytes; the rules are those of Python's ``csv`` reader, not strict.

    A quote opens a quoted cell only as its first byte; elsewhere in an unquoted cell it is data. What stands
    between a closing quote and the next delimiter is data, too.

    :param delimiter: between cells; one byte or more, taken literally.
    :param quote: around cells; ``None``: no byte quotes.
    :param escape: takes the next byte literally, in quotes and out of them; ``None``: there is none.
    :param doublequote: whether two quotes in a quoted cell are one.
    :param comment: lines that begin with it are no rows; elsewhere it is data. ``None``: there are none.
    :param ends: of lines.
    :param encoding: of text, by Python's name.
    """

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    doublequote: bool = True
    comment: str | None = None
    ends: Ends = "any"
    encoding: str = "utf-8"

    def encoded(self, text: str | None) -> bytes:
        """Bytes of a text; none for ``None``."""
        return b"" if text is None else text.encode(self.encoding)

    @property
    def line_ends(self) -> bytes:
        """The bytes that end lines."""
        return {"any": b"\r\n", "lf": b"\n", "cr": b"\r"}[self.ends]

    @property
    def specials(self) -> tuple[bytes, ...]:
        """The bytes that let a line end be data."""
        return tuple(byte for byte in (self.encoded(self.quote), self.encoded(self.escape)) if byte)


def check_dialect(dialect: Dialect) -> Dialect:
    """Refuse what has two meanings.

    :raises ConfigError: naming the option.
    """
    for name, sign in (
        ("quotechar", dialect.quote),
        ("escapechar", dialect.escape),
        ("comment", dialect.comment),
    ):
        if sign is not None and len(_bytes(dialect, name, sign)) != 1:
            raise ConfigError(f"{name}={sign!r}: it must be one byte in {dialect.encoding}")
    delimiter = _bytes(dialect, "sep", dialect.delimiter)
    if not delimiter:
        raise ConfigError("sep is empty: give the delimiter, it is not guessed")
    if len(dialect.delimiter) > 1 and "\\" in dialect.delimiter:
        raise ConfigError(
            f"sep={dialect.delimiter!r}: a delimiter is taken literally here, it is no regular expression"
        )
    taken = [byte for byte in (*dialect.specials, dialect.encoded(dialect.comment)) if byte]
    if len(set(taken)) < len(taken) or any(byte in b"\r\n" for byte in taken):
        raise ConfigError("quotechar, escapechar and comment must differ from each other and from line ends")
    if any(byte in delimiter for byte in (*taken, b"\r", b"\n")):
        raise ConfigError(
            f"sep={dialect.delimiter!r} contains a line end, or the quotechar, escapechar or comment"
        )
    return dialect


def safe_encoding(name: str, source: str) -> str:
    """Python's name of an encoding in which the bytes of a dialect mean nothing else.

    Proved for UTF-8 and EUC, where all bytes of other characters are above 0x7F, and for encodings of one
    byte a character whose first half is ASCII.

    :param source: for messages.
    :raises ConfigError: there is no such encoding.
    :raises UnsupportedSource: it is another one: UTF-16, Shift JIS, EBCDIC ...
    """
    try:
        found = codecs.lookup(name).name
    except (LookupError, TypeError):
        raise ConfigError(f"encoding {name!r} is unknown") from None
    if found == "utf-8-sig":
        return "utf-8"
    if found not in _SAFE:
        try:
            module = importlib.import_module(f"encodings.{found.replace('-', '_')}")
        except ImportError:
            module = None
        if not str(getattr(module, "decoding_table", "")).startswith(_ASCII):
            raise UnsupportedSource(
                f"{source} in encoding {name!r} cannot be cut: bytes of other characters look like delimiters"
                " or line ends there; convert it to UTF-8 first"
            )
    return found


def refuse_wide(head: bytes, source: str) -> None:
    """Refuse UTF-16 and UTF-32 by their byte order mark, or by a NUL among the first four bytes.

    :param head: the first bytes.
    :param source: for messages.
    :raises UnsupportedSource: naming the encoding.
    """
    encoding = next((name for mark, name in _WIDE if head.startswith(mark)), None)
    if encoding is None and b"\0" not in head[:4]:
        return
    if encoding is None:
        encoding = "UTF-32" if head[:4].count(0) > 2 else "UTF-16"
    raise UnsupportedSource(
        f"{source} is CSV in {encoding}, in which bytes of other characters look like delimiters or line"
        " ends; convert it to UTF-8 first"
    )


def _bytes(dialect: Dialect, name: str, text: str) -> bytes:
    try:
        return text.encode(dialect.encoding)
    except UnicodeEncodeError:
        raise ConfigError(f"{name}={text!r} does not exist in encoding {dialect.encoding}") from None
