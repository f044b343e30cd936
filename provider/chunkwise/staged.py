"""Where the tasks of a dispatch find its staging directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chunkwise.core.dispatch.places import staging_of
from chunkwise.core.dispatch.staging import Staging

#: what each task of a dispatch needs to find its staging directory, all of them templated
STAGED: Final = ("s3_bucket", "s3_key", "staging_uri", "staging_extra_args")


class Staged:
    """A task of a dispatch, operator or sensor: it has an S3 hook and the four parameters."""

    hook: Any
    s3_key: str | None
    s3_bucket: str | None
    staging_uri: str | None
    staging_extra_args: Mapping[str, Any] | None

    def staging(self) -> Staging:
        """The staging directory.

        :raises ConfigError: the parameters do not say where it is.
        """
        return staging_of(
            self.hook.conn,
            s3_bucket=self.s3_bucket,
            s3_key=self.s3_key,
            staging_uri=self.staging_uri,
            extra_args=self.staging_extra_args,
        )
