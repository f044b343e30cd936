"""Groups of a dispatch, driven through functions that may die, come twice, or be refused."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from aiobotocore.session import get_session

from chunkwise.core.dispatch import drive
from chunkwise.core.dispatch.board import Board
from chunkwise.core.dispatch.cancel import cancel
from chunkwise.core.dispatch.drive import GroupDriver, Outcome, cancel_group
from chunkwise.core.dispatch.functions import Function, Invocation
from chunkwise.core.dispatch.joint_watch import Watch
from chunkwise.core.dispatch.limit import set_limit
from chunkwise.core.dispatch.model import Failed, Plan
from chunkwise.core.dispatch.staging import Staging
from chunkwise.core.dispatch.watch import States
from chunkwise.core.storage.objects import Listed
from chunkwise.core.storage.polling import Patience
from tests.core.dispatch.driver import Job
from tests.support.functions import Died, Functions, refusal
from tests.support.rounds import few_or_many

DATA = b"".join(b'{"id":%d,"text":"%s"}\n' % (number, b"x" * 80) for number in range(120))
SMALL = DATA[:1800]
# reading the model of S3 takes longer than most tests here
SESSION = get_session()
FUNCTION = Function(name="processor", timeout_seconds=30, memory_mb=512, log_group="/aws/lambda/processor")


@pytest.fixture
def job(s3):
    s3.put("big.jsonl", DATA)
    job = Job(s3, "big.jsonl", chunk_bytes=1000, groups=3)
    job.plan()
    return job


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(drive, "_FIRST_WAIT", 0.01)


class Patient(Board):
    """A board whose time stands still, but for the attempts that a test knows to be dead: those are lost.

    That time passes is tested with numbers for clocks; a slow machine must not make lost what is alive.
    """

    def __init__(self, plan: Plan, staging: Staging, functions: Functions) -> None:
        super().__init__(plan, deadline_seconds=86_400, queue_seconds=86_400)
        self._staging = staging
        self._functions = functions

    def take(self, listed: Iterable[Listed], now: datetime | None = None) -> None:
        now = now or datetime.now(UTC)
        began = now - timedelta(days=2)
        dead = [
            Listed(key=self._staging.started_key(*attempt), size=1, etag="", last_modified=began)
            for attempt in self._functions.dead
        ]
        super().take([*listed, *dead], now)


class Setup:
    """What the drivers of one triggerer share."""

    def __init__(self, watch: Watch, functions: Functions, calls: Counter[str]) -> None:
        self.watch = watch
        self.functions = functions
        self.calls = calls

    def driver(
        self, group: int, run: str = "run", *, invocation: Invocation = "event", attempts: int = 3
    ) -> GroupDriver:
        return GroupDriver(
            self.watch,
            self.functions,
            FUNCTION,
            invocation,
            group=group,
            run=run,
            attempts=attempts,
            poll_seconds=0.05,
            patience=Patience("here"),
        )


@asynccontextmanager
async def setup(job: Job, functions: Functions, *, limit: int = 100, quiet_seconds: float = 86_400):
    create = SESSION.create_client(
        "s3",
        endpoint_url=job.s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    async with create as client:
        calls: Counter[str] = Counter()
        client.meta.events.register(
            "before-call.s3", lambda model, **_: calls.update([model.name]), unique_id="count"
        )
        staging = Staging(client, job.staging.bucket, job.staging.prefix)
        states = States(client, staging)
        plan = await states.plan()
        assert plan is not None
        board = Patient(plan, staging, functions)
        yield Setup(Watch(states, board, plan, limit, quiet_seconds=quiet_seconds), functions, calls)
        for task in functions.tasks:
            await asyncio.gather(task, return_exceptions=True)


def run(
    job: Job, functions: Functions, *, groups: list[int] | None = None, meanwhile=None, **options
) -> list[Outcome]:
    """Drive groups to their end, by default all."""
    of_driver = {name: options.pop(name) for name in ("invocation", "attempts") if name in options}

    async def both() -> list[Outcome]:
        async with setup(job, functions, **options) as found:
            drivers = [found.driver(group, **of_driver) for group in groups or range(3)]
            work = asyncio.gather(*(driver.run() for driver in drivers))
            if meanwhile is not None:
                await meanwhile(found)
            return await asyncio.wait_for(work, 60)

    return asyncio.run(both())


def finished(job: Job) -> bool:
    job.merge()
    return job.output == DATA


def test_every_chunk_is_handed_over_once_and_the_output_is_right(job):
    functions = Functions(job.staging)
    assert [outcome.status for outcome in run(job, functions)] == ["done"] * 3
    chunks = job.staging.load().chunks
    assert sorted(functions.invoked) == [(chunk, "run-1") for chunk in range(chunks)]
    assert not [key for key in job.staged() if key.endswith((".invoked", ".started"))]
    assert finished(job)


def test_the_groups_of_a_triggerer_share_one_listing_per_poll(job, monkeypatch):
    functions = Functions(job.staging, seconds=0.3)
    calls: Counter[str] = Counter()
    rounds = 0
    one_round = GroupDriver._round

    async def counted(driver: GroupDriver) -> Outcome | None:
        nonlocal rounds
        rounds += 1
        return await one_round(driver)

    async def keep(found: Setup) -> None:
        nonlocal calls
        calls = found.calls

    monkeypatch.setattr(GroupDriver, "_round", counted)
    run(job, functions, meanwhile=keep)
    chunks = job.staging.load().chunks
    assert calls["PutObject"] == chunks
    assert calls["GetObject"] == 1, "the plan; a done record is not read"
    # three groups: about a third of their rounds list
    assert calls["ListObjectsV2"] <= 0.6 * rounds


def test_invocations_that_are_delivered_twice_count_once(job):
    functions = Functions(job.staging, copies=2)
    run(job, functions)
    assert len(functions.invoked) == job.staging.load().chunks
    assert finished(job)


@pytest.mark.parametrize("code", [("TooManyRequestsException", 429), ("ServiceException", 500)])
def test_throttled_invocations_wait_and_are_no_attempts(job, code):
    functions = Functions(job.staging, refuse=[refusal(*code) for _ in range(7)])
    assert {outcome.status for outcome in run(job, functions)} == {"done"}
    assert {attempt for _, attempt in functions.invoked} == {"run-1"}
    assert finished(job)


def test_a_function_that_is_not_there_is_refused_and_leaves_no_mark(job):
    functions = Functions(job.staging, refuse=[refusal("ResourceNotFoundException", 404) for _ in range(99)])
    (outcome,) = run(job, functions, groups=[1])
    assert (outcome.status, outcome.transient) == ("refused", False)
    assert "processor" in outcome.message
    assert not [key for key in job.staged() if "/done/" in key]
    run(job, Functions(job.staging))
    assert finished(job)


def test_a_function_that_dies_is_invoked_again_as_a_new_attempt(job):
    deaths = Counter()

    def die_once(chunk: int, attempt: str) -> None:
        if chunk == 4 and attempt == "run-1":
            deaths[chunk] += 1
            raise Died({})

    functions = Functions(job.staging, before=die_once)
    assert {outcome.status for outcome in run(job, functions)} == {"done"}
    assert deaths == {4: 1}
    assert (4, "run-2") in functions.invoked
    assert finished(job)


def test_attempts_are_limited_and_the_other_chunks_are_done_all_the_same(job):
    def die(chunk: int, attempt: str) -> None:
        if chunk == 4:
            raise Died({})

    functions = Functions(job.staging, before=die)
    outcomes = run(job, functions, attempts=2)
    assert [outcome.status for outcome in outcomes] == ["done", "failed", "done"]
    assert outcomes[1].given_up == (4,)
    assert functions.invoked.count((4, "run-2")) == 1
    assert set(+functions.processed) == set(range(job.staging.load().chunks)) - {4}


def test_a_failure_that_does_not_pass_is_not_tried_again(s3):
    lines = DATA.splitlines(keepends=True)
    lines[60] = b"{\n"
    s3.put("big.jsonl", b"".join(lines))
    job = Job(s3, "big.jsonl", chunk_bytes=1000, groups=3, mode="exact", output_format="csv")
    job.plan()
    functions = Functions(job.staging)
    outcomes = run(job, functions)
    assert sorted(outcome.status for outcome in outcomes) == ["done", "done", "failed"]
    assert sum(len(outcome.given_up) for outcome in outcomes) == 1
    assert {attempt for _, attempt in functions.invoked} == {"run-1"}


@pytest.mark.parametrize("invocation", ["event", "request_response"])
def test_the_limit_of_the_dispatch_holds_over_all_groups(job, invocation):
    functions = Functions(job.staging, seconds=0.02)
    run(job, functions, limit=2, invocation=invocation)
    assert functions.most <= 2
    assert finished(job)


def test_the_limit_can_be_changed_while_it_runs(job):
    functions = Functions(job.staging, seconds=0.05)

    async def raise_it(found: Setup) -> None:
        await functions.wait_for(3)
        assert functions.most == 1
        await asyncio.to_thread(set_limit, job.staging, 4)
        await asyncio.to_thread(set_limit, job.staging, 5)

    run(job, functions, limit=1, meanwhile=raise_it)
    assert 2 <= functions.most <= 5
    assert finished(job)


def test_groups_that_nobody_drives_hold_no_part_of_the_limit(job):
    functions = Functions(job.staging)
    outcomes = run(job, functions, groups=[0], limit=1, quiet_seconds=0)
    assert [outcome.status for outcome in outcomes] == ["done"]
    assert set(+functions.processed) == set(job.staging.load().members(0))
    assert functions.most == 1


def test_a_group_that_is_held_back_says_so_and_goes_on_when_there_is_room(job):
    functions = Functions(job.staging)
    staging = job.staging
    foreign = staging.invoked_key(0, "other-1")
    job.s3.put(foreign, b"{}")

    def waiting() -> list[str]:
        return [key for key in job.staged() if key.endswith(".waiting")]

    def until_it_waits() -> None:
        deadline = time.monotonic() + 120
        while not waiting():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    async def make_room(found: Setup) -> None:
        await asyncio.to_thread(until_it_waits)
        assert not functions.invoked
        await asyncio.to_thread(staging.delete, foreign)

    outcomes = run(job, functions, groups=[1], limit=1, quiet_seconds=0, meanwhile=make_room)
    assert [outcome.status for outcome in outcomes] == ["done"]
    assert not waiting()


@pytest.mark.parametrize(("waits", "most"), [(True, 1), (False, 2)], ids=["waits", "nobody"])
def test_room_is_left_to_a_group_that_waits_elsewhere(job, waits, most):
    functions = Functions(job.staging, seconds=0.2)
    if waits:
        job.s3.put(f"{job.staging.state_prefix}chunk_0001.other-1.waiting", b"")

    async def drive_one() -> None:
        async with setup(job, functions, limit=2, quiet_seconds=86_400) as found:
            found.watch._began = asyncio.get_running_loop().time() - 90_000
            await asyncio.wait_for(found.driver(0).run(), 60)

    asyncio.run(drive_one())
    assert functions.most == most


@pytest.mark.parametrize("ended", ["before_they_began", "on_the_way"])
def test_a_late_mark_of_a_task_that_was_killed_is_taken_back_and_costs_no_attempt(job, ended):
    seen: list[int] = []

    def late(chunk: int, attempt: str) -> None:
        if attempt == "new-1":
            if not seen:
                cancel(job.staging, by="the task of group 1 was killed", group=1, run="old")
            seen.append(chunk)
            if ended == "on_the_way":
                record = Failed(
                    dispatch=job.staging.load().dispatch,
                    chunk=chunk,
                    attempt=attempt,
                    error="DispatchCancelled",
                    message="it was",
                    transient=False,
                    failed_at="2026-01-01T00:00:00.000+00:00",
                )
                job.staging.put_new(job.staging.failed_key(chunk, attempt), record)
                raise Died({})

    functions = Functions(job.staging, before=late)

    async def new_try() -> Outcome:
        async with setup(job, functions) as found:
            return await asyncio.wait_for(found.driver(1, "new", attempts=1).run(), 60)

    assert asyncio.run(new_try()).status == "done"
    assert set(seen) == set(job.staging.load().members(1))
    assert not [key for key in job.staged() if "cancelled" in key]


def test_cancelling_the_dispatch_ends_its_drivers(job):
    def first(chunk: int, attempt: str) -> None:
        cancel(job.staging, by="the person on call")

    functions = Functions(job.staging, before=first)
    outcomes = run(job, functions, limit=3)
    assert [outcome.status for outcome in outcomes] == ["cancelled"] * 3
    assert "the dispatch in s3://" in outcomes[0].message
    assert "'the person on call'" in outcomes[0].message
    assert not +functions.processed
    job.plan("resume")
    run(job, Functions(job.staging))
    assert finished(job)


def test_cancelling_a_group_ends_its_driver_and_no_other(job):
    def first(chunk: int, attempt: str) -> None:
        if chunk % 3 == 1:
            cancel(job.staging, by="the person on call", group=1)

    outcomes = run(job, Functions(job.staging, before=first))
    assert [outcome.status for outcome in outcomes] == ["done", "cancelled", "done"]
    assert "group 1 of the dispatch" in outcomes[1].message


class Kill(BaseException):
    """The triggerer is gone."""


@pytest.mark.parametrize("again", ["run", "other"])
@few_or_many("step", 5, 1)
def test_a_driver_that_is_killed_at_any_request_loses_nothing(s3, again, step):
    """Whichever S3 or Lambda request it was about to send, or had just sent."""
    s3.put("big.jsonl", SMALL)
    point = 1 if again == "run" else 1 + step // 2
    while killed_at(point, s3, again):
        point += step
    assert point > 10


def killed_at(point: int, s3, again: str) -> bool:
    """Kill a driver at one point, and let another one finish; whether it came to that point."""
    job = Job(s3, "big.jsonl", chunk_bytes=1000, groups=1)
    job.plan("restart")
    functions = Functions(job.staging)
    seen = 0

    def count(**_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == point:
            raise Kill

    async def killed() -> None:
        async with setup(job, functions) as found:
            for event in ("before-call.s3", "after-call.s3"):
                found.watch.states._client.meta.events.register(event, count)
            functions.on_call = count
            with suppress(Kill):
                await found.driver(0).run()
            functions.on_call = None
        async with setup(job, functions) as found:
            outcome = await asyncio.wait_for(found.driver(0, again).run(), 30)
            assert outcome.status == "done"

    asyncio.run(killed())
    assert set(+functions.processed) == set(range(job.staging.load().chunks))
    job.merge()
    assert job.output == SMALL, point
    return seen >= point


def test_two_drivers_of_the_same_run_do_no_work_twice(job):
    functions = Functions(job.staging, seconds=0.05)

    async def both() -> None:
        async with setup(job, functions) as one, setup(job, functions) as other:
            drivers = [found.driver(group) for found in (one, other) for group in range(3)]
            outcomes = await asyncio.wait_for(asyncio.gather(*(driver.run() for driver in drivers)), 60)
            assert {outcome.status for outcome in outcomes} == {"done"}

    asyncio.run(both())
    assert {attempt for _, attempt in functions.invoked} == {"run-1"}
    assert finished(job)


def test_another_run_waits_for_what_the_first_one_handed_over(job):
    functions = Functions(job.staging, seconds=0.3)

    async def both() -> None:
        async with setup(job, functions) as found:
            first = asyncio.create_task(found.driver(0, "first").run())
            await functions.wait_for(3)
            first.cancel()
            outcome = await asyncio.wait_for(found.driver(0, "second").run(), 60)
            assert outcome.status == "done"

    asyncio.run(both())
    assert set(functions.processed.values()) == {1}
    assert len(set(functions.invoked)) == len(functions.processed)


def test_an_answer_that_says_how_the_function_died_leaves_a_failed_record(job):
    def die(chunk: int, attempt: str) -> None:
        if chunk == 4:
            raise Died({"errorType": "Runtime.ExitError", "errorMessage": "Error: signal: killed"})

    functions = Functions(job.staging, before=die)
    outcomes = run(job, functions, invocation="request_response", groups=[1])
    assert outcomes[0].given_up == (4,)
    record = job.staging.get(job.staging.failed_key(4, "run-1"), Failed)
    assert record is not None
    assert record[0].error == "FunctionOutOfMemory"
    assert "512 MB" in record[0].message


def test_a_durable_execution_that_ended_without_a_report_is_noticed_and_replaced(job):
    def die_once(chunk: int, attempt: str) -> None:
        if chunk == 4 and attempt == "run-1":
            functions.statuses.update(
                {arn: "TIMED_OUT" for arn in functions._names.values() if "-0004-" in arn}
            )
            raise Died({})

    functions = Functions(job.staging, before=die_once)
    assert {outcome.status for outcome in run(job, functions, invocation="durable")} == {"done"}
    assert (4, "run-2") in functions.invoked
    assert finished(job)


def test_cancelling_ends_late_processors_and_stops_executions_and_a_new_run_goes_on(job):
    functions = Functions(job.staging, seconds=0.5)

    async def cancelled() -> None:
        async with setup(job, functions) as found:
            driver = found.driver(1, invocation="durable")
            task = asyncio.create_task(driver.run())
            await functions.wait_for(3)
            await found.watch.look(0)
            task.cancel()
            await cancel_group(
                found.watch.states, functions, 1, by="a test", run="run", executions=driver.executions
            )

    asyncio.run(cancelled())
    assert len(functions.stopped) == len(functions.invoked)
    assert not +functions.processed
    job.plan("resume")
    again = Functions(job.staging)
    assert {outcome.status for outcome in run(job, again)} == {"done"}
    assert finished(job)
