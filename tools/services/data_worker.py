"""The data worker, started and stopped through dscli as a user does."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tools import step
from tools.checkout import INSTALLED_DSCLI
from tools.failure import Failure
from tools.services.node import HERE, Node

NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class DataWorker:
    """A worker that serves at `address`."""

    address: str
    logs: Path
    ok_line: str
    program: Path = INSTALLED_DSCLI

    def status(self) -> dict[str, object]:
        """What `dscli status --json` says."""
        reply = dscli(["status", "--worker_address", self.address, "--json"], self.logs, self.program)
        answer: dict[str, object] = json.loads(reply)
        return answer

    @property
    def process_id(self) -> int:
        """From the line that `dscli start` printed."""
        return int(self.ok_line.rpartition("PID:")[2])

    def stop(self) -> None:
        """Drains and ends it."""
        dscli(["stop", "-w", "--worker_address", self.address], self.logs, self.program)


def start_worker(
    address: str,
    logs: Path,
    *arguments: str,
    node: Node = HERE,
    program: Path = INSTALLED_DSCLI,
    environment: Mapping[str, str] = NOTHING,
) -> DataWorker:
    """`dscli start -w`; returns when the worker serves."""
    logs.mkdir(parents=True, exist_ok=True)
    start = ["start", "-w", "--worker_address", address, "--log_dir", str(logs), *arguments]
    output = dscli(start, logs, program, node, environment)
    return DataWorker(address, logs, ok_line(output), program)


def restart_worker(worker: DataWorker, node: Node = HERE, environment: Mapping[str, str] = NOTHING) -> DataWorker:
    """`dscli restart -w`: the worker in a new process, with its blocks and its clients."""
    restart = ["restart", "-w", "--worker_address", worker.address]
    output = dscli(restart, worker.logs, worker.program, node, environment)
    return replace(worker, ok_line=ok_line(output))


def ok_line(output: str) -> str:
    """The line by which dscli says that a worker serves, and in which process."""
    line = next((line for line in output.splitlines() if "[  OK  ]" in line), None)
    if line is None:
        raise Failure(f"dscli ended well but printed no OK line:\n{output}")
    return line


def dscli(
    arguments: Sequence[str],
    directory: Path,
    program: Path = INSTALLED_DSCLI,
    node: Node = HERE,
    environment: Mapping[str, str] = NOTHING,
) -> str:
    """Runs a dscli, by default the one that the wheel installed; returns what it printed."""
    result = subprocess.run(
        node.inside([program, *arguments]),
        cwd=directory,
        env=step.clean_environment() | dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode != 0:
        raise Failure(f"`dscli {' '.join(arguments)}` ended with code {result.returncode}: {result.stderr.strip()}")
    return result.stdout
