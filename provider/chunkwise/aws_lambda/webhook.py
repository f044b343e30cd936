"""A function URL that takes rows: what it accepts is safe in SQS or on S3 before it says so."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from chunkwise.aws_lambda import clients, environment, logs
from chunkwise.aws_lambda.secrets import Secrets
from chunkwise.core.errors import ChunkwiseError, ConfigError, MessageTooLong, ObjectExists, RequestRefused
from chunkwise.core.queue.bodies import Rows
from chunkwise.core.queue.send import MAX_MESSAGE, needs_spelling, send_rows, sendable
from chunkwise.core.records.compression import codec
from chunkwise.core.storage import objects
from chunkwise.core.units import MiB
from chunkwise.core.variables import Number, Object, Variable, read
from chunkwise.core.webhook import Request, has_lists

log = logging.getLogger(__name__)

#: of ``CHUNKWISE_SECRETS``
SECRET_NAME: Final = "webhook"  # noqa: S105 (a name)
VARIABLES: Final[tuple[Variable, ...]] = (
    Variable(
        name="CHUNKWISE_WEBHOOK_QUEUE_URL",
        field="queue_url",
        default="none: this or CHUNKWISE_WEBHOOK_URI",
        means="the SQS queue that rows are sent to",
    ),
    Variable(
        name="CHUNKWISE_WEBHOOK_URI",
        field="uri",
        default="none",
        means="`s3://bucket/prefix/` below which each request becomes an object of gzip JSON Lines",
    ),
    Object(
        name="CHUNKWISE_WEBHOOK_EXTRA_ARGS",
        field="extra_args",
        default="{}",
        means="more arguments of PutObject, e.g. for encryption",
    ),
    Variable(
        name="CHUNKWISE_WEBHOOK_HEADER",
        field="header",
        default="authorization",
        means="the header that holds the secret, alone or after `Bearer`",
    ),
    Variable(
        name="CHUNKWISE_WEBHOOK_SECRET",
        field="secret",
        default='that of the name "webhook" in CHUNKWISE_SECRETS, where it should rather be',
        means="the secret",
    ),
    Number(
        name="CHUNKWISE_WEBHOOK_MAX_BYTES",
        field="max_bytes",
        low=1,
        high=256 * MiB,
        default=str(32 * MiB),
        means="bytes of a decompressed body; a function needs 128 MB and three times as much memory,"
        " eight times as much for tiny rows",
    ),
)
#: a bucket, and a folder if one is given: without the slash, names of objects would go on with the prefix
_URI: Final = re.compile(r"s3://[A-Za-z0-9._-]+/(?:[^/].*/)?")
#: seconds after which a client may try again
_RETRY_AFTER: Final = "5"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the function is configured with; the fields are those of :data:`VARIABLES`."""

    queue_url: str | None = None
    uri: str | None = None
    extra_args: dict[str, Any] = {}
    header: str = "authorization"
    secret: str | None = None
    max_bytes: int = 32 * MiB

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """:raises ConfigError: naming the variables that are wrong, and never what the secret is."""
        found = cls(**read(VARIABLES, os.environ if environ is None else environ))
        if (found.queue_url is None) == (found.uri is None):
            raise ConfigError("environment: set one of CHUNKWISE_WEBHOOK_QUEUE_URL and CHUNKWISE_WEBHOOK_URI")
        if found.uri is not None and not _URI.fullmatch(found.uri):
            raise ConfigError(
                "environment: CHUNKWISE_WEBHOOK_URI must be s3://bucket/prefix/, with the slash at its end"
            )
        return found


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Take the rows of one request.

    **Body.** One JSON object, an array of objects, or JSON Lines; plain or gzip; UTF-8. All of its rows are
    taken, or none: an error names the first line that is wrong, and holds no data.

    **Answers.** 202 with ``{"accepted": rows}`` once every row is safe: in SQS, as messages of JSON Lines
    that :class:`~chunkwise.transfers.sqs_to_s3.SqsToS3Operator` reads, or on S3 as one object. 400, 401, 405,
    413 and 415 say what is wrong with the request, 500 that the function is not set up or may not write, and
    503 that it may be tried again. Nothing is dropped without one of them.

    **Delivery.** At least once: who gets no 202 sends again, and rows that were sent to SQS before the error
    come twice. On S3 an object is named by the request's ``idempotency-key``, if it has one, and its content:
    sent again, it is the same object. The name of a request without such a key holds Lambda's request id.

    **Size.** Lambda takes 6 MB of a request, as it was sent. A compressed body is inflated up to
    ``CHUNKWISE_WEBHOOK_MAX_BYTES`` and no further, whatever it would become, and only for who knows the
    secret. Beside what was sent and 64 MiB of Lambda's runtime and libraries, memory is two to three times
    the inflated body, and up to eight times it for rows of a few bytes each. In SQS a row may have 1 MiB, or
    what the queue's ``MaximumMessageSize`` says.

    **Events** are those of function URLs, API Gateway (HTTP and REST) and load balancers, also with headers
    of several values, of which the last one counts.
    """
    logs.set_up(environment.settings().log_level)
    with logs.bound(request_id=context.aws_request_id, function=context.function_name):
        answer = _handle(event, context.aws_request_id)
    if has_lists(event):
        answer["multiValueHeaders"] = {name: [value] for name, value in answer.pop("headers").items()}
    return answer


def _handle(event: Any, request_id: str) -> dict[str, Any]:
    try:
        settings = Settings.read()
        request = Request.of(event)
        request.check_secret(settings.header, _secret(settings))
        if request.method != "POST":
            raise RequestRefused("send a POST", status=405)
        rows = request.rows(settings.max_bytes)
        _keep(rows, request, settings, request_id)
    except RequestRefused as error:
        log.warning("refused with %d: %s", error.status, error)
        return _answer(error.status, {"error": str(error)})
    except ChunkwiseError as error:
        # where rows are kept is nothing for who sends them
        log.error("%s: %s", type(error).__name__, error)
        status = 503 if error.transient else 500
        text = "the rows could not be stored: try again" if error.transient else "the webhook is not set up"
        return _answer(status, {"error": text})
    log.info("accepted %d rows", len(rows))
    return _answer(202, {"accepted": len(rows)})


def _secret(settings: Settings) -> str:
    secret = settings.secret
    if secret is None:
        places = environment.settings().secrets
        if SECRET_NAME not in places:
            raise ConfigError(
                f"environment: CHUNKWISE_SECRETS names no secret {SECRET_NAME!r}, and"
                " CHUNKWISE_WEBHOOK_SECRET is not set"
            )
        secret = Secrets(places)[SECRET_NAME]
    # no header can hold blanks around a value: they came with how the secret was stored, as by `echo ... |`
    secret = secret.strip()
    if not secret or not secret.isprintable():
        raise ConfigError(
            f"secret {SECRET_NAME!r} is empty, or has line breaks or the like in it, which no header can hold"
        )
    return secret


def _keep(rows: Rows, request: Request, settings: Settings, request_id: str) -> None:
    """:raises ChunkwiseError: not all rows are safe."""
    if settings.queue_url is None:
        _put(rows.text, request, settings, request_id)
        return
    sent = Rows(map(sendable, rows)) if needs_spelling(rows.text) else rows
    for number, row in enumerate(sent, 1):
        if len(row) > MAX_MESSAGE:
            raise RequestRefused(
                f"row {number} has {len(row)} bytes, and {MAX_MESSAGE} are the limit", status=413
            )
    try:
        send_rows(clients.sqs(), settings.queue_url, sent)
    except MessageTooLong as error:
        for number, row in enumerate(sent, 1):
            if len(row) > error.limit:
                log.error("%s", error)
                raise RequestRefused(
                    f"row {number} has {len(row)} bytes, and {error.limit} are the limit", status=413
                ) from None
        raise


def _put(lines: bytearray, request: Request, settings: Settings, request_id: str) -> None:
    bucket, _, prefix = str(settings.uri).removeprefix("s3://").partition("/")
    key = request.headers.get("idempotency-key")
    name = (
        request_id if key is None else hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    )
    gzip = codec("gzip")
    body = gzip.compress(lines) + gzip.end_member()
    with suppress(ObjectExists):  # the content is in the name: it is the same
        objects.put_new(
            clients.s3(),
            bucket,
            f"{prefix}{name}-{hashlib.sha256(lines).hexdigest()[:32]}.jsonl.gz",
            body,
            content_type=gzip.content_type,
            extra_args=settings.extra_args,
        )


def _answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"content-type": "application/json"}
    if status == 405:
        headers["allow"] = "POST"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status == 503:
        headers["retry-after"] = _RETRY_AFTER
    return {"statusCode": status, "headers": headers, "body": json.dumps(body)}
