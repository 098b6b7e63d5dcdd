"""The data worker, started and stopped through dscli as a user does."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    line = next((line for line in output.splitlines() if "[  OK  ]" in line), None)
    if line is None:
        raise Failure(f"`dscli start` ended well but printed no OK line:\n{output}")
    return DataWorker(address, logs, line, program)


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
