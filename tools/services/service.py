"""One child process with a log, a readiness check, and an end that leaves nothing behind."""

import ctypes
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tools import step
from tools.failure import Failure
from tools.services.ports import HOST
from tools.session import end_session, signal_session

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
C_LIBRARY = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Runs in the child before exec: should the parent be killed outright, the kernel ends the child as well."""
    C_LIBRARY.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


class Service:
    """A running process in a session of its own, so that ending it ends whatever it started too."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str],
        url: str,
        outlives_parent: bool = False,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.url = url
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                # Whatever a server writes into its working directory stays among the logs, unless it has a place.
                cwd=directory or log.parent,
                env=step.clean_environment() | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=None if outlives_parent else end_with_parent,
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> Self:
        """Waits for `ready`; a process that ends first, or a deadline that passes, shows the end of the log."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                raise Failure(
                    f"{self.name} ended with {self.process.returncode} before it was ready:\n{step.tail(self.log)}",
                    f"the whole log is {self.log}",
                )
            if time.monotonic() > deadline:
                raise Failure(
                    f"{self.name} was not ready after {seconds:.0f} s:\n{step.tail(self.log, 20)}",
                    f"the whole log is {self.log}",
                )
            time.sleep(0.1)
        return self

    def wait_healthy(self, seconds: float = 300) -> Self:
        """Waits until `/health` answers 200."""
        return self.wait_until(lambda: answers(f"{self.url}/health"), seconds)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the whole session, as the kernel's out-of-memory killer would, only wider."""
        signal_session(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, time to clean up, then SIGKILL to whatever of the session is left."""
        end_session(self.process.pid)
        self.process.wait()


def stop_together(services: Sequence[Service]) -> None:
    """Stops all at once: an engine that is still loading takes some seconds to notice."""
    with ThreadPoolExecutor(max(1, len(services))) as pool:
        list(pool.map(Service.stop, services))


def accepts(port: int) -> bool:
    """Whether something listens on a port of the loopback interface."""
    with socket.socket() as caller:
        return caller.connect_ex((HOST, port)) == 0


def answers(url: str) -> bool:
    """Whether a GET gives 200 within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
