"""Extra arguments of a user, each sent with those S3 calls that accept it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.validate import ParamValidator

from chunkwise.core.choices import check_texts
from chunkwise.core.errors import ConfigError

#: what the writer sets itself, and where a user says it instead
_OWN = {
    "Body": "it is what you write",
    "Bucket": "use bucket",
    "ContentLength": "it is counted",
    "ContentMD5": "use checksum",
    "ContentType": "use content_type",
    "IfMatch": "use if_match",
    "IfNoneMatch": "use on_exists",
    "Key": "use key",
    "Metadata": "use metadata",
}
#: how an object is kept and who may read it: what holds for an object holds for the pieces that it is made of
KEEPING = frozenset(
    {
        "BucketKeyEnabled",
        "ExpectedBucketOwner",
        "RequestPayer",
        "SSECustomerAlgorithm",
        "SSECustomerKey",
        "SSECustomerKeyMD5",
        "SSEKMSEncryptionContext",
        "SSEKMSKeyId",
        "ServerSideEncryption",
    }
)
_COMPRESSED_SUFFIXES = (".gz", ".zst")
#: S3 User Guide, "Working with object metadata": bytes of all names and values
_MAX_METADATA = 2 * 1024


def check_metadata(metadata: Any, *more: str) -> None:
    """Refuse user metadata that S3, or the client, would refuse with the last request.

    :param more: names and values that the writer adds.
    :raises ConfigError: it is no mapping of texts to texts, has other letters than ASCII's, or too many.
    """
    if metadata is None:
        return
    check_texts("metadata", metadata)
    for name, value in metadata.items():
        if not name or not (name + value).isascii() or not (name + value).isprintable() or " " in name:
            raise ConfigError(
                f"metadata gives {name!r} something that no HTTP header can hold: letters beyond ASCII, or"
                " line breaks; encode it, e.g. by urllib.parse.quote"
            ).naming("metadata")
    size = sum(map(len, (*metadata, *metadata.values(), *more)))
    if size > _MAX_METADATA:
        raise ConfigError(
            f"metadata has {size} bytes with what the writer adds, and S3 takes {_MAX_METADATA}"
        ).naming("metadata")


class CallArguments:
    """The extra arguments, sorted by call.

    Which call accepts what is read from botocore's model of S3, so that ``ServerSideEncryption`` goes to
    CreateMultipartUpload, ``SSECustomerKey`` to every part as well, and ``ExpectedBucketOwner`` to all calls.

    :param client: boto3 S3 client.
    :param extra_args: names as in boto3's ``put_object``, e.g. ``{"ServerSideEncryption": "aws:kms"}``.
    :param key: key of the object that is written.
    :raises ConfigError: a name that PutObject and CreateMultipartUpload do not both accept, that the writer
        sets itself, or a ``ContentEncoding`` on a compressed file.
    """

    def __init__(self, client: Any, extra_args: Mapping[str, Any] | None = None, *, key: str = "") -> None:
        if extra_args is not None and not isinstance(extra_args, Mapping):
            raise ConfigError(
                f"extra_args must give arguments by name, and is of type {type(extra_args).__name__}"
            ).naming("extra_args")
        self._model = client.meta.service_model
        self._extra = dict(extra_args or {})
        self._check(key)

    def of(self, operation: str) -> dict[str, Any]:
        """The arguments that this operation accepts.

        :param operation: name in S3's API, e.g. ``"UploadPart"``.
        """
        members = self._members(operation)
        return {name: value for name, value in self._extra.items() if name in members}

    def _members(self, operation: str) -> Mapping[str, Any]:
        members: Mapping[str, Any] = self._model.operation_model(operation).input_shape.members
        return members

    def _check_value(self, name: str) -> None:
        # S3 would say so at the first request, which may come after hours of work
        value = self._extra[name]
        whole = self._model.operation_model("CreateMultipartUpload").input_shape
        if ParamValidator().validate({"Bucket": "b", "Key": "k", name: value}, whole).has_errors():
            kind = whole.members[name].type_name
            raise ConfigError(f"extra_args has a wrong value of {name}: it must be a {kind}").naming(
                "extra_args"
            )

    def _check(self, key: str) -> None:
        # An argument that only one of the two calls knows would act or not act depending on the size of the
        # object.
        small, large = self._members("PutObject"), self._members("CreateMultipartUpload")
        for name in self._extra:
            if name in _OWN:
                raise ConfigError(f"extra_args must not contain {name}: {_OWN[name]}")
            if name.startswith("Checksum"):
                raise ConfigError(f"extra_args must not contain {name}: use checksum")
            if name not in small or name not in large:
                raise ConfigError(
                    f"extra_args has an unknown name {name!r}: "
                    "PutObject and CreateMultipartUpload must both accept it"
                )
            self._check_value(name)
        if "ContentEncoding" in self._extra and key.lower().endswith(_COMPRESSED_SUFFIXES):
            raise ConfigError(
                f"ContentEncoding is refused for {key!r}: HTTP clients would decompress it silently and "
                "store plain bytes under a compressed name; use content_type, e.g. application/gzip"
            )
