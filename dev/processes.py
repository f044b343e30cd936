"""Start services as process trees that never outlive whoever started them.

Each service runs under a small *guard* process of its own (this module as a script), in its own session.
The guard ends the whole tree, first by SIGTERM and then by SIGKILL, when the service ends, when it is asked
to, or when the process that started it is gone for whatever reason, SIGKILL included. On Linux it also adopts
orphans of the tree, so that a descendant that left its parent or session is found as well.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def silent(_text: str) -> None:
    """Tell nobody about progress."""


class ServiceError(Exception):
    """A service cannot be started, or ended; the text says plainly why and what to do."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_port(port: int, *, what: str, option: str, host: str = "127.0.0.1") -> int:
    """``port``, or a free one for 0.

    :param what: who wants the port, for the error.
    :param option: the option by which a user gives another one, for the error.
    :raises ServiceError: somebody listens on it already.
    """
    if port == 0:
        return free_port(host)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServiceError(
                f"{what}: port {port} on {host} cannot be used: {(error.strerror or str(error)).lower()}. "
                f"Stop what listens there, or give another port with {option} (0 takes a free one)."
            ) from error
    return port


class Service:
    """One command as a supervised process tree.

    :param name: how it is called in messages.
    :param argv: the command.
    :param log: file that its output is appended to.
    :param env: its whole environment; ``None`` passes on that of this process.
    :param cwd: its working directory; default: the repository.
    :param grace: seconds between SIGTERM and SIGKILL when it is stopped.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = REPOSITORY,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = log
        self.env = env
        self.cwd = cwd
        self.grace = grace
        self._guard: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the command and return at once."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        guard = [sys.executable, "-P", str(Path(__file__).resolve())]
        guard += [f"--parent={os.getpid()}", f"--grace={self.grace}", "--"]
        try:
            # An interrupt inside Popen would leave a guard that nobody knows of: it waits until that is done.
            with self.log.open("ab") as output, _signals_held():
                self._guard = subprocess.Popen(
                    [*guard, *self.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=None if self.env is None else dict(self.env),
                    cwd=self.cwd,
                    start_new_session=True,  # Ctrl-C reaches this process alone, which stops its services
                )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the whole tree and wait until it is gone; harmless when it is gone already."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        try:
            guard.terminate()
            guard.wait(self.grace + 5)
        finally:
            if guard.poll() is None:
                for process in [*_descendants(guard.pid), psutil.Process(guard.pid)]:
                    _signal(process, signal.SIGKILL)
                guard.wait()

    def ask_to_stop(self) -> None:
        """Tell the guard to end the tree and return at once; :meth:`stop` waits for it."""
        if self._guard is not None:
            self._guard.terminate()

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code once the command has ended; ``128 + signal`` if a signal ended it."""
        return None if self._guard is None else self._guard.poll()

    def processes(self) -> list[psutil.Process]:
        """The command and all its descendants, without the guard."""
        return [] if self._guard is None else _descendants(self._guard.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the command ends by itself.

        :raises subprocess.TimeoutExpired: it still runs after ``timeout`` seconds.
        """
        if self._guard is None:
            raise ServiceError(f"{self.name} was not started")
        return self._guard.wait(timeout)

    def wait_until(
        self,
        ready: Callable[[], bool],
        *,
        timeout: float,
        progress: Callable[[str], None] = silent,
    ) -> None:
        """Poll ``ready`` until it is true.

        :param progress: is told every few seconds that the waiting goes on.
        :raises ServiceError: the command ended, or ``timeout`` seconds passed; names its last log lines.
        """
        started = told = time.monotonic()
        while not ready():
            now = time.monotonic()
            if not self.running:
                raise ServiceError(
                    f"{self.name} ended with exit code {self.returncode}.\n{self.last_lines()}"
                )
            if now - started > timeout:
                raise ServiceError(f"{self.name} was not ready after {timeout:.0f} s.\n{self.last_lines()}")
            if now - told >= 5:
                told = now
                progress(f"waiting for {self.name} ({now - started:.0f} s)")
            time.sleep(POLL_SECONDS)

    def last_lines(self, count: int = 15) -> str:
        """The last lines that this start of the command has written, for an error text."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - 20_000))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            if lines:
                shown = "\n".join(f"    {line[:400]}" for line in lines[-count:])
                return f"Last lines of {self.log}:\n{shown}"
        return f"It wrote nothing to {self.log}."


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def exit_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into :class:`SystemExit`, so that ``finally`` runs as it does on Ctrl-C."""

    def leave(signum: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signum)

    before = {signum: signal.signal(signum, leave) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def terminate(processes: Sequence[psutil.Process], *, grace: float) -> None:
    """SIGTERM to all, SIGKILL to those that are still there ``grace`` seconds later."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=grace)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, signum: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, PermissionError):
        process.send_signal(signum)


# --- the guard ------------------------------------------------------------------------------------------


class _Asked(BaseException):
    """Somebody asked the guard to end its tree."""


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _guard(argv: Sequence[str], *, parent: int, grace: float) -> int:
    def asked(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise _Asked

    for signum in STOP_SIGNALS:
        signal.signal(signum, asked)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    code: int | None = None
    child: subprocess.Popen[bytes] | None = None
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # they were held while the guard was started
        child = _spawn(argv)  # kept, since a Popen that is thrown away takes the exit code with it
        while code is None and os.getppid() == parent:
            code = _reap(child.pid)
            time.sleep(POLL_SECONDS)
    except _Asked:
        code = None
    except OSError as error:
        print(f"cannot run {argv[0]}: {error.strerror}", flush=True)
        return 127
    finally:
        for signum in STOP_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)
        _end_tree(child.pid if child else 0, grace=grace)
    return 128 + signal.SIGTERM if code is None else code


def _spawn(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    def prepare() -> None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    # The guard has one thread: code between fork and exec is safe, and its end is what sends the signal.
    return subprocess.Popen(argv, start_new_session=True, preexec_fn=prepare)  # noqa: PLW1509


def _reap(child: int) -> int | None:
    """Collect whatever ended, adopted orphans too; the exit code of ``child`` if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_tree(child: int, *, grace: float) -> None:
    deadline = time.monotonic() + grace
    signum = signal.SIGTERM
    while tree := [process for process in _tree(child) if _alive(process)]:
        for process in tree:
            _signal(process, signum)
        # A process may start another one while the list is read: look again until nothing is left.
        while time.monotonic() < deadline and any(map(_alive, tree)):
            _reap(child)
            time.sleep(POLL_SECONDS / 4)
        if signum == signal.SIGKILL:
            _reap(child)
            time.sleep(POLL_SECONDS / 4)
        elif time.monotonic() >= deadline:
            signum = signal.SIGKILL
    _reap(child)


def _tree(child: int) -> list[psutil.Process]:
    """Descendants of the guard, and where orphans are not adopted, the child's process group too."""
    tree = {process.pid: process for process in _descendants(os.getpid())}
    if sys.platform != "linux" and child:
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(process.pid) == child:
                    tree[process.pid] = process
    return list(tree.values())


def _main() -> int:
    parser = argparse.ArgumentParser("python -m dev.processes")
    parser.add_argument("--parent", type=int, required=True, help="process whose end ends the tree")
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS)
    parser.add_argument("argv", nargs="+")
    options = parser.parse_args()
    return _guard(options.argv, parent=options.parent, grace=options.grace)


if __name__ == "__main__":
    raise SystemExit(_main())
