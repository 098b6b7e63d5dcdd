"""A real data worker for tests, started and stopped through dscli."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

MEGABYTE = 1 << 20


def dscli() -> str:
    """The dscli under test: CHARIOT_DSCLI, else the one on PATH, else the latest that cargo built."""
    named = os.environ.get("CHARIOT_DSCLI") or shutil.which("dscli")
    if named:
        return named
    target = Path(__file__).parents[2] / "target"
    built = [path for profile in ("debug", "release") if (path := target / profile / "dscli").exists()]
    if not built:
        raise FileNotFoundError("no dscli: set CHARIOT_DSCLI, or run `cargo build --package dscli`")
    return str(max(built, key=lambda path: path.stat().st_mtime))


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Returns once `condition` is true; fails when it is still not after that many seconds."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"still not true after {seconds} s"
        sleep(0.01)


class Worker:
    """A data worker with `shared_memory_mb` of shared memory, or for these tenants, always on the same address.

    `spill_mb`: and with so much room on the disk.
    """

    def __init__(
        self, log_dir: Path, shared_memory_mb: int = 64, tenants: Path | None = None, spill_mb: int = 0
    ) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.shared_memory_mb = shared_memory_mb
        self._pools: tuple[str, ...] = (
            ("--tenants", str(tenants)) if tenants else ("--shared_memory_size_mb", str(shared_memory_mb))
        )
        if spill_mb:
            spill = log_dir / "spill"
            spill.mkdir(parents=True)
            self._pools += ("--spill_directory", str(spill), "--spill_size_limit", f"{spill_mb}MiB")
        self.pid = 0
        self._log_dir = log_dir

    def start(self) -> None:
        said = self._dscli(
            "start", "-w", "--worker_address", self.address, *self._pools, "--log_dir", str(self._log_dir),
        )  # fmt: skip
        found = re.search(r"PID: (\d+)", said)
        assert found, said
        self.pid = int(found[1])

    def kill(self) -> None:
        """Ends the worker as a crash would; returns once it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        wait_for(self._is_gone)
        self.pid = 0

    def stop(self) -> None:
        if self.pid:
            with contextlib.suppress(AssertionError):
                self._dscli("stop", "-w", "--worker_address", self.address)
            if not self._is_gone():
                self.kill()
            self.pid = 0

    def freeze(self) -> None:
        """Stops the worker in its tracks; returns once it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_for(lambda: self._state() == "T")

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _is_gone(self) -> bool:
        return self._state() in ("", "Z")

    def _state(self) -> str:
        """The letter that the kernel gives for the process's state; empty when there is no such process."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return ""

    def _dscli(self, *arguments: str) -> str:
        ran = subprocess.run([dscli(), *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, f"dscli {' '.join(arguments)}: {ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr
