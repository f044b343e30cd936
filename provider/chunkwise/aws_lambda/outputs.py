"""Where the output of a file goes, and which files the dispatcher leaves alone."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Final

from chunkwise.core.dispatch.spec import Target
from chunkwise.core.errors import ConfigError
from chunkwise.core.events.s3_records import ObjectCreated
from chunkwise.core.protect.mapping import FILE_NAME
from chunkwise.core.records.quarantine import ASIDE

_SCHEME: Final = "s3://"
_FIELDS: Final = ("key", "folder", "name", "stem")
#: why an object is left alone that lies where outputs go
OUTPUT: Final = "it is an output"
_COMPRESSIONS: Final = (".gz", ".zst")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outputs:
    """The rule for outputs.

    :param bucket: that they go to.
    :param form: of their keys, with fields in braces.
    """

    bucket: str
    form: str

    @classmethod
    def parse(cls, uri: str | None) -> Outputs:
        """Read the rule.

        :param uri: ``s3://bucket/prefix``, to which the file's key is added, or with ``{key}``; ``{folder}``,
            which ends with a slash or is empty; ``{name}``, behind the folder; ``{stem}``, the name without
            its suffixes for format and compression.
        :raises ConfigError: it is none.
        """
        if not uri or not uri.startswith(_SCHEME):
            raise ConfigError(f"CHUNKWISE_OUTPUT_URI is {uri!r}: it must be s3://bucket/prefix/")
        bucket, _, form = uri.removeprefix(_SCHEME).partition("/")
        try:
            parsed = [part[1:] for part in string.Formatter().parse(form) if part[1] is not None]
        except ValueError:
            parsed = [("", "", None)]
        # a conversion or a format would be applied to the names of files
        fields = [field if not (spec or conversion) else "" for field, spec, conversion in parsed]
        if not bucket or not set(fields) <= {*_FIELDS}:
            raise ConfigError(
                f"CHUNKWISE_OUTPUT_URI is {uri!r}: what stands in braces may be {', '.join(_FIELDS)}, alone"
            )
        if not fields:
            form = f"{form.rstrip('/')}/{{key}}" if form.strip("/") else "{key}"
        elif not {"key", "name", "stem"} & {*fields}:
            raise ConfigError(
                f"CHUNKWISE_OUTPUT_URI is {uri!r}: all files of a folder would have one output; add {{name}}"
            )
        return cls(bucket=bucket, form=form)

    @property
    def prefix(self) -> str:
        """What all keys of outputs begin with."""
        return self.form.partition("{")[0]

    def target(self, key: str) -> Target:
        """The output of a file."""
        folder, slash, name = key.rpartition("/")
        stem = name
        for suffix in _COMPRESSIONS:
            stem = stem.removesuffix(suffix)
        stem = stem.rpartition(".")[0] or stem
        made = self.form.format(key=key, folder=folder + slash, name=name, stem=stem)
        return Target(bucket=self.bucket, key=made)

    def check(self, bucket: str) -> None:
        """Refuse a rule by which outputs would be taken for files that have arrived, and so on for ever.

        :param bucket: where files arrive.
        :raises ConfigError: outputs go to the same bucket and nothing tells them from files.
        """
        if bucket == self.bucket and not self.prefix:
            raise ConfigError(
                f"CHUNKWISE_OUTPUT_URI s3://{self.bucket}/{self.form} puts outputs into the bucket whose"
                " files start the dispatcher, which would take them for files: use another one, or a prefix"
            )


def left_alone(created: ObjectCreated, outputs: Outputs) -> str | None:
    """Why an object is no file for the dispatcher; ``None``: it is one."""
    folders, _, name = created.key.rpartition("/")
    if any(folder.endswith(".dispatch") for folder in folders.split("/")):
        return "it lies in a staging directory"
    if ASIDE in folders.split("/"):
        return "it was put aside"
    if name == FILE_NAME:
        return "it says how the files beside it are treated"
    if not name:
        return "it stands for a folder"
    if created.bucket == outputs.bucket and outputs.prefix and created.key.startswith(outputs.prefix):
        return OUTPUT
    return None
