"""Runs the steps of ./dev one after another: says what each does, keeps its log, and sums the seconds up in a table."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.checkout import LOGS, ROOT
from tools.failure import Failure
from tools.session import end_session

HEARTBEAT_SECONDS = 15
TAIL_LINES = 60


@dataclass(frozen=True)
class Outcome:
    """One line of the closing table."""

    name: str
    seconds: float
    state: str


class Steps:
    """The steps taken so far. A failing step prints the end of its log; whether others still run is the caller's."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def take(self, name: str, work: Callable[[], str | None]) -> bool:
        """Runs `work`, which may return a remark for the table; returns whether it passed."""
        say(name)
        started = time.monotonic()
        try:
            remark = work() or "passed"
        except Failure as failure:
            self.outcomes.append(Outcome(name, time.monotonic() - started, "FAILED"))
            show(failure)
            return False
        self.outcomes.append(Outcome(name, time.monotonic() - started, remark))
        note(f"{remark} ({self.outcomes[-1].seconds:.1f} s)")
        return True

    def table(self) -> str:
        """The steps with their seconds, the slowest not hidden in the middle of a log."""
        width = max((len(outcome.name) for outcome in self.outcomes), default=4)
        lines = [f"{'step':<{width}}  {'seconds':>8}  result"]
        lines += [f"{item.name:<{width}}  {item.seconds:>8.1f}  {item.state}" for item in self.outcomes]
        lines.append(f"{'all':<{width}}  {sum(item.seconds for item in self.outcomes):>8.1f}")
        return "\n".join(lines)

    @property
    def failed(self) -> list[str]:
        """Names of the steps that failed."""
        return [outcome.name for outcome in self.outcomes if outcome.state == "FAILED"]


def say(text: str) -> None:
    """Announces a step."""
    print(f"==> {text}", flush=True)


def note(text: str) -> None:
    """Says something about the step at hand."""
    print(f"    {text}", flush=True)


def show(failure: Failure) -> None:
    """Prints a failure the way dscli does: the error, then a hint."""
    print(f"error: {failure}", file=sys.stderr)
    if failure.hint:
        print(f"hint: {failure.hint}", file=sys.stderr)
    sys.stderr.flush()


def run(
    command: Sequence[str | Path],
    log: str,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path = ROOT,
    seconds: float | None = None,
) -> None:
    """Runs `command` with its output in `.dev/logs/<log>.log`; a sign of life now and then; the tail when it fails.

    What runs for longer than `seconds` is ended and has failed.
    """
    path = LOGS / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=directory,
            env=clean_environment() | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with heartbeat(path):
            code = wait_or_end(process, seconds)
    if code is None:
        raise Failure(f"`{named(command)}` was ended after {seconds:.0f} s", f"its log is {path.relative_to(ROOT)}")
    if code != 0:
        print(tail(path), file=sys.stderr)
        raise Failure(f"`{named(command)}` ended with code {code}", f"the whole log is {path.relative_to(ROOT)}")


def named(command: Sequence[str | Path]) -> str:
    """The command for a person: its program without the folder."""
    return " ".join([Path(command[0]).name, *map(str, command[1:])])


def wait_or_end(process: subprocess.Popen[bytes], seconds: float | None) -> int | None:
    """Waits for the process; an interrupt, or the end of its time, ends it and its children. None for the latter."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        end_session(process.pid)
        process.wait()
        return None
    except BaseException:
        end_session(process.pid)
        process.wait()
        raise


@contextmanager
def heartbeat(path: Path) -> Iterator[None]:
    """Prints the last line of a growing log from time to time, so that a long step is seen to move."""
    done = threading.Event()
    started = time.monotonic()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            last = tail(path, 1).strip()[:110]
            note(f"{time.monotonic() - started:4.0f} s  {last}")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log; progress bars that rewrite their line count as their last state."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 200 * 200))
        text = file.read().decode(errors="replace")
    kept = [line.rsplit("\r", 1)[-1] for line in text.splitlines() if line.strip()]
    return "\n".join(kept[-lines:])


def clean_environment() -> dict[str, str]:
    """This process's environment without what only the tools themselves are meant to see."""
    unwanted = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
    return {name: value for name, value in os.environ.items() if name not in unwanted}
