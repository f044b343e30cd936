"""Options of JSON sources and targets: those of pandas' read_json and to_json that mean what we do anyway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chunkwise.core.errors import ConfigError, UnsupportedSource
from chunkwise.core.selector import Selector

_UTF8: Final = frozenset({"utf-8", "utf8", "utf-8-sig", "ascii", "us-ascii"})
#: no value is converted, whatever they say
_NO_CONVERSION: Final = frozenset(
    {"convert_axes", "convert_dates", "date_unit", "dtype", "keep_default_dates", "precise_float"}
)
RECORDS_PATH: Final = "records_path"
_HOW_TO_WRITE: Final = frozenset({"force_ascii", "index"})


def check_input(options: Mapping[str, Any], *, lines: bool, name: str) -> None:
    """Refuse options that would change what is read.

    :param lines: whether the format is JSON Lines.
    :param name: of the format.
    :raises ConfigError: an option that is unknown or means something else.
    :raises UnsupportedSource: an encoding that is not UTF-8.
    """
    for option, value in options.items():
        if option == "encoding":
            if value is not None and str(value).lower().replace("_", "-") not in _UTF8:
                raise UnsupportedSource(f"encoding {value!r} of {name}: only UTF-8 can be handled")
        elif option == RECORDS_PATH and not lines:
            path_of(options)
        elif option not in _NO_CONVERSION:
            _check(option, value, lines=lines, name=name)


def path_of(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that lead to the array of records; none: it is the document.

    :raises ConfigError: it is no plain path.
    """
    path = options.get(RECORDS_PATH)
    path = "" if path is None else path
    plain = isinstance(path, str) or (
        isinstance(path, list | tuple) and all(isinstance(key, str) for key in path)
    )
    keys = Selector.compile(path).keys if plain else None
    if keys is None:
        raise ConfigError(
            f"{RECORDS_PATH} is {path!r}: give the keys of the objects around the array, e.g. 'data.items'"
        )
    return keys


def check_output(options: Mapping[str, Any], *, lines: bool, name: str) -> None:
    """The same for what is written.

    :raises ConfigError: an option that is unknown or means something else.
    """
    for option, value in options.items():
        if option not in _HOW_TO_WRITE:
            _check(option, value, lines=lines, name=name)
        elif value is not None and value is not False:
            raise ConfigError(f"{option}={value!r} of a {name} output is not handled: only false is")


def _check(option: str, value: Any, *, lines: bool, name: str) -> None:
    if option == "lines":
        if value is not lines:
            raise ConfigError(
                f"lines={value!r} is not format {name!r}: choose 'jsonl' for lines, else 'json'"
            )
    elif option == "orient":
        if value not in (None, "records"):
            raise ConfigError(f"orient={value!r} is not handled for format {name!r}: only 'records' is")
    else:
        raise ConfigError(f"option {option!r} of format {name!r} is unknown")
