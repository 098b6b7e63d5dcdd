"""What processes hold, which must come back to the same after whatever has happened."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.failure import Failure
from tools.services.data_worker import DataWorker

REST_SECONDS = 60.0
HELD = ("growing_blocks", "pinned_blocks", "detached_blocks", "waiting")
HELD_IN_CLUSTER = ("wanted", "streams")
SPARE_DESCRIPTORS, SPARE_THREADS = 24, 8
"""Connections between workers are dialled when they are first needed, and threads come with work."""


@dataclass(frozen=True)
class Numbers:
    """Of one process."""

    descriptors: int
    threads: int
    memory: int
    """Bytes of its own, without what it shares."""


def numbers_of(process: int) -> Numbers:
    """What the kernel says of it; `OSError` if it is gone."""
    status = Path(f"/proc/{process}/status").read_text()
    anonymous = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return Numbers(count(process, "fd"), count(process, "task"), 1024 * int(anonymous[1]) if anonymous else 0)


def count(process: int, what: str) -> int:
    """Entries of a folder in /proc."""
    return len(list(Path(f"/proc/{process}/{what}").iterdir()))


def grown(before: Mapping[str, Numbers], after: Mapping[str, Numbers]) -> list[str]:
    """Which processes have more descriptors or threads than work explains."""
    lines = []
    for name, now in after.items():
        then = before[name]
        if now.descriptors > then.descriptors + SPARE_DESCRIPTORS:
            lines.append(f"{name} has {now.descriptors} descriptors, and had {then.descriptors}")
        if now.threads > then.threads + SPARE_THREADS:
            lines.append(f"{name} has {now.threads} threads, and had {then.threads}")
    return [*lines, *(f"{name} is gone" for name in before if name not in after)]


def wait_for_rest(look: Callable[[], list[str]]) -> list[str]:
    """Waits until `look` finds nothing that is held; what it finds when it should not for that long."""
    deadline = time.monotonic() + REST_SECONDS
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def held_by(workers: Mapping[str, DataWorker]) -> list[str]:
    """What the workers of a cluster hold at the moment, each as a line for a person."""
    held = []
    for name, worker in workers.items():
        try:
            status = worker.status()
        except Failure as failure:
            held.append(f"{name} does not say how it is: {failure}")
            continue
        cluster = status["cluster"]
        assert isinstance(cluster, dict)
        found = {what: status[what] for what in HELD} | {what: cluster[what] for what in HELD_IN_CLUSTER}
        held += [f"{name}: {what} is {value}" for what, value in found.items() if value]
        reached = [member for member in cluster["members"] if member["is_reached"]]
        if len(reached) != len(workers):
            held.append(f"{name} reaches {len(reached)} members")
    return held
