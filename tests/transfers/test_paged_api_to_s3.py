"""The operator under Airflow: what it lands, returns, sends and logs, and how it fails."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import Asset, AssetAlias, get_current_context

from chunkwise.core.paging import PageNumberPaginator, SinglePagePaginator, paginator_to_json
from chunkwise.transfers import paged_api_to_s3
from dev.localstack import LocalStack
from tests.transfers.support import DAY, MIB, Api, Run, arguments, dag, ingest, keys, open_uploads, records


def test_every_record_lands_stamped_in_one_object(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    """The object has the API's records with the run's date and start; the task returns counts, not data."""
    server = api(records=120)
    with dag() as it:
        ingest(ls_bucket)
    ran = run_dag(it, logical_date=DAY)
    assert ran.state == "success"
    receipt = ran.returned("ingest")
    assert receipt["uri"] == f"s3://{ls_bucket}/date=2023-12-21/variants.jsonl.gz"
    landed = records(localstack, receipt["uri"])
    assert [record["ordinal"] for record in landed] == list(range(120))
    assert {(record["ingest_date"], record["ingest_ts"]) for record in landed} == {
        ("2023-12-21", "2023-12-21T00:00:00Z")
    }
    assert (receipt["records"], receipt["pages"], receipt["stop_reason"]) == (120, 3, "no_cursor")
    assert server.requests() == {"/v1/variants": 3}
    everything = json.dumps(list(ran.xcoms.values()))
    assert len(everything) < 4_000
    assert landed[0]["id"] not in everything


def test_a_day_twice_is_one_object(api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str) -> None:
    api(records=20)
    with dag() as it:
        ingest(ls_bucket)
    first, second = (run_dag(it, logical_date=DAY).returned("ingest") for _ in range(2))
    assert first["sha256"] == second["sha256"]
    assert keys(localstack, ls_bucket) == ["date=2023-12-21/variants.jsonl.gz"]


def test_a_run_without_a_logical_date_has_a_date_all_the_same(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    """Runs by hand and by asset events have no ``ds``; they have the day on which they were due."""
    api(records=2)
    with dag() as it:
        ingest(ls_bucket)
    ran = run_dag(it)
    due = ran.run_id.removeprefix("manual__")[:10]
    assert keys(localstack, ls_bucket) == [f"date={due}/variants.jsonl.gz"]
    landed = records(localstack, ran.returned("ingest")["uri"])
    assert {record["ingest_date"] for record in landed} == {due}


def test_tasks_can_be_mapped_over_endpoints_keys_and_paginators(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    api(records=30)
    given = arguments(ls_bucket)
    by_page = PageNumberPaginator(size=10, size_name="per_page", total_path="total")
    variants = [
        {"endpoint": "v1/variants", "s3_key": "{{ ingest_date }}/cursor.jsonl.gz"},
        {
            "endpoint": "v1/variants/by-page",
            "s3_key": "{{ ingest_date }}/page.jsonl.gz",
            "paginator": paginator_to_json(by_page),
        },
    ]
    for variant in variants:
        variant.setdefault("paginator", given["paginator"])
    rest = {name: value for name, value in given.items() if name not in variants[0]}
    with dag() as it:
        paged_api_to_s3.PagedApiToS3Operator.partial(**rest).expand_kwargs(variants)
    ran = run_dag(it, logical_date=DAY)
    assert ran.states == {"ingest[0]": "success", "ingest[1]": "success"}
    assert keys(localstack, ls_bucket) == ["2023-12-21/cursor.jsonl.gz", "2023-12-21/page.jsonl.gz"]
    assert [ran.returned(f"ingest[{index}]")["records"] for index in (0, 1)] == [30, 30]


@pytest.mark.parametrize(
    ("changes", "served", "says"),
    [
        ({}, {"token": "needed"}, "401"),
        ({"endpoint": "v1/nothing"}, {}, "404"),
        ({"max_pages": 1}, {}, "LimitExceeded: page 2: the API has more than 1 pages"),
        ({"records_path": "items"}, {}, "RecordsNotFound"),
        ({"s3_key": "variants.jsonl"}, {}, "ConfigError"),
        ({"s3_key": "s3://other/variants.jsonl.gz"}, {}, "s3_key must be a key beside s3_bucket"),
        ({"endpoint": "https://other.example.com/v1"}, {}, "another origin than the HTTP connection"),
        ({"on_exists": "overwrite"}, {}, "choose one of 'replace', 'skip', 'fail'"),
    ],
    ids=["401", "404", "guard", "records", "suffix", "bucket-twice", "origin", "mode"],
)
def test_what_cannot_pass_fails_without_a_retry(
    api: Api,
    run_dag: Run,
    localstack: LocalStack,
    ls_bucket: str,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    served: dict[str, Any],
    says: str,
) -> None:
    api(records=60, **served)
    with dag() as it:
        ingest(ls_bucket, retries=3, retry_delay=timedelta(0), **changes)
    ran = run_dag(it, logical_date=DAY)
    assert (ran.states["ingest"], ran.tries["ingest"]) == ("failed", 1)
    assert says in capsys.readouterr().out
    assert keys(localstack, ls_bucket) == []
    assert open_uploads(localstack, ls_bucket) == []


def test_what_may_pass_is_retried(api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str) -> None:
    """503 on both attempts of the first try; the second try of the task finds the API well."""
    api(records=60, fail_page=2, fail_times=2)
    with dag() as it:
        ingest(ls_bucket, retries=1, retry_delay=timedelta(0))
    ran = run_dag(it, logical_date=DAY)
    assert (ran.states["ingest"], ran.tries["ingest"]) == ("success", 2)
    assert len(records(localstack, ran.returned("ingest")["uri"])) == 60


def test_after_the_last_try_nothing_is_left(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    """Large pages open an upload in each try; the last one aborts it."""
    api(records=700, record_bytes=20_000, fail_page=7, fail_times=99)
    with dag() as it:
        ingest(
            ls_bucket,
            retries=1,
            retry_delay=timedelta(0),
            query={"limit": 100},
            s3_key="x.jsonl",
            compression="none",
            part_size=5 * MIB,
        )
    ran = run_dag(it, logical_date=DAY)
    assert (ran.states["ingest"], ran.tries["ingest"]) == ("failed", 2)
    assert keys(localstack, ls_bucket) == []
    assert open_uploads(localstack, ls_bucket) == []


def test_no_secret_of_the_connection_is_shown(
    api: Api,
    run_dag: Run,
    ls_bucket: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not in the log, nor in what the task returns and sends, in success and in failure."""
    secrets = {"bearer-token-7w4k", "header-key-9x2m", "query-key-3p8d"}
    extra = {"token": "bearer-token-7w4k", "X-Key": "header-key-9x2m", "params": {"key": "query-key-3p8d"}}
    server = api(records=60, token="bearer-token-7w4k", extra=extra)
    asset = Asset("secrets", uri=f"s3://{ls_bucket}/secrets")
    with dag() as it:
        ingest(ls_bucket, outlets=[asset])
    ran = run_dag(it, logical_date=DAY)
    assert ran.state == "success"
    server.stop()
    assert run_dag(it, logical_date=DAY).state == "failed"
    api(records=60, token="another-token", extra=extra)
    assert run_dag(it, logical_date=DAY).state == "failed"
    shown = "".join(capsys.readouterr()) + caplog.text + repr(ran)
    assert "ConnectionFailed" in shown or "RetriesExhausted" in shown
    assert "401" in shown
    assert [secret for secret in secrets if secret in shown] == []


