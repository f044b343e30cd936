"""Where a dispatch reads, writes and keeps its state, from what a user says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chunkwise.core.dispatch.spec import Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.errors import ConfigError

_SCHEME = "s3://"


def bucket_and_key(
    bucket: str | None, key: str | None, *, bucket_name: str, key_name: str
) -> tuple[str, str]:
    """Bucket and key, from a key beside its bucket or from one ``s3://bucket/key``.

    A key may hold anything, also ``?`` and ``#``: it is taken as it stands.

    :param bucket: ``None`` or empty if the key has it.
    :param bucket_name: of the parameter, for the error.
    :param key_name: the same.
    :raises ConfigError: one is missing, or the bucket is there twice.
    """
    bucket, key = bucket or "", key or ""
    if key.startswith(_SCHEME):
        if bucket:
            raise ConfigError(f"{key_name} is {key!r}, and {bucket_name} is {bucket!r}: say the bucket once")
        bucket, _, key = key.removeprefix(_SCHEME).partition("/")
    if not bucket or not key:
        raise ConfigError(
            f"{key_name} must be s3://bucket/key, or a key beside {bucket_name};"
            f" {'the key is' if bucket else 'the bucket is'} missing"
        )
    return bucket, key


def source_of(bucket: str | None, key: str, version_id: str | None = None) -> Source:
    """The object that is read.

    :param bucket: see :func:`bucket_and_key`.
    :param key: see there.
    :param version_id: empty is none.
    """
    found = bucket_and_key(bucket, key, bucket_name="s3_bucket", key_name="s3_key")
    return Source(bucket=found[0], key=found[1], version_id=version_id or None)


def target_of(bucket: str | None, key: str | None, **options: Any) -> Target:
    """The object that is written.

    :param bucket: see :func:`bucket_and_key`.
    :param key: see there.
    :param options: further fields of the target.
    """
    found = bucket_and_key(bucket, key, bucket_name="target_bucket", key_name="target_key")
    return Target(bucket=found[0], key=found[1], **options)


def staging_of(
    client: Any,
    *,
    s3_bucket: str | None = None,
    s3_key: str | None = None,
    staging_uri: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> Staging:
    """The staging directory, from the source, from its own URI, or from both.

    :param client: S3 client.
    :param s3_bucket: of the source, see :func:`bucket_and_key`.
    :param s3_key: of the source; not needed beside the URI of the directory itself.
    :param staging_uri: a prefix for directories, or one that ends with ``.dispatch/``: the directory itself.
    :param extra_args: of the S3 calls on what lies in it.
    :raises ConfigError: they do not say where it is.
    """
    itself = bool(staging_uri) and str(staging_uri).endswith(".dispatch/")
    if itself and not s3_key:
        bucket, key = s3_bucket or "", ""
    else:
        bucket, key = bucket_and_key(s3_bucket, s3_key, bucket_name="s3_bucket", key_name="s3_key")
    return Staging.beside(client, bucket, key, uri=staging_uri or None, extra_args=extra_args)
