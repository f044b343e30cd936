"""The command knows dispatches of APIs, too: what comes after the plan is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chunkwise.cli import main
from chunkwise.core.dispatch.pages.plan import Pages
from chunkwise.core.dispatch.process import process_chunk
from tests.support.http_api import Answer
from tests.support.paged import CURSOR, OFFSET, FanOut, Listing
from tests.support.strict_s3 import StrictS3

Make = Callable[[int], Listing]


@pytest.mark.parametrize("paginator", [OFFSET, CURSOR], ids=lambda paginator: paginator.kind)
def test_status_and_resume(
    s3: StrictS3,
    listing: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    paginator: Any,
) -> None:
    """Credentials come from where the command finds secrets."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    api = listing(47)
    connection = {"host": api.api.origin, "extra": {"token": "t0k"}}
    monkeypatch.setenv("API", json.dumps(connection))
    fan = FanOut(s3, api, paginator, pages=Pages(pages_per_chunk=2), leg_pages=2, connection="my_api")
    fan.plan()
    api.instead = lambda request: (
        None if request.headers.get("Authorization") == "Bearer t0k" else Answer(status=401)
    )
    process_chunk(s3.client, fan.staging, 0, secrets={"my_api": json.dumps(connection)})

    def call(command: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        place = ["--endpoint-url", s3.endpoint, "--json"]
        code = main([command, *place, fan.staging.uri, *arguments])
        out, err = capsys.readouterr()
        return code, json.loads(out or err)

    _, status = call("status")
    assert (status["verdict"], status["done"], status["rows"]) == ("waiting", 1, 20)
    code, receipt = call("resume", "--secret-env", "my_api=API")
    assert code == 0
    assert (receipt["rows_out"], receipt["chunks"], receipt["source"]["pages"]) == (47, 3, 5)
    assert [line["id"] for line in fan.lines] == list(range(47))
