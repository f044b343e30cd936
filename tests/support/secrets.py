"""Find a secret in whatever an error shows of itself."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator

import pytest

SECRET = "s3cr3t-T0k3n+/="


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that it was raised from or in the context of, suppressed or not."""
    seen: list[BaseException | None] = [error]
    for item in seen:
        if item is not None:
            yield item
            seen += [found for found in (item.__cause__, item.__context__) if found not in seen]


def assert_hidden(error: BaseException | None, caplog: pytest.LogCaptureFixture, *secrets: str) -> None:
    """No secret stands in the error, in its chain, in the traceback that Python prints, or in the log."""
    texts = [caplog.text, *(record.getMessage() for record in caplog.records)]
    if error is not None:
        texts += [text for item in chain(error) for text in (str(item), repr(item), repr(vars(item)))]
        texts += ["".join(traceback.format_exception_only(item)) for item in chain(error)]
    for secret in secrets or (SECRET,):
        assert not [text for text in texts if secret in text]


def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    """Let all libraries say all they can."""
    caplog.set_level(logging.DEBUG)
