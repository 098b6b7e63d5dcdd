"""What the processes hold when nobody asks anything: it must come back to the same after whatever has happened."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tools.chaos.scene import SIDES, Scene
from tools.failure import Failure

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


def numbers(scene: Scene) -> dict[str, Numbers]:
    """By process; of those that are there."""
    processes = {f"{side}'s worker": scene.workers[side].process_id for side in SIDES}
    processes |= {f"{side}'s vLLM": scene.engines[side].process.pid for side in SIDES}
    processes["the proxy"] = scene.proxy.process.pid
    found = {}
    for name, process in processes.items():
        with suppress(OSError):
            found[name] = Numbers(count(process, "fd"), count(process, "task"))
    return found


def count(process: int, what: str) -> int:
    """Entries of a folder in /proc."""
    return len(list(Path(f"/proc/{process}/{what}").iterdir()))


def wait_for_rest(scene: Scene) -> list[str]:
    """Waits until the workers hold nothing; what they hold when they should not for that long."""
    deadline = time.monotonic() + REST_SECONDS
    while (held := all_held(scene)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return held


def all_held(scene: Scene) -> list[str]:
    """What the workers hold at the moment, each as a line for a person."""
    held = []
    for side in SIDES:
        try:
            status = scene.workers[side].status()
        except Failure as failure:
            held.append(f"{side}'s worker does not say how it is: {failure}")
            continue
        cluster = status["cluster"]
        assert isinstance(cluster, dict)
        found = {name: status[name] for name in HELD} | {name: cluster[name] for name in HELD_IN_CLUSTER}
        held += [f"{side}'s worker: {name} is {value}" for name, value in found.items() if value]
        reached = [member for member in cluster["members"] if member["is_reached"]]
        if len(reached) != len(SIDES):
            held.append(f"{side}'s worker reaches {len(reached)} members")
    return held


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
