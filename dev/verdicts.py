"""What landed on S3, read back by other means than those that wrote it, beside what was to land."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dev import large_file
from dev.console import MB, MIB, shortened, size_of
from dev.lambdas import Lambdas
from dev.localstack import LocalStack
from dev.services import get

BLOCK = 1024 * 1024


class DemoFailed(Exception):
    """The demo ran and its result is wrong; the text says what."""


@dataclass(frozen=True, kw_only=True)
class Landed:
    """What one object on S3 holds, found by reading it back.

    :param records: lines in it.
    :param first: its first line.
    :param uncompressed_bytes: what gzip unpacks to.
    """

    records: int
    first: bytes
    uncompressed_bytes: int


def read_back(body: Any) -> Landed:
    """Count the lines of a gzip stream in bounded memory.

    :param body: readable binary stream of the compressed bytes.
    """
    records = size = 0
    first = b""
    complete = False
    with gzip.GzipFile(fileobj=body) as lines:
        while block := lines.read(BLOCK):
            records += block.count(b"\n")
            size += len(block)
            if not complete:
                head, newline, _ = block.partition(b"\n")
                first += head
                complete = bool(newline)
    return Landed(records=records, first=first, uncompressed_bytes=size)


def show_ingest(localstack: LocalStack, api_url: str, outcome: Mapping[str, Any]) -> None:
    """Print what one task has ingested beside what the API has.

    :param outcome: what :mod:`dev.run_dag` wrote down.
    :raises DemoFailed: the object, the API and the task do not agree on the number of records.
    """
    receipt = _receipt(outcome)
    landed = _landed(localstack, api_url, receipt["uri"], int(receipt["records"]))
    compressed = int(receipt["bytes"])
    ratio = landed.uncompressed_bytes / max(compressed, 1)
    line(
        "Size",
        f"{size_of(landed.uncompressed_bytes)} of JSON Lines, {size_of(compressed)} on S3"
        f" (1 : {ratio:.1f}), {receipt['pages']:,} pages",
    )
    seconds = float(receipt["seconds"])
    speed = landed.uncompressed_bytes / MB / max(seconds, 1e-9)
    line("Time", f"{seconds:.1f} s, {speed:,.0f} MB/s uncompressed")
    peak = int(receipt.get("peak_rss") or outcome["peak_rss"])
    line(
        "Peak memory",
        f"{peak / MIB:,.0f} MiB of the task's process,"
        f" of which Airflow itself took {outcome['rss_before'] / MIB:,.0f} MiB before the run",
    )


def show_fan_out(localstack: LocalStack, api_url: str, outcome: Mapping[str, Any], lambdas: Lambdas) -> None:
    """Print what functions have ingested beside what the API has.

    :param outcome: what :mod:`dev.run_dag` wrote down.
    :param lambdas: those functions.
    :raises DemoFailed: the object, the API and the merge do not agree on the number of records.
    """
    receipt, plan = _receipt(outcome), _plan(outcome)
    pages = receipt["source"]["pages"]
    line("Plan", f"{pages:,} pages in {plan['chunks']:,} chunks, which {plan['groups']} tasks wait for")
    _show_work(lambdas, receipt)
    landed = _landed(localstack, api_url, receipt["uri"], int(receipt["rows_out"]))
    _show_time(outcome, landed.uncompressed_bytes)


def show_large_file(
    localstack: LocalStack, outcome: Mapping[str, Any], lambdas: Lambdas, *, secret: str
) -> None:
    """Print what came of the large file, compared with it row by row.

    :param outcome: what :mod:`dev.run_dag` wrote down.
    :param lambdas: the functions that processed it.
    :param secret: that the tokens were made with.
    :raises DemoFailed: a row is missing or not as it must be, or the merge counted otherwise.
    """
    receipt, plan = _receipt(outcome), _plan(outcome)
    size, read = plan["source"]["size"], size_of(plan["bytes_read"])
    kind = f"{size_of(size)} of {plan['format'].upper()}"
    line("Plan", f"{kind} in {plan['chunks']:,} chunks, cut by {plan['requests']:,} reads of {read} in all")
    _show_work(lambdas, receipt)
    _show_time(outcome, size)
    compared = _compared(localstack, receipt, secret)
    line("Rows", f"{compared.rows:,} in both files, read again side by side: every cell is the same, and so")
    line("", f"are {compared.tokens:,} tokens that Python's own hmac made again, sizes and CRC-32s")


def show_objects(localstack: LocalStack, bucket: str) -> None:
    """Print what a bucket holds."""
    print(f"\nObjects in s3://{bucket}")
    for page in localstack.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            print(f"  {item['Key']}  {size_of(item['Size'])}")


def line(name: str, text: str) -> None:
    """Print one figure."""
    print(f"{name:12} {text}")


def _landed(localstack: LocalStack, api_url: str, uri: str, reported: int) -> Landed:
    """Print how many records an object has beside what the API has.

    :raises DemoFailed: they, and what was reported, are not the same number.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    landed = read_back(localstack.client("s3").get_object(Bucket=bucket, Key=key)["Body"])
    expected = json.loads(get(f"{api_url}/v1/variants/count"))["count"]
    same = landed.records == expected == reported
    verdict = "the same" if same else "NOT the same"
    line("Records", f"{landed.records:,} in the object, {expected:,} in the API: {verdict}")
    line("First", shortened(landed.first))
    if not same:
        raise DemoFailed(
            f"The object has {landed.records:,} records, the API {expected:,} and the task reported "
            f"{reported:,}."
        )
    return landed


