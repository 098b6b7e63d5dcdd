"""A link with something in it: what goes in and out of a node passes a process that delays frames and loses some.

For kernels that have no netem. The node's port leaves the switch, and the process stands between the two.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.services.namespaces import ip
from tools.services.network import inside
from tools.services.node import Node

PROGRAM = Path(__file__).with_name("relaying.py")


@contextmanager
def relayed(hub: Node, node: Node, milliseconds: int, loss: float, logs: Path) -> Iterator[None]:
    """While this is open, frames to and from `node` take so long each way, and this share of them is lost."""
    port, plug, socket = node.name, f"{node.name}-a", f"{node.name}-b"
    ip("-n", inside(hub), "link", "add", plug, "type", "veth", "peer", "name", socket)
    # What passes through is no business of the hub's own.
    for interface in (port, plug):
        ip("-n", inside(hub), "link", "set", interface, "arp", "off")
    ip("-n", inside(hub), "link", "set", port, "nomaster")
    ip("-n", inside(hub), "link", "set", socket, "master", "bridge", "up")
    ip("-n", inside(hub), "link", "set", plug, "up")
    command = hub.inside([sys.executable, PROGRAM, port, plug, str(milliseconds), str(loss)])
    with (logs / f"relay-{node.name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        ip("-n", inside(hub), "link", "del", plug)
        ip("-n", inside(hub), "link", "set", port, "master", "bridge", "arp", "on")