def test_assets_carry_the_receipt(api: Api, run_dag: Run, ls_bucket: str) -> None:
    """The extra of an asset's event is the receipt; an alias gets the object as an asset."""
    api(records=5)
    asset = Asset("receipts", uri=f"s3://{ls_bucket}/receipts")
    with dag() as it:
        ingest(ls_bucket, outlets=[asset, AssetAlias("objects")])
    ran = run_dag(it, logical_date=DAY)
    receipt = ran.returned("ingest")
    assert ran.events == {asset.uri: [receipt], receipt["uri"]: [receipt]}


def test_the_next_run_warns_about_drift(
    api: Api, run_dag: Run, ls_bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The receipt is kept with the asset, so that the next run can say that records grew."""
    asset = Asset("drifting", uri=f"s3://{ls_bucket}/drifting")
    with dag() as it:
        ingest(ls_bucket, outlets=[asset])
    api(records=40, record_bytes=2_000)
    assert run_dag(it, logical_date=DAY).returned("ingest")["drift"] is None
    api(records=40, record_bytes=3_000)
    receipt = run_dag(it, logical_date=DAY + timedelta(days=1)).returned("ingest")
    assert receipt["drift"] is not None
    assert len(receipt["warnings"]) == 1
    assert receipt["warnings"][0] in caplog.text


def test_an_empty_result_can_skip_what_follows(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    """No object, no asset event, a skipped task; its receipt is there to look at."""
    api(records=0)
    asset = Asset("empty", uri=f"s3://{ls_bucket}/empty")
    with dag() as it:
        ingest(ls_bucket, outlets=[asset], on_empty="skip")
    ran = run_dag(it, logical_date=DAY)
    assert ran.states == {"ingest": "skipped"}
    assert ran.returned("ingest")["records"] == 0
    assert ran.events == {}
    assert keys(localstack, ls_bucket) == []


def test_work_that_is_done_can_be_skipped(api: Api, run_dag: Run, ls_bucket: str) -> None:
    server = api(records=20)
    with dag() as it:
        ingest(ls_bucket, on_exists="skip")
    first, second = (run_dag(it, logical_date=DAY).returned("ingest") for _ in range(2))
    assert (first["skipped"], second["skipped"]) == (False, True)
    assert server.requests() == {"/v1/variants": 1}


def test_a_python_function_and_transforms_change_records(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    api(records=10)

    def even(record: dict[str, Any]) -> dict[str, Any] | None:
        return {"ordinal": record["ordinal"]} if record["ordinal"] % 2 == 0 else None

    with dag() as it:
        ingest(ls_bucket, transform=even, stamps={"of": "{{ dag.dag_id }}"})
    receipt = run_dag(it, logical_date=DAY).returned("ingest")
    assert records(localstack, receipt["uri"]) == [
        {"ordinal": ordinal, "of": "test"} for ordinal in range(0, 10, 2)
    ]
    assert receipt["dropped"] == 5


def test_the_console_link_leads_to_the_object(api: Api, run_dag: Run, ls_bucket: str) -> None:
    api(records=1)
    with dag() as it:
        ingest(ls_bucket, s3_key="a b/{{ ingest_date }}.jsonl.gz")
    ran = run_dag(it, logical_date=DAY)
    link = next(value for (_, key), value in ran.xcoms.items() if "S3ObjectLink" in key)
    assert link == (
        f"https://console.aws.amazon.com/s3/object/{ls_bucket}?region=us-east-1&bucketType=general"
        "&prefix=a%20b/2023-12-21.jsonl.gz"
    )


def test_an_api_without_a_connection(api: Api, run_dag: Run, ls_bucket: str) -> None:
    server = api(records=3)
    with dag() as it:
        ingest(
            ls_bucket,
            http_conn_id=None,
            endpoint=f"{server.url}/v1/variants",
            paginator=SinglePagePaginator(),
        )
    assert run_dag(it, logical_date=DAY).returned("ingest")["records"] == 3


def test_openlineage_learns_what_was_read_and_written(api: Api, run_dag: Run, ls_bucket: str) -> None:
    """The facets that its listener asks the task for, after the task."""
    server = api(records=7)
    facets = []

    def ask(context: Any, _result: Any) -> None:
        facets.append(context["task"].get_openlineage_facets_on_complete(context["ti"]))

    with dag() as it:
        ingest(ls_bucket, post_execute=ask)
    receipt = run_dag(it, logical_date=DAY).returned("ingest")
    (lineage,) = facets
    assert [(item.namespace, item.name) for item in lineage.inputs] == [(server.url, "/v1/variants")]
    (output,) = lineage.outputs
    assert (output.namespace, output.name) == (f"s3://{ls_bucket}", "date=2023-12-21/variants.jsonl.gz")
    statistics = output.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.size) == (7, receipt["bytes"])


#: not in the function's closure: what a function is bound to tells one job from another
SEEN: list[int] = []


@pytest.mark.parametrize("retries", [0, 1])
def test_a_killed_task_leaves_nothing_but_what_a_retry_goes_on_with(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str, retries: int
) -> None:
    """``on_kill``, which Airflow calls on SIGTERM, ends the run; without a retry it aborts the upload."""
    api(records=800, record_bytes=20_000)
    SEEN.clear()
    left_open: list[list[str]] = []

    def kill_once(record: dict[str, Any]) -> dict[str, Any]:
        SEEN.append(record["ordinal"])
        if SEEN.count(500) == 1 and record["ordinal"] == 500:
            assert open_uploads(localstack, ls_bucket) == ["killed.jsonl"]
            get_current_context()["task"].on_kill()
        return record

    def look(_context: Any) -> None:
        left_open.append(open_uploads(localstack, ls_bucket))

    with dag() as it:
        ingest(
            ls_bucket,
            transform=kill_once,
            compression="none",
            s3_key="killed.jsonl",
            retries=retries,
            retry_delay=timedelta(0),
            on_retry_callback=look,
            on_failure_callback=look,
        )
    ran = run_dag(it, logical_date=DAY)
    if retries:
        assert ran.states == {"ingest": "success"}
        assert left_open == [["killed.jsonl"]]
        assert ran.returned("ingest")["resumed_at_page"] > 1
        assert len(records(localstack, ran.returned("ingest")["uri"])) == 800
    else:
        assert ran.states == {"ingest": "failed"}
        assert left_open == [[]]
        assert keys(localstack, ls_bucket) == []
        assert 500 <= max(SEEN) < 799
    assert open_uploads(localstack, ls_bucket) == []


@pytest.mark.long
def test_a_task_whose_time_is_over_goes_on_in_its_next_try(
    api: Api, run_dag: Run, localstack: LocalStack, ls_bucket: str
) -> None:
    """With ``execution_timeout`` a long ingest comes in instalments, into the same upload."""
    server = api(records=3_000, record_bytes=20_000, delay_ms=60)
    with dag() as it:
        ingest(
            ls_bucket,
            compression="none",
            s3_key="long.jsonl",
            execution_timeout=timedelta(seconds=2),
            retries=20,
            retry_delay=timedelta(0),
        )
    ran = run_dag(it, logical_date=DAY)
    assert ran.states == {"ingest": "success"}
    assert ran.tries["ingest"] > 1
    assert ran.returned("ingest")["resumed_at_page"] > 5
    assert server.requests()["/v1/variants"] < 60 * ran.tries["ingest"]
    ordinals = [record["ordinal"] for record in records(localstack, ran.returned("ingest")["uri"])]
    assert ordinals == list(range(3_000))
    assert open_uploads(localstack, ls_bucket) == []
