"""Supervised process trees: nothing is left, however the end comes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dev.processes import REPOSITORY, Service, ServiceError, free_port, require_port

#: Starts a child that ignores SIGTERM in a session of its own, and leaves an orphan behind that does so too.
FAMILY = """
import os, signal, subprocess, sys, time
stubborn = '''
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
time.sleep(600)
'''
between = f'''
import subprocess, sys
print(subprocess.Popen([sys.executable, '-c', {stubborn!r}], start_new_session=True).pid)
'''
child = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
orphan = subprocess.Popen([sys.executable, "-c", between], stdout=subprocess.PIPE, text=True)
pids = [os.getpid(), child.pid]
for line in orphan.stdout:
    if line.strip() != "up":
        pids.append(int(line))
    if len(pids) == 3:
        break
open(sys.argv[1] + ".new", "w").write(" ".join(map(str, pids)))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""

#: What the demo does: services in a `with`, signals turned into exits.
PARENT = """
import sys, time
from pathlib import Path
from dev.processes import Service, exit_on_signals
with exit_on_signals():
    argv = [sys.executable, "-c", sys.argv[1], sys.argv[2]]
    with Service("family", argv, log=Path(sys.argv[3]), grace=0.5):
        time.sleep(600)
"""


def wait_for(found: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def processes_in(path: Path) -> list[psutil.Process]:
    wait_for(path.exists)
    processes = [psutil.Process(int(pid)) for pid in path.read_text().split()]
    assert len(processes) == 3
    return processes


def assert_gone(processes: list[psutil.Process], seconds: float = 15) -> None:
    wait_for(lambda: not any(map(alive, processes)), seconds)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def service(tmp_path: Path) -> Callable[..., Service]:
    def make(code: str, *arguments: str, grace: float = 5) -> Service:
        argv = [sys.executable, "-c", code, *arguments]
        return Service("sample", argv, log=tmp_path / "sample.log", grace=grace)

    return make


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, signum: signal.Signals) -> None:
    """Not a child in another session, not an orphan, not one that ignores SIGTERM; not even on SIGKILL."""
    pids = tmp_path / "pids"
    argv = [sys.executable, "-c", PARENT, FAMILY, str(pids), str(tmp_path / "log")]
    with subprocess.Popen(argv, cwd=REPOSITORY, stderr=subprocess.DEVNULL) as parent:
        family = processes_in(pids)
        guards = psutil.Process(parent.pid).children()
        parent.send_signal(signum)
        parent.wait(15)
    assert_gone(family + guards)


def test_stop_ends_the_whole_tree_before_it_returns(tmp_path: Path, service: Callable[..., Service]) -> None:
    pids = tmp_path / "pids"
    with service(FAMILY, str(pids), grace=0.5) as running:
        family = processes_in(pids)
        running.stop()
        assert not any(map(alive, family))
        running.stop()


def test_what_a_service_leaves_behind_ends_with_it(tmp_path: Path, service: Callable[..., Service]) -> None:
    pids = tmp_path / "pids"
    with service(FAMILY, str(pids), grace=0.5):
        family = processes_in(pids)
        family[0].kill()
        assert_gone(family)


def test_killing_the_guard_itself_ends_the_service(service: Callable[..., Service]) -> None:
    """The last line of defence on Linux; what the service started is not covered then."""
    if sys.platform != "linux":
        return
    running = service("import time; print('up', flush=True); time.sleep(600)")
    with running:
        wait_for(lambda: "up" in running.log.read_text())
        (process,) = running.processes()
        parent = process.parent()
        assert parent is not None
        parent.kill()
        assert_gone([process])


def test_the_exit_code_is_that_of_the_command(service: Callable[..., Service]) -> None:
    with service("raise SystemExit(7)") as running:
        assert running.wait(15) == 7
    with service("import os, signal; os.kill(os.getpid(), signal.SIGUSR1)") as running:
        assert running.wait(15) == 128 + signal.SIGUSR1


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with Service("nothing", ["/nonexistent/command"], log=tmp_path / "log") as running:
        assert running.wait(15) == 127
        assert "cannot run /nonexistent/command: No such file or directory" in running.last_lines()


def test_a_service_that_ends_early_shows_its_last_lines(service: Callable[..., Service]) -> None:
    with (
        service("print('old'); print('the reason'); raise SystemExit(3)") as running,
        pytest.raises(ServiceError, match=r"(?s)sample ended with exit code 3\..*sample\.log.*the reason"),
    ):
        running.wait_until(lambda: False, timeout=15)


def test_last_lines_are_those_of_this_start(service: Callable[..., Service]) -> None:
    with service("print('first run')") as running:
        running.wait(15)
    with service("print('second run')") as running:
        running.wait(15)
        assert "second run" in running.last_lines()
        assert "first run" not in running.last_lines()


def test_a_service_that_is_never_ready_is_not_waited_for_for_ever(service: Callable[..., Service]) -> None:
    with (
        service("import time; time.sleep(600)") as running,
        pytest.raises(ServiceError, match=r"sample was not ready after 0 s"),
    ):
        running.wait_until(lambda: False, timeout=0.2)


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError) as failure:
            require_port(port, what="Airflow", option="--port")
    assert f"Airflow: port {port} on 127.0.0.1 cannot be used: address already in use" in str(failure.value)
    assert "another port with --port" in str(failure.value)


def test_port_0_takes_a_free_one_and_a_free_one_is_kept() -> None:
    port = free_port()
    assert require_port(port, what="x", option="-x") == port
    assert require_port(0, what="x", option="-x") > 0
