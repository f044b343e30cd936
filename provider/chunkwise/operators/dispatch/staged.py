"""What the tasks of a dispatch have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.staged import STAGED, Staged


class StagedOperator(Staged, AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """A task of a dispatch: it finds the staging directory, and so the plan, by the source or by its own URI.

    :param s3_key: key of the source, or a whole ``s3://bucket/key``. (templated)
    :param s3_bucket: its bucket, unless ``s3_key`` has it. (templated)
    :param staging_uri: ``s3://bucket/prefix`` below which staging directories stand; default: beside the
        source, as ``{key}.dispatch/``. A URI that ends with ``.dispatch/`` is the directory itself, and needs
        no ``s3_key``. (templated)
    :param staging_extra_args: more arguments of the S3 calls on what lies there, e.g.
        ``{"ServerSideEncryption": "aws:kms"}``. (templated)
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(*STAGED)

    def __init__(
        self,
        *,
        s3_key: str | None = None,
        s3_bucket: str | None = None,
        staging_uri: str | None = None,
        staging_extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.s3_key = s3_key
        self.s3_bucket = s3_bucket
        self.staging_uri = staging_uri
        self.staging_extra_args = staging_extra_args
