"""What the scene's processes hold when nobody asks anything."""

from contextlib import suppress

from tools.chaos.scene import SIDES, Scene
from tools.services.held import Numbers, held_by, numbers_of


def numbers(scene: Scene) -> dict[str, Numbers]:
    """By process; of those that are there."""
    processes = {f"{side}'s worker": scene.workers[side].process_id for side in SIDES}
    processes |= {f"{side}'s vLLM": scene.engines[side].process.pid for side in SIDES}
    processes["the proxy"] = scene.proxy.process.pid
    found = {}
    for name, process in processes.items():
        with suppress(OSError):
            found[name] = numbers_of(process)
    return found


def all_held(scene: Scene) -> list[str]:
    """What the workers hold at the moment, each as a line for a person."""
    return held_by({f"{side}'s worker": scene.workers[side] for side in SIDES})
