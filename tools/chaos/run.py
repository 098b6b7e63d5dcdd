"""The command: sets the scene, and under a steady load has one fault after another happen, as a seed draws them."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tools import step
from tools.chaos.fault import Fault
from tools.chaos.faults import FAULTS
from tools.chaos.load import Load, learn
from tools.chaos.report import Report, Row
from tools.chaos.rest import all_held, numbers
from tools.chaos.scene import CHAOS_LOGS, Scene, set_scene
from tools.failure import Failure
from tools.services.held import grown, wait_for_rest
from tools.traffic.metrics import counter
from tools.verdict import show
from tools.vllm_environment import locked

LOADED_BLOCKS = "vllm:chariot_loaded_blocks_total"
RECOVERY_SECONDS = 60.0
WARM_SECONDS = 60.0
LONGEST_PAUSE = 3.0
AFTER_RETURN = 3.0
"""Requests may fail for so long after what takes them is back."""


def run_chaos(minutes: float, seed: int, json_file: Path | None, only: str = "") -> str:
    """Disturbs the scene for so long, shows what came of it, and fails if anything did not hold.

    `only`: the faults with this in their names alone.
    """
    faults = [fault for fault in FAULTS if only in fault.name]
    if not faults:
        raise Failure(f"no fault has `{only}` in its name", "tools/chaos/faults.py lists them")
    report = Report(seed, minutes)
    try:
        with locked("chaos"), ExitStack() as cleanup:
            CHAOS_LOGS.mkdir(parents=True, exist_ok=True)
            run_scene(set_scene(cleanup), report, faults)
    finally:
        # Also of what broke off.
        show(report.table(), json_file, report.content())
    report.judge(CHAOS_LOGS)
    tally = report.tally
    return f"{len(report.rows)} faults, {tally.requests} requests with the right tokens, {tally.refused} asked again"


def run_scene(scene: Scene, report: Report, faults: Sequence[Fault]) -> None:
    """Has the load and the faults run, and waits for rest."""
    step.say("asking a plain vLLM what is right")
    known = learn(scene.plain.url, report.seed)
    step.say(f"{report.minutes:g} minutes of chaos, seed {report.seed}")
    load = Load(scene.proxy.url, known, report.seed)
    report.tally = load.tally
    with load:
        if flows_after(scene, flowed(scene), WARM_SECONDS) is None:
            raise Failure("no KV cache has flowed before anything happened", f"logs are in {CHAOS_LOGS}")
        before = numbers(scene)
        disturb(scene, load, report, faults)
    report.leaks = [*wait_for_rest(lambda: all_held(scene)), *grown(before, numbers(scene))]
    report.engines_lost = scene.lost_engines()


def disturb(scene: Scene, load: Load, report: Report, faults: Sequence[Fault]) -> None:
    """Has faults happen until the time is over."""
    end = time.monotonic() + 60 * report.minutes
    for pause, fault, seconds in draw(report.seed, faults):
        time.sleep(pause)
        if time.monotonic() + seconds > end:
            return
        step.note(f"{fault.name}, for {seconds:.1f} s")
        report.rows.append(suffer(scene, load, fault, seconds))
        if lost := scene.lost_engines():
            raise Failure(f"{' and '.join(lost)} ended while {fault.name}", f"logs are in {CHAOS_LOGS}")


def draw(seed: int, faults: Sequence[Fault]) -> Iterator[tuple[float, Fault, float]]:
    """Endlessly: how long to wait, what happens, for how many seconds. All happens before anything happens again."""
    generator = random.Random(seed)
    while True:
        for fault in generator.sample(faults, len(faults)):
            yield generator.uniform(0, LONGEST_PAUSE), fault, generator.uniform(fault.shortest, fault.longest)


def suffer(scene: Scene, load: Load, fault: Fault, seconds: float) -> Row:
    """One fault, from its cause until KV cache flows again."""
    before = load.tally.counts()
    if fault.ends_requests:
        load.excuse(float("inf"))
    begun = time.monotonic()
    with fault.happens(scene):
        time.sleep(seconds)
    lasted = time.monotonic() - begun
    if fault.ends_requests:
        load.excused_until = time.monotonic() + AFTER_RETURN
    recovered = flows_after(scene, flowed(scene), RECOVERY_SECONDS)
    since = (now - then for now, then in zip(load.tally.counts(), before, strict=True))
    return Row(fault.name, lasted, recovered, *since)


def flows_after(scene: Scene, before: float, patience: float) -> float | None:
    """Seconds until decode has loaded more than `before`; `None` if it does not in time."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < patience:
        if flowed(scene) > before:
            return waited
        time.sleep(0.1)
    return None


def flowed(scene: Scene) -> float:
    """Blocks that decode has loaded."""
    return counter(scene.engines["decode"].url, LOADED_BLOCKS)
