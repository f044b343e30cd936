"""Options of CSV sources and targets: those of pandas' read_csv and to_csv that mean what we do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chunkwise.core.errors import ConfigError
from chunkwise.core.formats.csv_dialect import Dialect, Ends, check_dialect, safe_encoding

#: no value is converted, whatever they say
_NO_CONVERSION: Final = frozenset(
    {
        "cache_dates",
        "date_format",
        "dayfirst",
        "decimal",
        "dtype",
        "dtype_backend",
        "false_values",
        "float_precision",
        "keep_default_na",
        "na_filter",
        "na_values",
        "parse_dates",
        "thousands",
        "true_values",
    }
)
#: how pandas works, not what it gives
_HOW: Final = frozenset({"chunksize", "engine", "iterator", "low_memory", "memory_map"})
#: the only values that change nothing
_ONLY: Final[dict[str, tuple[Any, ...]]] = {
    "compression": (None, "infer"),
    "delim_whitespace": (False, None),
    "encoding_errors": (None, "strict"),
    "index_col": (None, False),
    "nrows": (None,),
    "on_bad_lines": (None, "error"),
    "skip_blank_lines": (True, None),
    "skipfooter": (0, None),
    "skipinitialspace": (False, None),
    "usecols": (None,),
}
_DIALECT: Final = frozenset(
    {
        "comment",
        "delimiter",
        "doublequote",
        "encoding",
        "escapechar",
        "header",
        "lineterminator",
        "names",
        "quotechar",
        "quoting",
        "sep",
        "skiprows",
        "suffix",
    }
)
_OUT_ONLY: Final[dict[str, tuple[Any, ...]]] = {
    "compression": (None, "infer"),
    "date_format": (None,),
    "decimal": (".", None),
    "doublequote": (True, None),
    "errors": (None, "strict"),
    "escapechar": (None,),
    "float_format": (None,),
    "index": (False, None),
    "mode": ("w", None),
}
_OUT: Final = frozenset(
    {
        "columns",
        "encoding",
        "header",
        "lineterminator",
        "na_rep",
        "names",
        "quotechar",
        "quoting",
        "sep",
        "delimiter",
    }
)
_ENDS: Final[dict[str | None, Ends]] = {None: "any", "\r\n": "any", "\n": "lf", "\r": "cr"}


class InputOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of a source say.

    :param dialect: how it is written.
    :param header: whether its first row has the names of the columns.
    :param names: of the columns, if they were given.
    :param skip_lines: lines before the header.
    """

    dialect: Dialect
    header: bool
    names: tuple[str, ...] | None
    skip_lines: int


class OutputOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of a target say.

    :param dialect: how it is to be written.
    :param columns: that it has, if they were given.
    :param header: whether their names are written.
    :param line_end: of each row.
    :param null: text of null, written without quotes.
    :param quote_all: whether all cells get quotes.
    """

    dialect: Dialect
    columns: tuple[str, ...] | None
    header: bool
    line_end: str
    null: str
    quote_all: bool


def input_options(options: Mapping[str, Any], source: str) -> InputOptions:
    """Read the options of a source.

    :param options: by pandas' names; ``suffix`` (``".tsv"``) is a hint that the delimiter is a tab.
    :param source: for messages.
    :raises ConfigError: an option that is unknown, or has a value that cannot be handled.
    :raises UnsupportedSource: an encoding that cannot be cut.
    """
    for option, value in options.items():
        if option in _ONLY:
            _check_only(option, value, _ONLY[option])
        elif option not in _DIALECT and option not in _NO_CONVERSION and option not in _HOW:
            raise ConfigError(f"option {option!r} of format 'csv' is unknown, or not handled")
    quoting = _one_of(options, "quoting", (0, 1, 3), "0, 1 and 3 (none) are handled")
    ends = _one_of(
        options, "lineterminator", tuple(_ENDS), "'\\n', '\\r' and '\\r\\n' (any of them) are handled"
    )
    names = _names(options, "names")
    header = options.get("header", "infer")
    if header == "infer":
        header = None if names is not None else 0
    if header is not None and not _is_one_of(header, (0,)):
        raise ConfigError(
            f"header={options['header']!r}: 0, null or 'infer'; skip the lines before it by skiprows"
        )
    skip = options.get("skiprows")
    skip = 0 if skip is None else skip
    if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
        raise ConfigError(f"skiprows={options['skiprows']!r}: it must be a number of lines")
    dialect = Dialect(
        delimiter=_delimiter(options, "\t" if options.get("suffix") == ".tsv" else ","),
        quote=None if quoting == 3 else _sign(options, "quotechar", '"'),
        escape=_sign(options, "escapechar", None),
        doublequote=_flag(options, "doublequote"),
        comment=_sign(options, "comment", None),
        ends=_ENDS[ends],
        encoding=safe_encoding(_encoding(options), source),
    )
    return InputOptions(
        dialect=check_dialect(dialect), header=header is not None, names=names, skip_lines=skip
    )


def output_options(options: Mapping[str, Any]) -> OutputOptions:
    """Read the options of a target.

    :param options: by pandas' names; ``names`` is another one for ``columns``.
    :raises ConfigError: an option that is unknown, or has a value that cannot be handled.
    """
    for option, value in options.items():
        if option in _OUT_ONLY:
            _check_only(option, value, _OUT_ONLY[option])
        elif option not in _OUT and option not in _HOW:
            raise ConfigError(f"option {option!r} of format 'csv' is unknown, or not handled")
    quoting = _one_of(options, "quoting", (0, 1), "0 (where it must be) and 1 (all) are handled in an output")
    line_end = _one_of(
        options, "lineterminator", ("\n", "\r\n", "\r"), "'\\n', '\\r\\n' and '\\r' are handled"
    )
    header = options.get("header", True)
    if not isinstance(header, bool):
        raise ConfigError(f"header={header!r} of a csv output: true or false; give names as columns")
    dialect = Dialect(
        delimiter=_delimiter(options, ","),
        quote=_sign(options, "quotechar", '"') or '"',
        encoding=safe_encoding(_encoding(options), "a csv output"),
    )
    check_dialect(dialect)
    return OutputOptions(
        dialect=dialect,
        columns=_names(options, "columns") or _names(options, "names"),
        header=header,
        line_end=line_end,
        null=_null(options, dialect),
        quote_all=quoting == 1,
    )


def keeps_form(options: Mapping[str, Any], dialect: Dialect, columns: tuple[str, ...] | None) -> bool:
    """Whether options of a target ask for nothing but what the source is, so that its bytes can stay.

    :param columns: of the source.
    :raises ConfigError: an option that is unknown, or has a value that cannot be handled.
    """
    wanted = output_options(options)
    same = {
        "sep": dialect.delimiter == wanted.dialect.delimiter,
        "delimiter": dialect.delimiter == wanted.dialect.delimiter,
        "quotechar": dialect.quote == wanted.dialect.quote,
        "encoding": dialect.encoding == wanted.dialect.encoding,
        "columns": columns == wanted.columns,
        "names": columns == wanted.columns,
        "header": wanted.header,
        "na_rep": not wanted.null,
        "quoting": not wanted.quote_all,
    }
    return all(
        same.get(option, False)
        for option, value in options.items()
        if value is not None and option not in _HOW and option not in _OUT_ONLY
    )


def _check_only(option: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not _is_one_of(value, allowed):
        raise ConfigError(f"{option}={value!r} of format 'csv' is not handled: leave it out")


def _is_one_of(value: Any, allowed: tuple[Any, ...]) -> bool:
    # 0 is no False here
    return any(type(value) is type(one) and value == one for one in allowed)


def _one_of(options: Mapping[str, Any], option: str, allowed: tuple[Any, ...], hint: str) -> Any:
    """The value of an option, the first one that is allowed where there is none."""
    value = options.get(option)
    if value is None:
        return allowed[0]
    if not _is_one_of(value, allowed):
        raise ConfigError(f"{option}={value!r} of format 'csv': {hint}")
    return value


def _encoding(options: Mapping[str, Any]) -> str:
    value = options.get("encoding")
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"encoding={value!r}: it must be the name of an encoding, e.g. 'utf-8'")
    return value or "utf-8"


def _null(options: Mapping[str, Any], dialect: Dialect) -> str:
    """The text of null. It stands without quotes, so that nothing in it may mean anything."""
    value = options.get("na_rep")
    value = "" if value is None else value
    if not isinstance(value, str):
        raise ConfigError(f"na_rep={value!r}: it must be a text")
    if any(sign in value for sign in (*dialect.delimiter, str(dialect.quote), "\r", "\n")):
        raise ConfigError(
            f"na_rep={value!r}: it must be a text without line ends, the delimiter {dialect.delimiter!r} and"
            f" the quotechar {dialect.quote!r}"
        )
    try:
        value.encode(dialect.encoding)
    except UnicodeEncodeError:
        raise ConfigError(f"na_rep={value!r} does not exist in encoding {dialect.encoding}") from None
    return value


def _delimiter(options: Mapping[str, Any], default: str) -> str:
    for option in ("sep", "delimiter"):
        if option in options:
            value = options[option]
            if value is None and option == "delimiter":
                continue
            if not isinstance(value, str) or not value:
                raise ConfigError(f"{option}={value!r}: give the delimiter, it is not guessed")
            return value
    return default


def _sign(options: Mapping[str, Any], option: str, default: str | None) -> str | None:
    value = options.get(option, default)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{option}={value!r}: it must be one character")
    return value or None


def _flag(options: Mapping[str, Any], option: str) -> bool:
    value = options.get(option)
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{option}={value!r}: it must be true or false")
    return value is not False


def _names(options: Mapping[str, Any], option: str) -> tuple[str, ...] | None:
    value = options.get(option)
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{option} must be a list of names")
    names = tuple(value)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ConfigError(f"{option} names {twice[0]!r} twice" if twice else f"{option} is empty")
    return names
