"""Which permissions calls of S3, SQS and Secrets Manager need, and whether a policy gives them.

Sources: Amazon S3 API reference, "Permissions" of each operation, and "Required permissions for Amazon S3 API
operations"; Service Authorization Reference for the others; AWS IAM user guide, "Policy evaluation logic".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

_OBJECT = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "DeleteObject": "s3:DeleteObject",
}
_BUCKET = {
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}


@dataclass(frozen=True)
class Need:
    """A permission.

    :param prefix: what is listed; ``None`` where nothing is.
    """

    action: str
    resource: str
    prefix: str | None = None


def needs(operation: str, params: Mapping[str, Any]) -> set[Need]:
    """What a call needs."""
    bucket = f"arn:aws:s3:::{params['Bucket']}"
    if operation in _BUCKET:
        return {Need(_BUCKET[operation], bucket, params["Prefix"])}
    if operation == "DeleteObjects":
        return {Need("s3:DeleteObject", f"{bucket}/{item['Key']}") for item in params["Delete"]["Objects"]}
    key = f"{bucket}/{params['Key']}"
    if operation in ("GetObject", "HeadObject"):
        # without the permission to list, what is not there is answered by 403
        return {Need(_read(params), key), Need("s3:ListBucket", bucket)}
    found = {Need(_OBJECT[operation], key)}
    if "IfMatch" in params:
        found.add(Need("s3:GetObject", key))
    if operation == "UploadPartCopy":
        # botocore has written it as a header already: bucket/key?versionId=id
        source, _, version = params["CopySource"].partition("?")
        action = "s3:GetObjectVersion" if version else "s3:GetObject"
        found.add(Need(action, f"arn:aws:s3:::{unquote(source)}"))
    return found


def _read(params: Mapping[str, Any]) -> str:
    return "s3:GetObjectVersion" if "VersionId" in params else "s3:GetObject"


def record(client: Any, found: set[Need], *, places: Mapping[str, str] | None = None) -> None:
    """Note from now on what the calls of a client need.

    :param places: ARNs of queues, by their URLs.
    """
    service = client.meta.service_model.service_name

    def note(params: Mapping[str, Any], model: Any, **_: Any) -> None:
        if service == "s3":
            found.update(needs(model.name, params))
        elif service == "sqs":
            # a batch needs what each of its entries does
            found.add(Need(f"sqs:{model.name.removesuffix('Batch')}", (places or {})[params["QueueUrl"]]))
        else:
            assert (service, model.name) == ("secretsmanager", "GetSecretValue")
            found.add(Need("secretsmanager:GetSecretValue", params["SecretId"]))

    client.meta.events.register(f"before-parameter-build.{service}", note)


def function_need(operation: str, params: Mapping[str, Any], arn: str) -> Need:
    """What a call of Lambda needs.

    Source: AWS Lambda developer guide, "Security and permissions for Lambda durable functions": a call on an
    execution is judged by the ARN of the execution, which is below that of a version.

    :param arn: of the function that is called, as the policy names it.
    """
    action = "lambda:InvokeFunction" if operation == "Invoke" else f"lambda:{operation}"
    if "DurableExecutionArn" in params:
        _, _, below = params["DurableExecutionArn"].partition(":function:")
        return Need(action, f"{arn}:{below.partition(':')[2]}")
    qualifier = params.get("Qualifier")
    return Need(action, f"{arn}:{qualifier}" if qualifier else arn)


def allows(statements: Iterable[Mapping[str, Any]], need: Need) -> bool:
    """Whether a policy gives a permission."""
    effects = {statement["Effect"] for statement in statements if _speaks_of(statement, need)}
    return effects == {"Allow"}


def unused(
    statements: Iterable[Mapping[str, Any]], found: Iterable[Need], *, services: Sequence[str] = ("s3",)
) -> set[tuple[str, str]]:
    """Actions of services, and their resources, that a policy allows and no call needed."""
    left = {
        (action, resource)
        for statement in statements
        for action in _list(statement["Action"])
        for resource in _list(statement["Resource"])
        if action.partition(":")[0] in services
    }
    return left - {
        (action, resource)
        for action, resource in left
        if any(need.action == action and _matches(resource, need.resource) for need in found)
    }


def _speaks_of(statement: Mapping[str, Any], need: Need) -> bool:
    if not any(_matches(action, need.action) for action in _list(statement["Action"])):
        return False
    if not any(_matches(resource, need.resource) for resource in _list(statement["Resource"])):
        return False
    conditions = statement.get("Condition", {})
    assert conditions.keys() <= {"StringLikeIfExists"}, conditions
    wanted = conditions.get("StringLikeIfExists", {"s3:prefix": "*"})
    assert wanted.keys() == {"s3:prefix"}, wanted
    return need.prefix is None or _matches(wanted["s3:prefix"], need.prefix)


def _matches(pattern: str, text: str) -> bool:
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(escaped, text, re.DOTALL) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
