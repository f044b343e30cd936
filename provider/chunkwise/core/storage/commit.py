"""What the answer to a commit says of the object, for whoever commits: one request or an upload."""

from __future__ import annotations

from chunkwise.core.errors import ObjectExists, UploadConflict, UploadFailed
from chunkwise.core.storage.failures import code_of, is_passing, reason, status_of
from chunkwise.core.storage.target import Standing


def is_refused(error: Exception, standing: Standing, *, repeated: bool) -> bool:
    """Whether the condition did not hold. A 412 to a repeated request may be the answer to its own success,
    unless the object that stands there is known to be another one's.

    :param standing: what the key has after the error.
    :param repeated: an earlier request may have had an effect.
    """
    return status_of(error) == 412 and (standing.known or not repeated)


def check_gone(uri: str, error: Exception) -> None:
    """:raises ObjectExists: there is nothing whose ETag could be the one that was named."""
    if status_of(error) == 404 and code_of(error) == "NoSuchKey":
        raise ObjectExists(f"{uri} is gone, but if_match names an ETag; nothing was written") from error


def conflict(uri: str) -> UploadConflict:
    """S3 answered 409 to the commit."""
    return UploadConflict(f"{uri}: another writer was busy with this key; nothing was written")


def failed(uri: str, error: Exception, standing: Standing, *, repeated: bool) -> UploadFailed:
    """The commit failed, as far as anybody knows.

    :param standing: what the key has after the error.
    :param repeated: an earlier request may have had an effect.
    """
    unsure = ""
    if repeated and not standing.known:
        unsure = "; HeadObject failed too, so the object may be there or not"
    failure = UploadFailed(f"the commit of {uri} failed: {reason(error)}{unsure}")
    failure.transient = is_passing(error)
    return failure
