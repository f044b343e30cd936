"""Tags for objects that arrived, beside those that they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from chunkwise._aws import AwsBaseOperator, S3Hook, aws_template_fields
from chunkwise.core.arrival import Arrival, arrivals_of
from chunkwise.core.choices import check_number, check_texts
from chunkwise.core.errors import ChunkwiseError, ConfigError
from chunkwise.core.storage.tags import check_tags, merge_tags
from chunkwise.edge import permanent_fails_at_once
from chunkwise.state import plain_json

if TYPE_CHECKING:
    from airflow.sdk import Context


class S3TagObjectsOperator(AwsBaseOperator[S3Hook]):  # type: ignore[misc]  # amazon's operators are not typed
    """Give objects tags; tags that they have stay, unless one has the same key.

    Two requests for each object, one if it has the tags already. Every object is tried before an error fails
    the task, and a retry does what is missing. Objects that are gone, or that were deleted, are counted and
    are no error.

    **Guarantee.** Idempotent. S3 replaces all tags of an object at once, without a condition: of two writers
    of tags at the same moment, the later may undo what the earlier one added. An object that would have more
    than ten tags keeps those that it has, and fails the task.

    **Return value.** ``{"tagged": n, "unchanged": n, "gone": n, "failed": n}``. Airflow's role needs
    ``s3:GetObjectTagging`` and ``s3:PutObjectTagging`` (and the same of versions).

    :param objects: what arrived: ``"s3://bucket/key"``, or mappings with ``bucket`` and ``key``. (templated)
    :param tags: by key, 1 to 10. (templated)
    :param extension_tag: key of a further tag, whose value is the object's last suffix without its dot, e.g.
        ``"parquet"``; an object without one does not get it. (templated)
    :param concurrency: objects that are tagged at a time, 1 or more.
    :param extra_args: more arguments of the S3 calls, e.g. ``{"ExpectedBucketOwner": "..."}``. (templated)
    :param aws_conn_id: Airflow connection of AWS. (templated)
    :param region_name: AWS region; default: the connection's. (templated)
    :param verify: whether, or with which certificates, TLS is verified. (templated)
    :param botocore_config: members of botocore's ``Config``.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields("objects", "tags", "extension_tag", "extra_args")
    template_fields_renderers: ClassVar[dict[str, str]] = {"tags": "json", "extra_args": "json"}
    ui_color = "#e3f2ec"

    def __init__(
        self,
        *,
        objects: Sequence[Any] | Mapping[str, Any] | str,
        tags: Mapping[str, str] | None = None,
        extension_tag: str | None = None,
        concurrency: int = 8,
        extra_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.objects = objects
        self.tags = tags
        self.extension_tag = extension_tag
        self.concurrency = concurrency
        self.extra_args = extra_args

    def execute(self, context: Context) -> dict[str, int]:  # noqa: ARG002 - Airflow's signature
        """Tag all objects, and return the counts.

        :raises AirflowFailException: nothing would change if it were tried again.
        :raises ChunkwiseError: it may pass if it is tried again.
        """
        with permanent_fails_at_once():
            check_number("concurrency", self.concurrency, 1)
            if self.tags is not None:
                check_texts("tags", self.tags)
            if self.extension_tag is not None and not isinstance(self.extension_tag, str):
                raise ConfigError(f"extension_tag is {self.extension_tag!r}: it must be a text").naming(
                    "extension_tag"
                )
            if not self.tags and not self.extension_tag:
                raise ConfigError("give tags, or extension_tag").naming("tags", "extension_tag")
            arrivals = dict.fromkeys(arrivals_of(self.objects))
            work = [(arrival, self._tags_of(arrival)) for arrival in arrivals]
            for _, tags in work:
                if tags:
                    check_tags(tags)
            with ThreadPoolExecutor(self.concurrency, thread_name_prefix="chunkwise-tags") as pool:
                client = self.hook.conn
                results = list(pool.map(lambda item: self._tag(client, *item), work))
            counts = Counter("failed" if isinstance(one, ChunkwiseError) else one for one in results)
            failures = [one for one in results if isinstance(one, ChunkwiseError)]
            for error in failures:
                self.log.error("%s", error)
            for error in sorted(failures, key=lambda error: not error.transient):
                raise error
        found: dict[str, int] = plain_json(
            {name: counts[name] for name in ("tagged", "unchanged", "gone", "failed")}
        )
        return found

    def _tags_of(self, arrival: Arrival) -> dict[str, str]:
        tags = dict(self.tags or {})
        stem, dot, suffix = arrival.key.rpartition("/")[2].rpartition(".")
        if self.extension_tag and stem and dot and suffix:
            tags[self.extension_tag] = suffix.lower()
        return tags

    def _tag(self, client: Any, arrival: Arrival, tags: Mapping[str, str]) -> Any:
        if arrival.deleted:
            return "gone"
        if not tags:
            return "unchanged"
        try:
            return merge_tags(client, arrival.bucket, arrival.key, tags, extra_args=self.extra_args)
        except ChunkwiseError as error:
            return error