def _compared(localstack: LocalStack, receipt: Mapping[str, Any], secret: str) -> large_file.Compared:
    """Compare the files, and what was reported with them.

    :raises DemoFailed: something differs.
    """
    s3, uri = localstack.client("s3"), receipt["uri"]
    try:
        compared = large_file.compare(s3, receipt["source"]["uri"], uri, secret=secret)
    except large_file.Different as error:
        raise DemoFailed(str(error)) from None
    found = {
        "rows_in": compared.rows,
        "rows_out": compared.rows,
        "bytes": compared.size,
        "source_crc32": f"{compared.source_crc32:08x}",
        "crc32": base64.b64encode(compared.crc32.to_bytes(4, "big")).decode(),
    }
    reported = {name: receipt.get(name) for name in found}
    if reported != found:
        raise DemoFailed(f"The merge reported {reported} of {uri}; who reads it finds {found}.")
    return compared


def _show_work(lambdas: Lambdas, receipt: Mapping[str, Any]) -> None:
    """Print what functions did, and how their parts became one object.

    :raises DemoFailed: there were fewer invocations than chunks, so that something else did the work.
    """
    for name, text in lambdas.figures():
        line(name, text)
    line(
        "Merge",
        f"{receipt['chunks']:,} parts to {size_of(receipt['bytes'])} in {receipt['seconds']:.1f} s:"
        f" {size_of(receipt['copied_bytes'])} copied by S3, {size_of(receipt['uploaded_bytes'])} uploaded",
    )
    chunks, invocations = receipt["chunks"], lambdas.counters()["invocations"]
    if invocations < chunks:
        raise DemoFailed(f"{chunks:,} chunks were processed, but only {invocations:,} by {lambdas.function}.")


def _show_time(outcome: Mapping[str, Any], size: int) -> None:
    seconds = float(outcome["seconds"])
    speed = size / MB / max(seconds, 1e-9)
    line("Time", f"{seconds:.1f} s from plan to merge, {speed:,.1f} MB/s; Airflow looks every 5 s")


def _plan(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What the planning task said.

    :raises DemoFailed: there was none.
    """
    for value in outcome["summaries"].values():
        return dict(value)
    raise DemoFailed(f"No task said what it planned; tasks: {outcome['tasks']}")


def _receipt(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """What the task that published returned.

    :raises DemoFailed: there is none.
    """
    for value in outcome["returned"].values():
        if isinstance(value, dict) and "uri" in value:
            return dict(value)
    raise DemoFailed(f"No task returned where its records are; tasks: {outcome['tasks']}")
