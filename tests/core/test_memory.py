"""Memory that was used, and the limits that hold, from files as the kernel writes them."""

import subprocess
import sys

import pytest

from chunkwise.core.memory import current_rss, memory_limit, near_limit, peak_rss, reset_peak
from chunkwise.core.units import GiB, KiB, MiB

UNLIMITED_V1 = str(2**63 - 4096)


def system(root, groups, files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for path, text in files.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/\n", {"memory.max": str(GiB)}, GiB),
        ("0::/\n", {"memory.max": "max"}, None),
        ("0::/a/b\n", {"a/b/memory.max": str(2 * GiB)}, 2 * GiB),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": str(GiB)}, GiB),
        ("0::/a/b\n", {"a/b/memory.max": str(2 * GiB), "a/memory.max": str(GiB)}, GiB),
        ("0::/a/b\n", {"a/b/memory.max": str(GiB), "a/memory.max": str(2 * GiB)}, GiB),
        ("0::/a\n", {"b/memory.max": str(GiB)}, None),
        ("0::/../../pod\n", {"memory.max": str(GiB)}, GiB),
        ("0::/of-the-host/xyz\n", {"memory.max": str(GiB)}, GiB),
        ("0::/a:b\n", {"a:b/memory.max": str(GiB)}, GiB),
        ("4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": str(GiB)}, GiB),
        ("4:cpu,memory:/x\n", {"memory/x/memory.limit_in_bytes": str(GiB)}, GiB),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": UNLIMITED_V1}, None),
        ("4:memory:/x\n", {"memory/memory.limit_in_bytes": str(GiB)}, GiB),
        ("4:cpu:/x\n", {"memory/x/memory.limit_in_bytes": str(GiB)}, None),
        ("", {}, None),
    ],
)
def test_the_lowest_limit_of_all_groups_holds(tmp_path, groups, files, limit):
    assert memory_limit(system(tmp_path, groups, files), {}) == limit


def test_lambda_says_its_limit_in_mb(tmp_path):
    size = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"}
    assert memory_limit(tmp_path, size) == 512 * MiB
    system(tmp_path, "0::/\n", {"memory.max": str(256 * MiB)})
    assert memory_limit(tmp_path, size) == 256 * MiB
    assert memory_limit(tmp_path, {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": ""}) == 256 * MiB
    assert memory_limit(tmp_path, {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "much"}) == 256 * MiB


def test_no_system_to_ask_is_no_limit(tmp_path):
    assert memory_limit(tmp_path, {}) is None
    assert reset_peak(tmp_path) is False
    assert peak_rss(tmp_path) > MiB, "what getrusage says"
    assert current_rss(tmp_path) == peak_rss(tmp_path)


def test_peak_and_current_memory_are_read_as_the_kernel_writes_them(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    status = "Name:\tVmHWM: 1 kB\nVmPeak:\t  900000 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  102400 kB\n"
    (tmp_path / "proc/self/status").write_text(status)
    assert (peak_rss(tmp_path), current_rss(tmp_path)) == (200 * MiB, 100 * MiB)


def test_the_peak_goes_up_with_use_and_down_with_a_reset():
    code = (
        "from chunkwise.core.memory import *\n"
        "import sys\n"
        "before = peak_rss(); block = bytearray(64 << 20); block[::4096] = b'x' * (len(block) // 4096)\n"
        "during = peak_rss(); del block; after = peak_rss()\n"
        "done = reset_peak(); reset = peak_rss()\n"
        "sys.stdout.write(repr((before, during, after, reset, done)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, during, after, reset, done = eval(run.stdout)
    # the kernel's counters are exact to some pages only
    assert min(during, after) - before >= 60 * MiB
    assert not done or reset <= during - 60 * MiB


@pytest.mark.parametrize(
    ("peak", "limit", "warns"),
    [(800 * MiB, 1000 * MiB, True), (799 * MiB, 1000 * MiB, False), (GiB, None, False), (2 * KiB, KiB, True)],
)
def test_a_peak_near_the_limit_is_told_with_numbers(peak, limit, warns):
    text = near_limit(peak, limit)
    assert (text is not None) == warns
    if limit == 1000 * MiB and text:
        assert "800 MiB of the 1,000 MiB" in text
        assert "80%" in text
        assert "smaller" in text


def test_the_share_that_warns_can_be_chosen():
    assert near_limit(50, 100, share=0.5) is not None
    assert near_limit(49, 100, share=0.5) is None
