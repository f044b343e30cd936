"""Errors as Lambda's API answers them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ApiError(Exception):
    """An error of Lambda's API.

    :param code: the name of the exception in botocore's model.
    :param body: further members of the error.
    """

    status: int
    code: str
    message: str
    body: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def invalid(message: str) -> ApiError:
    return ApiError(400, "InvalidParameterValueException", message)


def not_found(message: str) -> ApiError:
    return ApiError(404, "ResourceNotFoundException", message)


def too_many(reason: str) -> ApiError:
    """A throttled request.

    :param reason: a ``ThrottleReason`` of botocore's model.
    """
    return ApiError(
        429, "TooManyRequestsException", "Rate Exceeded.", {"Reason": reason}, {"Retry-After": "1"}
    )
