"""How slow the links of a network are made, by `tc`."""

import subprocess
from dataclasses import dataclass

from tools.services.network import Network, inside
from tools.services.node import Node


@dataclass(frozen=True)
class Link:
    """A cable's rate, and how long a packet takes through it."""

    gigabits: int
    milliseconds: int


def shape(network: Network, link: Link) -> str:
    """Gives each node's link this rate and delay, for what it sends; says what came of it."""
    rate = f"{link.gigabits}gbit"
    if not network.is_real:
        return "loopback, as fast as it is"
    delayed = ["netem", "delay", f"{link.milliseconds}ms", "rate", rate, "limit", "100000"]
    if all(tc(node, delayed) for node in network.nodes):
        return f"{link.gigabits} Gbit/s and {link.milliseconds} ms"
    # A kernel may come without netem; a token bucket has the rate and no delay.
    capped = ["tbf", "rate", rate, "burst", "1mb", "latency", "20ms"]
    if all(tc(node, capped) for node in network.nodes):
        return f"{link.gigabits} Gbit/s and no delay: this kernel has no netem"
    unshape(network)
    return "as fast as it is: this kernel has neither netem nor tbf"


def unshape(network: Network) -> None:
    """Makes the links as fast as they are by themselves."""
    for node in network.nodes:
        if node.namespace is not None:
            subprocess.run(["tc", "-n", node.namespace, "qdisc", "del", "dev", "eth0", "root"], check=False)


def tc(node: Node, discipline: list[str]) -> bool:
    """Puts a queueing discipline on the node's interface; whether the kernel has it."""
    command = ["tc", "-n", inside(node), "qdisc", "replace", "dev", "eth0", "root", *discipline]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
