"""What Airflow needs of the operator's arguments."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, XComArg

from chunkwise.core.ingest.job import Progress
from chunkwise.transfers.paged_api_to_s3 import PagedApiToS3Operator, ProgressLog, run_times

OURS = [
    name
    for name, parameter in inspect.signature(PagedApiToS3Operator.__init__).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
]
REQUIRED: dict[str, Any] = {
    "task_id": "ingest",
    "endpoint": "v1",
    "paginator": {"type": "single_page"},
    "records_path": "data",
    "s3_key": "s3://lake/variants.jsonl.gz",
}


@pytest.mark.parametrize("name", OURS)
def test_arguments_are_kept_as_they_are(name: str) -> None:
    """Airflow renders templates after the constructor, which therefore must not look at what it gets."""
    given = object()
    assert getattr(PagedApiToS3Operator(**REQUIRED | {name: given}), name) is given


def test_no_argument_hides_one_of_airflow() -> None:
    assert [name for name in OURS if hasattr(BaseOperator(task_id="any"), name)] == []


def test_template_fields_are_arguments() -> None:
    inherited = {"aws_conn_id", "region_name", "verify"}
    assert set(PagedApiToS3Operator.template_fields) - inherited <= set(OURS)


@pytest.mark.parametrize("name", [*OURS, "aws_conn_id", "region_name", "verify", "botocore_config"])
def test_every_argument_can_be_mapped(name: str) -> None:
    with DAG("mapped", schedule=None, start_date=datetime(2023, 1, 1)):
        rest = {key: value for key, value in REQUIRED.items() if key != name}
        mapped = PagedApiToS3Operator.partial(**rest).expand(**{name: [1, 2]})
    assert isinstance(mapped, XComArg) or mapped.is_mapped


CET = timezone(timedelta(hours=1))
RUN = SimpleNamespace(
    run_after=datetime(2023, 12, 23, 4, tzinfo=UTC), start_date=datetime(2023, 12, 23, 4, 0, 9, 7, tzinfo=UTC)
)


@pytest.mark.parametrize(
    ("dates", "date"),
    [
        ({}, "2023-12-23"),
        ({"logical_date": datetime(2023, 12, 22, tzinfo=UTC)}, "2023-12-22"),
        ({"logical_date": datetime(2023, 12, 22, 0, 30, tzinfo=CET)}, "2023-12-21"),
        ({"partition_date": datetime(2023, 12, 21, tzinfo=UTC)}, "2023-12-21"),
        (
            {
                "partition_date": datetime(2023, 12, 21, tzinfo=UTC),
                "logical_date": datetime(2023, 12, 22, tzinfo=UTC),
            },
            "2023-12-21",
        ),
        ({"partition_date": None, "logical_date": None}, "2023-12-23"),
    ],
    ids=["run_after", "logical", "utc", "partition", "partition-first", "none"],
)
def test_the_date_of_a_run(dates: dict[str, Any], date: str) -> None:
    """Its partition date, else its logical date, else when it was due, in UTC; the time is its start."""
    assert run_times({"dag_run": RUN, **dates}) == {
        "ingest_date": date,
        "ingest_ts": "2023-12-23T04:00:09Z",
    }


def test_a_run_that_airflow_has_not_started_has_the_time_at_which_it_was_due() -> None:
    run = SimpleNamespace(run_after=RUN.run_after, start_date=None)
    assert run_times({"dag_run": run})["ingest_ts"] == "2023-12-23T04:00:00Z"


def test_progress_is_logged_with_its_numbers_and_not_for_every_page() -> None:
    lines: list[str] = []

    def log(text: str, *arguments: Any) -> None:
        lines.append(text % arguments)

    progress = Progress(120, 24_000, 480_000_000, 96_000_000, 4.0)
    often, seldom = ProgressLog(log, every=0), ProgressLog(log, every=3600)
    often(progress)
    seldom(progress)
    (line,) = lines
    assert line.startswith("120 pages, 24000 records, 480.0 MB read, 96.0 MB to S3, 120.0 MB/s, memory ")
