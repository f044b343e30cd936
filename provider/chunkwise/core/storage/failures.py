"""What an exception of botocore means, said without URLs, headers or bodies."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from urllib3.exceptions import HTTPError

#: what a call of a boto3 client raises
CALL_ERRORS: tuple[type[Exception], ...] = (ClientError, BotoCoreError)
#: the same, and what reading the body of an answer raises
BODY_ERRORS: tuple[type[Exception], ...] = (*CALL_ERRORS, HTTPError, OSError)
#: of these, what the same request may not meet again
_PASSING: tuple[type[Exception], ...] = (
    FlexibleChecksumError,
    HTTPClientError,
    HTTPError,
    IncompleteReadError,
    NoConnectionError,
    OSError,
)

#: answers that the same request may not get later although their status is 4xx
_PASSING_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "ExpiredToken",
        "NoSuchUpload",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeTooSkewed",
        "SlowDown",
    }
)


def code_of(error: BaseException) -> str:
    """S3's error code, e.g. ``"NoSuchUpload"``; empty for anything that is not an answer of S3."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status_of(error: BaseException) -> int:
    """HTTP status of S3's answer; 0 for anything that is not an answer of S3."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def was_retried(error: BaseException) -> bool:
    """Whether botocore sent the request more than once, so that an earlier attempt may have had an effect."""
    if not isinstance(error, ClientError):
        return True
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


def is_gone(error: BaseException) -> bool:
    """Whether S3 says that the upload does not exist: completed, aborted, or never there."""
    return code_of(error) == "NoSuchUpload"


def is_passing(error: BaseException) -> bool:
    """Whether the same work may succeed later: yes for the network, 5xx and throttling, no for a refusal."""
    if isinstance(error, ClientError):
        status = status_of(error)
        # botocore makes a 500 of an error inside a 200
        return status >= 500 or status == 429 or code_of(error) in _PASSING_CODES
    return isinstance(error, _PASSING)


def reason(error: BaseException) -> str:
    """One phrase for an error message, e.g. ``"SlowDown (HTTP 503): Please reduce your request rate."``.

    An error that is not an answer of S3 is named by its class only: botocore and urllib3 put URLs with
    queries into their texts.
    """
    if isinstance(error, ClientError):
        message = str(error.response.get("Error", {}).get("Message") or "no message")
        return f"{code_of(error) or 'unknown code'} (HTTP {status_of(error)}): {message}"
    if isinstance(error, BODY_ERRORS):
        return type(error).__name__
    return f"{type(error).__name__}: {error}"
