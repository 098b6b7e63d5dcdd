"""Counts the prompt tokens that a vLLM instance really computed, from its log of scheduler steps.

vLLM's counters cannot be trusted for this: `prompt_tokens_by_source{source="local_compute"}` is settled when a request
is admitted, so it reads 0 for a prompt that was loaded whole (one token is computed all the same), and stays 0 when
the load fails afterwards and everything is recomputed. The scheduler's own lines say what each step worked on.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(
    rb"Iteration\(\d+\): (\d+) context requests, (\d+) context tokens, "
    rb"(\d+) generation requests, (\d+) generation tokens"
)


@dataclass(frozen=True)
class Computed:
    """Sums over scheduler steps."""

    prompt_tokens: int
    generation_tokens: int
    prompt_steps: int


class StepLog:
    """Reads the lines added to one instance's log since the last mark."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = path.stat().st_size

    def mark(self) -> None:
        """Forgets what has been computed so far. Call it while the instance is idle."""
        self.offset = self.path.stat().st_size

    def computed(self) -> Computed:
        """What the steps since the mark worked on."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            rows = LINE.findall(file.read())
        return Computed(
            prompt_tokens=sum(int(row[1]) for row in rows),
            generation_tokens=sum(int(row[3]) for row in rows),
            prompt_steps=sum(int(row[0]) > 0 for row in rows),
        )

    def settled(self, is_complete: Callable[[Computed], bool], seconds: float = 10) -> Computed:
        """Waits until the log, which lags behind the replies by a moment, is complete; returns what it has."""
        deadline = time.monotonic() + seconds
        while not is_complete(found := self.computed()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found
