"""The dispatcher: a file lands on S3, and is planned; processors do the rest, and the last one merges.

The event is the S3 ObjectCreated event of files, directly or by way of EventBridge, SQS or SNS, or
``{"source": "s3://bucket/key"}`` for a file that is there already. Where it goes, who protects it and how it
is cut say the environment variables and the nearest ``mapping.json``; the plan holds a snapshot of both, so
that nothing that changes later changes a job that runs.
"""

from __future__ import annotations

import logging
import uuid
from datetime import datetime
from typing import Any, Final

import msgspec

from chunkwise.aws_lambda import arrived, clients, environment, logs
from chunkwise.aws_lambda.durable import durable
from chunkwise.aws_lambda.invoking import invoke_all
from chunkwise.aws_lambda.outputs import OUTPUT, Outputs, left_alone
from chunkwise.aws_lambda.secrets import Secrets
from chunkwise.core.dispatch.last import merge_if_last
from chunkwise.core.dispatch.merge import SOURCE_ETAG
from chunkwise.core.dispatch.plan import plan_dispatch
from chunkwise.core.dispatch.settings import AUTO, config_of, mapping_of
from chunkwise.core.dispatch.spec import Config, LastMerge, Source, Target
from chunkwise.core.dispatch.staging import Staging, parse_state
from chunkwise.core.errors import ChunkwiseError, ConfigError, DispatchError, ReadFailed, SourceNotFound
from chunkwise.core.events.model import ObjectCreated
from chunkwise.core.storage.failures import CALL_ERRORS, is_passing, reason, status_of
from chunkwise.core.storage.source import ObjectRef, pin

log = logging.getLogger(__name__)

#: MAX_PARALLEL_PROTECT_CALLS of S3 Protector
_PARALLEL: Final = 1_000
_SCHEME: Final = "s3://"
#: in the place of the name of an event
_BY_HAND: Final = "by hand"
#: failures that one message tells
_TOLD: Final = 5


@durable
def handler(event: Any, context: Any) -> dict[str, Any]:
    """Plan what the event names.

    **Deliveries.** The same event may come twice, or late: a plan that stands there is gone on with, an event
    of a file that was overwritten is left to the later one, and an output that was published after the event
    is not made again. A file that was overwritten while its job ran gets a new plan instead of the old one.

    **Processors** are started by the events of the manifests, or invoked (``CHUNKWISE_PROCESSOR_FUNCTION``).

    :return: ``{"files": [{"source", "state", "dispatch", "target", "chunks"}, ...], "rejected": n}``, where
        the state is ``"planned"``, ``"resumed"``, ``"ignored"``, ``"superseded"``, ``"published"`` or
        ``"gone"``.
    :raises ChunkwiseError: a file cannot be planned; the others are nevertheless. A file that was named by
        hand is there; and what lies where outputs go is one.
    """
    settings = environment.settings()
    logs.set_up(settings.log_level)
    with logs.bound(request_id=context.aws_request_id, function=context.function_name):
        outputs = Outputs.parse(settings.output_uri)
        created, rejected = _read(event)
        for why in rejected:
            log.warning("rejected: %s", why)
        planner = Planner(settings, outputs, context)
        answers, failures = [], []
        for one in created:
            try:
                answers.append(planner.one(one))
            except ChunkwiseError as error:
                log.error("%s: %s", one.uri, error)
                failures.append((one, error))
        if len(failures) == 1:
            raise failures[0][1]
        if failures:
            told = "; ".join(f"{one.uri}: {error}" for one, error in failures[:_TOLD])
            raise DispatchError(f"{len(failures)} of {len(created)} files could not be planned: {told}")
        return {"files": answers, "rejected": len(rejected)}


