"""A whole dispatch, from its source to its output, as a test sees it."""

from __future__ import annotations

import json
from typing import Any

from chunkwise.core.dispatch.merge import merge_parts
from chunkwise.core.dispatch.model import MergeReceipt, Plan
from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.process import process_group
from chunkwise.core.dispatch.spec import Config, OnExisting, Source, Target
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.protect.mapping import parse_mapping
from chunkwise.core.protect.protector import ProtectorSpec
from tests.support import files
from tests.support.s3 import S3

#: the mapping of :func:`tests.support.files.people`, its protector and that one's key
MAPPING = parse_mapping(json.dumps(files.MAPPING).encode(), "mapping.json")
HMAC = ProtectorSpec(**files.HMAC)
SECRETS = {"key": files.KEY}


class Job:
    """One source, one config, one staging directory.

    :param s3: the bucket of the test.
    :param key: of the source.
    :param options: fields of the config.
    """

    def __init__(self, s3: S3, key: str, *, target: str | None = None, **options: Any) -> None:
        self.s3 = s3
        self.source = Source(bucket=s3.bucket, key=key)
        target_options = options.pop("target_options", {})
        self.target = Target(bucket=s3.bucket, key=target or f"out/{key}", **target_options)
        options.setdefault("threshold_bytes", None)
        self.config = Config(target=self.target, **options)
        self.staging = Staging.beside(s3.client, s3.bucket, key)
        self.secrets: dict[str, str] = {}

    def plan(self, on_existing: OnExisting = "fail") -> Plan:
        return plan_dispatch(
            self.s3.client, self.source, self.config, self.staging, on_existing=on_existing
        ).plan

    def process(self, *groups: int) -> None:
        plan = self.staging.load()
        for group in groups or range(plan.groups):
            process_group(self.s3.client, self.staging, group, secrets=self.secrets)

    def merge(self, **options: Any) -> MergeReceipt:
        return merge_parts(
            self.s3.client, self.staging, owner="test", run="1", secrets=self.secrets, **options
        )

    def run(self, **options: Any) -> MergeReceipt:
        self.plan()
        self.process()
        return self.merge(**options)

    @property
    def output(self) -> bytes:
        return self.s3.get(self.target.key)

    def staged(self) -> list[str]:
        keys = self.s3.keys()
        return [key for key in keys if key.startswith(self.staging.prefix)]
