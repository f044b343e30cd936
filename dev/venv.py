"""Make a virtual environment exactly what a lock file says: ``python dev/venv.py dev``.

It needs the standard library only, because it runs before anything is installed. An environment that is up
to date costs a fraction of a second; one of another Python, or that no longer starts, is made again.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
STATE = REPOSITORY / ".chunkwise"
OLDEST = (3, 11)
LAST_LINES = 15
WHO_AM_I = "import sys; print(sys.version_info[:3], sys.base_prefix)"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One of the project's virtual environments.

    :param folder: where it is, below the repository.
    :param lock: its lock file: every package, with ``==``.
    :param project: whether the project itself is installed too, editable.
    """

    folder: str
    lock: str
    project: bool = False


ENVIRONMENTS = {
    "dev": Environment(folder=".venv", lock="constraints/dev.txt", project=True),
    "localstack": Environment(folder=".venv-localstack", lock="constraints/localstack.txt"),
    "bench": Environment(folder=".venv-bench", lock="constraints/bench.txt"),
}


class InstallError(Exception):
    """Something could not be installed; the text says what, why, and what to do.

    :param reason: what failed, in half a sentence.
    :param said: the last lines of what failed.
    :param advice: what may help.
    """

    def __init__(self, reason: str, said: Sequence[str] = (), advice: str = "") -> None:
        super().__init__(
            "\n".join([f"{reason}.", *(f"  {line}" for line in said), *([advice] if advice else [])])
        )
        self.reason = reason