class Planner:
    """Plans files within one invocation.

    :param settings: of the function.
    :param outputs: where outputs go.
    :param context: of the invocation.
    """

    def __init__(self, settings: environment.Settings, outputs: Outputs, context: Any) -> None:
        self._settings = settings
        self._outputs = outputs
        self._context = context
        self._client = clients.s3()

    def one(self, created: ObjectCreated) -> dict[str, Any]:
        """Plan a file, and start its processors.

        :return: see :func:`handler`.
        :raises ChunkwiseError: see there.
        """
        why = left_alone(created, self._outputs)
        if why == OUTPUT and not self._is_output(created):
            raise ConfigError(
                f"{created.uri} lies where CHUNKWISE_OUTPUT_URI puts outputs"
                f" (s3://{self._outputs.bucket}/{self._outputs.form}) and is none: let files arrive, or"
                " outputs go, elsewhere"
            )
        if why is not None:
            log.info("%s is left alone: %s", created.uri, why)
            return {"source": created.uri, "state": "ignored"}
        self._outputs.check(created.bucket)
        target = self._outputs.target(created.key)
        if (target.bucket, target.key) == (created.bucket, created.key):
            raise ConfigError(f"{created.uri} would be its own output: see CHUNKWISE_OUTPUT_URI")
        try:
            ref = pin(self._client, created.bucket, created.key)
        except SourceNotFound as error:
            if created.event == _BY_HAND:
                raise SourceNotFound(f"{error}: correct the event's source, or put the file there") from error
            log.info("%s is gone: it was read and removed, or somebody removed it", created.uri)
            return {"source": created.uri, "state": "gone"}
        if created.etag is not None and created.etag != ref.etag.strip('"'):
            log.info("%s was overwritten: a later event is for what stands there now", created.uri)
            return {"source": created.uri, "state": "superseded"}
        if self._published_since(created, ref, target):
            log.info("%s was made from %s after this event: nothing to do", target.uri, created.uri)
            return {"source": created.uri, "state": "published", "target": target.uri}
        source = Source(bucket=created.bucket, key=created.key)
        staging = Staging.beside(
            self._client,
            created.bucket,
            created.key,
            uri=self._settings.staging_uri,
            extra_args=self._settings.staging_extra_args,
        )
        with logs.bound(dispatch=staging.uri):
            return self._plan(source, ref, target, staging)

    def _plan(self, source: Source, ref: ObjectRef, target: Target, staging: Staging) -> dict[str, Any]:
        standing = staging.find()
        outdated = standing is not None and standing.source.etag != ref.etag
        if outdated:
            log.warning("%s was overwritten while its dispatch ran: planning it again", ref.uri)
        planned = plan_dispatch(
            self._client,
            source,
            self._config(source, target),
            staging,
            on_existing="restart" if outdated else "resume",
        )
        plan = planned.plan
        log.info(
            "%s (%d bytes of %s) is %s: %d chunks, output %s",
            ref.uri,
            ref.size,
            plan.format,
            "gone on with" if planned.resumed else "planned",
            plan.chunks,
            target.uri,
        )
        answer = {
            "source": ref.uri,
            "state": "resumed" if planned.resumed else "planned",
            "dispatch": staging.uri,
            "target": target.uri,
            "chunks": plan.chunks,
        }
        if planned.resumed:
            # the last processor may have been killed before it merged
            receipt = merge_if_last(
                self._client,
                staging,
                owner=f"{self._context.function_name} {self._context.log_stream_name}",
                run=self._context.aws_request_id,
                secrets=Secrets(self._settings.secrets),
                lambda_client=clients.Lazy(clients.invoking),
            )
            if receipt is not None:
                return {**answer, "state": "published"}
        if self._settings.processor_function is not None:
            states = [parse_state(item.key) for item in staging.list(staging.state_prefix)]
            begun = {
                state.chunk for state in states if state is not None and state.kind in ("done", "started")
            }
            invoke_all(
                clients.invoking(),
                self._settings.processor_function,
                staging,
                plan,
                [chunk for chunk in range(plan.chunks) if chunk not in begun],
                attempt=f"dispatcher-{uuid.uuid4().hex[:6]}",
                in_flight=self._settings.invokes_in_flight,
            )
        return answer

    def _config(self, source: Source, target: Target) -> Config:
        mapping = mapping_of(self._client, source, AUTO)
        parameters = dict(self._settings.parameters)
        if mapping is not None and not mapping.columns:
            # the nearest mapping says that nothing is protected here; that there is none at all is an error
            parameters.pop("protector", None)
        protector = parameters.get("protector")
        if isinstance(protector, dict) and protector.get("name") == "lambda":
            options = {"max_parallel_protect_calls": _PARALLEL, **self._settings.protector_options}
            options.update(protector.get("options") or {})
            parameters["protector"] = {**protector, "options": options}
        config = config_of(target, {**parameters, "mapping": mapping})
        return msgspec.structs.replace(config, last_merge=LastMerge(delete_input=self._settings.delete_input))

    def _published_since(self, created: ObjectCreated, ref: ObjectRef, target: Target) -> bool:
        """Whether the output was made from this very object after the event: the event comes again."""
        if created.time is None:
            return False
        head = self._head(target.bucket, target.key)
        if head is None:
            return False
        made: datetime = head["LastModified"]
        same = head.get("Metadata", {}).get(SOURCE_ETAG) == ref.etag.strip('"')
        return same and made >= created.time.replace(microsecond=0)

    def _is_output(self, created: ObjectCreated) -> bool:
        """Whether an object where outputs go is one, or the rows that were put aside from one."""
        rejects = self._settings.parameters.get("rejects")
        aside = rejects.get("key") if isinstance(rejects, dict) else None
        if created.key == aside:
            return True
        head = self._head(created.bucket, created.key)
        return head is None or SOURCE_ETAG in head.get("Metadata", {})

    def _head(self, bucket: str, key: str) -> dict[str, Any] | None:
        """What S3 says about an object; ``None``: it is not there, or not to be seen."""
        try:
            head: dict[str, Any] = self._client.head_object(Bucket=bucket, Key=key)
        except CALL_ERRORS as error:
            if status_of(error) in (403, 404):
                return None
            raise ReadFailed(
                f"s3://{bucket}/{key} could not be looked at: {reason(error)}", transient=is_passing(error)
            ) from error
        return head


def _read(event: Any) -> tuple[list[ObjectCreated], list[str]]:
    """The files that an event names, and why other records are none.

    :raises ConfigError: it is no event of a kind that is known.
    """
    by_hand = isinstance(event, dict) and "source" in event and not {"detail", "detail-type"} & {*event}
    if by_hand:
        source = event["source"]
        bucket, _, key = (
            source.removeprefix(_SCHEME).partition("/") if isinstance(source, str) else ("", "", "")
        )
        if bucket and key and source.startswith(_SCHEME):
            return [ObjectCreated(bucket=bucket, key=key, event=_BY_HAND)], []
    found = None if by_hand else arrived.created(event)
    if found is None:
        wrong = "its source is no such URI" if by_hand else "it is neither"
        raise ConfigError(
            'the event must be {"source": "s3://bucket/key"}, or an S3 ObjectCreated event, directly or by'
            f" way of EventBridge, SQS or SNS; {wrong}"
        )
    return found
