"""CSV that becomes CSV of another dialect, from end to end."""

import csv
import io

import pytest

from chunkwise.core.dispatch.spec import Source, Target
from chunkwise.core.dispatch.verify import verify
from chunkwise.core.errors import ConfigError
from chunkwise.core.units import KiB
from tests.core.dispatch.driver import Job

HEADER = ["id", "name", "note"]
ROWS = [
    [f"{number:03d}", f"n {number % 7}", ["", "a;b", 'say "x"', "two\nlines"][number % 4]]
    for number in range(400)
]


def written(rows, **how) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", **how).writerows(rows)
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("options", "how", "header"),
    [
        ({"sep": "\t"}, {"delimiter": "\t"}, True),
        ({"header": False}, {"delimiter": ";"}, False),
        ({"quoting": 1}, {"delimiter": ";", "quoting": csv.QUOTE_ALL}, True),
    ],
)
def test_the_output_is_what_pythons_csv_writes_in_that_dialect(s3, options, how, header):
    s3.put("big.csv", written([HEADER, *ROWS], delimiter=";"))
    job = Job(
        s3, "big.csv", target="out.csv", chunk_bytes=2 * KiB, options={"sep": ";"}, output_options=options
    )
    receipt = job.run()
    assert receipt.chunks > 1
    assert receipt.rows_out == len(ROWS)
    assert job.output == written([HEADER, *ROWS] if header else ROWS, **how)
    source, target = Source(bucket=s3.bucket, key="big.csv"), Target(bucket=s3.bucket, key="out.csv")
    found = verify(s3.client, source, target, job.config)
    assert (found.ok, found.identical, found.columns) == (True, None, tuple(HEADER))


def test_a_source_without_names_is_refused_before_anything_is_written(s3):
    s3.put("big.csv", written(ROWS))
    job = Job(
        s3,
        "big.csv",
        target="out.csv",
        options={"header": None},
        output_options={"sep": ";", "columns": HEADER},
    )
    with pytest.raises(ConfigError, match="has no header: give the names of its columns as option names"):
        job.plan()
    assert sorted(s3.keys()) == ["big.csv"]
