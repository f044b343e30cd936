"""Tags of objects: what is there stays, unless a new value is given for the same key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from chunkwise.core.choices import check_texts
from chunkwise.core.errors import ConfigError, TaggingFailed, TooManyTags
from chunkwise.core.storage.arguments import CallArguments
from chunkwise.core.storage.failures import CALL_ERRORS, code_of, is_passing, reason

#: S3 User Guide, "Categorizing your objects using tags"
MAX_TAGS: Final = 10
MAX_KEY: Final = 128
MAX_VALUE: Final = 256

Tagged = Literal["tagged", "unchanged", "gone"]


def check_tags(tags: Mapping[str, str]) -> None:
    """:raises ConfigError: S3 would not take them."""
    check_texts("tags", tags)
    if not tags or len(tags) > MAX_TAGS:
        raise ConfigError(f"there are {len(tags)} tags: give 1 to {MAX_TAGS}").naming("tags")
    for key, value in tags.items():
        # S3 counts UTF-16 code units
        if not 1 <= _length(key) <= MAX_KEY or _length(value) > MAX_VALUE or key.startswith("aws:"):
            raise ConfigError(
                f"tag {key!r}: a key has 1 to {MAX_KEY} characters and does not begin with 'aws:', a value"
                f" {MAX_VALUE} at most"
            ).naming("tags")


def merge_tags(
    client: Any,
    bucket: str,
    key: str,
    tags: Mapping[str, str],
    *,
    version_id: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> Tagged:
    """Give an object tags beside those that it has. Doing it again does nothing.

    S3 only replaces all tags of an object, and knows no condition for it: of two writers at the same moment,
    the later one may undo what the earlier one added. An object that has all of the tags is not written.

    :param client: boto3 S3 client.
    :param tags: see :func:`check_tags`.
    :param version_id: of the version that is meant; default: the latest.
    :param extra_args: more arguments; those that the calls know are sent.
    :return: ``"gone"``: there is no such object.
    :raises TooManyTags: they would be more than ten; nothing was changed.
    :raises TaggingFailed: S3 refuses, or failed at every attempt.
    """
    uri = f"s3://{bucket}/{key}"
    place = {"Bucket": bucket, "Key": key, **({} if version_id is None else {"VersionId": version_id})}
    every = CallArguments(client, extra_args)
    try:
        answer = client.get_object_tagging(**place, **every.of("GetObjectTagging"))
        found = {one["Key"]: one["Value"] for one in answer.get("TagSet", ())}
        merged = {**found, **tags}
        if merged == found:
            return "unchanged"
        if len(merged) > MAX_TAGS:
            raise TooManyTags(
                f"{uri} has {len(found)} tags and would have {len(merged)}; S3 allows {MAX_TAGS}: remove"
                " some, or give fewer"
            )
        # the version that was read: another one may have been written since
        pinned = place if "VersionId" not in answer else {**place, "VersionId": answer["VersionId"]}
        tag_set = [{"Key": name, "Value": value} for name, value in merged.items()]
        client.put_object_tagging(**pinned, Tagging={"TagSet": tag_set}, **every.of("PutObjectTagging"))
    except CALL_ERRORS as error:
        if code_of(error) in ("NoSuchKey", "NoSuchVersion", "MethodNotAllowed"):
            return "gone"  # not allowed: a delete marker stands there
        raise TaggingFailed(
            f"{uri} could not be tagged: {reason(error)}", transient=is_passing(error)
        ) from error
    return "tagged"


def _length(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
