"""Links between the nodes that are cut, slow, or lose what they carry."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tools.chaos.fault import Happening
from tools.chaos.scene import CHAOS_LOGS, Scene
from tools.services.network import inside
from tools.services.relay import relayed


def cut(*ways: tuple[str, str]) -> Happening:
    """What one node sends to the other is lost."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        for sender, receiver in ways:
            scene.network.cut(scene.node(sender), scene.node(receiver))
        yield
        for sender, receiver in ways:
            scene.network.heal(scene.node(sender), scene.node(receiver))

    return happens


def slow(kilobits: int) -> Happening:
    """Both nodes send no faster than this."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        rate = f"{kilobits}kbit"
        discipline = ["root", "tbf", "rate", rate, "burst", "32kb", "latency", "400ms"]
        for node in scene.network.nodes:
            subprocess.run(["tc", "-n", inside(node), "qdisc", "replace", "dev", "eth0", *discipline], check=True)
        yield
        for node in scene.network.nodes:
            subprocess.run(["tc", "-n", inside(node), "qdisc", "del", "dev", "eth0", "root"], check=True)

    return happens


def bad(milliseconds: int, loss: float) -> Happening:
    """What goes from node to node takes so long, and this share of it is lost: half of it at either."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        with ExitStack() as relays:
            for node in scene.network.nodes:
                relays.enter_context(relayed(scene.network.hub, node, milliseconds // 2, loss / 2, CHAOS_LOGS))
            yield

    return happens
