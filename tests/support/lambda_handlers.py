"""Handlers that the local Lambda service runs in its tests; nothing of the project is imported."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def handler(event: dict[str, Any], context: Any) -> Any:
    """Do what the event says, and answer who did it."""
    print(f"event {json.dumps(event, sort_keys=True)}")
    what = event.get("do")
    if what == "raise":
        raise ValueError(event["text"])
    if what == "sleep":
        time.sleep(event["seconds"])
    elif what == "wait_for_file":
        if "started" in event:
            Path(event["started"]).touch()
        while not Path(event["path"]).exists():
            time.sleep(0.01)
    elif what == "exit":
        sys.exit(event["code"])
    elif what == "vanish":
        os._exit(event["code"])
    elif what == "allocate":
        held = bytearray(event["mb"] * 1024 * 1024)
        held[::4096] = b"x" * len(held[::4096])
    elif what == "answer":
        return "x" * event["size"]
    elif what == "fail_until":
        with Path(event["path"]).open("a") as attempts:
            attempts.write(f"{context.aws_request_id}\n")
        if len(Path(event["path"]).read_text().splitlines()) < event["attempt"]:
            raise RuntimeError("not yet")
    return {
        "pid": os.getpid(),
        "request_id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "remaining": context.get_remaining_time_in_millis(),
        "memory": context.memory_limit_in_mb,
        "log_group": context.log_group_name,
        "log_stream": context.log_stream_name,
        "client": None if context.client_context is None else context.client_context.custom,
        "environment": {name: os.environ.get(name) for name in event.get("variables", ())},
    }


def durable(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """A durable function without the SDK: reads the envelope, and answers what the input says."""
    operations = event["InitialExecutionState"]["Operations"]
    given = json.loads(operations[0]["ExecutionDetails"]["InputPayload"])
    if given.get("step"):
        steps = [one for one in operations if one["Type"] == "STEP"]
        import boto3  # here, since it makes every other cold start longer

        client = boto3.client("lambda", endpoint_url=given["endpoint"])
        if not steps:
            update = {"Id": "s1", "Type": "STEP", "Action": "SUCCEED", "Payload": json.dumps(os.getpid())}
            answer = client.checkpoint_durable_execution(
                DurableExecutionArn=event["DurableExecutionArn"],
                CheckpointToken=event["CheckpointToken"],
                Updates=[
                    update,
                    {"Id": "w1", "Type": "WAIT", "Action": "START", "WaitOptions": {"WaitSeconds": 1}},
                ],
            )
            assert answer["CheckpointToken"] != event["CheckpointToken"]
            return {"Status": "PENDING"}
        waits = [one["Status"] for one in operations if one["Type"] == "WAIT"]
        return {"Status": "SUCCEEDED", "Result": json.dumps({"steps": len(steps), "waits": waits})}
    result = handler(given, context)
    if given.get("status") == "FAILED":
        return {"Status": "FAILED", "Error": {"ErrorType": "Refused", "ErrorMessage": "no"}}
    if given.get("status") == "NONSENSE":
        return {"rows": 1}
    return {"Status": "SUCCEEDED", "Result": json.dumps(result)}