class Installer:
    """Brings one environment to its lock file.

    :param name: key of :data:`ENVIRONMENTS`.
    """

    def __init__(self, name: str) -> None:
        environment = ENVIRONMENTS[name]
        self.name = name
        self.folder = REPOSITORY / environment.folder
        self.lock = REPOSITORY / environment.lock
        self.project = environment.project
        self.log = STATE / f"install-{name}.log"
        self.python = self.folder / "bin" / "python"
        self.stamp = self.folder / "chunkwise-lock.sha256"

    def run(self) -> None:
        """Do what is missing, and no more.

        :raises InstallError: it failed; the log has everything that pip and uv said.
        """
        wanted = self.fingerprint()
        usable = self.same_python()
        if usable and self.stamp.exists() and self.stamp.read_text() == wanted:
            return
        started = time.monotonic()
        self.log.write_text("")
        self.stamp.unlink(missing_ok=True)
        if not usable:
            self.make()
        self.install()
        self.stamp.write_text(wanted)
        self.say(f"ready after {time.monotonic() - started:.0f} s")

    def fingerprint(self) -> str:
        """What the environment depends on, in one text: the lock, and with the project its metadata."""
        digest = hashlib.sha256(self.lock.read_bytes())
        if self.project:
            digest.update((REPOSITORY / "pyproject.toml").read_bytes())
        return digest.hexdigest()

    def same_python(self) -> bool:
        """Whether the environment starts, and was made by the Python that runs this."""
        if not self.python.exists():
            return False
        answer = subprocess.run([self.python, "-I", "-c", WHO_AM_I], capture_output=True, text=True)
        return answer.stdout.strip() == f"{sys.version_info[:3]} {sys.base_prefix}"

    def make(self) -> None:
        """A new and empty environment, also over the remains of an old one."""
        version = ".".join(map(str, sys.version_info[:3]))
        self.say(f"making {self.folder.name} with Python {version} ({sys.executable})")
        # Installing pip takes longest, and is not needed where uv is there already.
        without_pip = ["--without-pip"] if reports(self.shared_uv, self.uv_pin()) else []
        self.attempt(
            [sys.executable, "-m", "venv", "--clear", *without_pip, str(self.folder)],
            failure=f"Python {version} cannot make a virtual environment",
            advice=f"On Debian and Ubuntu `apt install python3.{sys.version_info[1]}-venv` helps.",
        )

    def install(self) -> None:
        """Install the lock with uv, or with pip where uv does not work (it does not read pip's settings)."""
        count = len(re.findall(r"^[^#\s].*==", self.lock.read_text(), re.MULTILINE))
        lock = self.lock.relative_to(REPOSITORY)
        self.say(f"installing up to {count} packages of {lock}; what pip and uv say goes to {self.shown_log}")
        try:
            uv = self.uv()
            self.attempt(
                [*uv, "sync", "--python", str(self.python), str(self.lock)], failure="uv cannot install it"
            )
        except InstallError as error:
            self.say(f"{error.reason}; trying pip, which takes minutes")
            self.ensure_pip()
            self.attempt(
                [*self.pip, "install", "--no-deps", "-r", str(self.lock)],
                failure=f"The packages of {lock} cannot be installed",
            )
            uv = self.pip
        if self.project:
            # The build backend is in the lock: nothing is downloaded for it.
            editable = ["install", "--no-deps", "--no-build-isolation", "--editable", str(REPOSITORY)]
            which = [] if uv is self.pip else ["--python", str(self.python)]
            self.attempt([*uv, *editable, *which], failure="The project itself cannot be installed")

    @property
    def pip(self) -> list[str]:
        """The environment's pip."""
        return [str(self.python), "-m", "pip"]

    @property
    def shared_uv(self) -> Path:
        """Where uv is once the development environment is there."""
        return REPOSITORY / ENVIRONMENTS["dev"].folder / "bin" / "uv"

    @property
    def shown_log(self) -> str:
        """The log's path as a reader in the repository types it."""
        return str(self.log.relative_to(REPOSITORY))

    def uv(self) -> list[str]:
        """uv's pip interface, at the version of the development lock, installed by pip if it is not there."""
        pin = self.uv_pin()
        uv = self.shared_uv
        if not reports(uv, pin):
            uv = self.folder / "bin" / "uv"
        if not reports(uv, pin):
            self.ensure_pip()
            self.attempt([*self.pip, "install", pin], failure=f"pip cannot install {pin}")
        return [str(uv), "pip"]

    def uv_pin(self) -> str:
        """The version of uv that the development lock names, as ``uv==1.2.3``."""
        lock = ENVIRONMENTS["dev"].lock
        pin = re.search(r"^uv==\S+", (REPOSITORY / lock).read_text(), re.MULTILINE)
        if pin is None:
            raise InstallError(f"{lock} does not pin uv; run `make lock`")
        return pin[0]

    def ensure_pip(self) -> None:
        """Put pip into an environment that was made without it."""
        if subprocess.run([*self.pip, "--version"], capture_output=True).returncode != 0:
            self.attempt([str(self.python), "-m", "ensurepip"], failure="This Python has no pip")

    def attempt(self, command: Sequence[str], *, failure: str, advice: str = "") -> None:
        """Run a command with its output in the log.

        :raises InstallError: its exit code is not 0; the text has its last lines.
        """
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            start = self.log.stat().st_size
            foreign = ("PYTHONPATH", "VIRTUAL_ENV")
            env = {key: value for key, value in os.environ.items() if key not in foreign}
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=REPOSITORY)
        if done.returncode != 0:
            said = self.log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
            raise InstallError(failure, said[-LAST_LINES:], advice)

    def say(self, text: str) -> None:
        """Progress, for the person who waits."""
        print(f"[{self.name}] {text}", flush=True)


def reports(uv: Path, pin: str) -> bool:
    """Whether this uv is there, starts, and is the version of ``pin`` (``uv==0.13.8``)."""
    if not uv.exists():
        return False
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True)
    except OSError:
        return False
    return answer.stdout.split()[1:2] == [pin.partition("==")[2]]


def main(argv: list[str] | None = None) -> int:
    """Bring the named environments up to date, one after the other; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser("python dev/venv.py", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", choices=sorted(ENVIRONMENTS), metavar="environment")
    options = parser.parse_args(argv)
    if sys.version_info < OLDEST:
        print(f"Chunkwise needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    STATE.mkdir(exist_ok=True)
    for name in options.names:
        installer = Installer(name)
        try:
            with (STATE / f"install-{name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # of two `make` in one checkout the second waits
                installer.run()
        except InstallError as error:
            print(
                f"\nThe environment `{name}` is not ready. {error}\n\n"
                f"Everything that was said is in {installer.shown_log}. If the package index cannot be "
                "reached, check the network and the settings of pip and uv; then run this again.",
                file=sys.stderr,
            )
            return 1
        except KeyboardInterrupt:
            print(f"\n[{name}] interrupted; run the same command again to go on.", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
