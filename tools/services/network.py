"""Several hosts on this machine: network namespaces on one switch, each with an address of its own.

```text
      node1          node2          node3
    10Gbit/s ..  eth0, one end of a veth pair
        |              |              |
    ----+------- bridge in `hub` -----+----+---- this machine, so that tools reach all of them
                 (etcd runs there)
```

Where namespaces are not allowed, the nodes are loopback addresses: services talk all the same, but no link can be slow
or cut.
"""

import hashlib
import json
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from os import getpid

from tools import step
from tools.services import namespaces
from tools.services.namespaces import NotAllowed, interface_of, ip, name_of
from tools.services.node import Node
from tools.vllm_environment import locked

# RFC 2544 keeps these addresses for measurements between devices: no real host has one.
NETWORKS = [f"198.{18 + index // 256}.{index % 256}" for index in range(512)]


@dataclass(frozen=True)
class Network:
    """The nodes of a deployment; `hub` is the one for what is no data worker."""

    hub: Node
    nodes: tuple[Node, ...]

    @property
    def is_real(self) -> bool:
        """Whether the nodes are namespaces."""
        return self.hub.namespace is not None

    def cut_off(self, node: Node) -> None:
        """Takes a node off the network, in both directions and from all."""
        ip("-n", inside(node), "link", "set", "eth0", "down")

    def join(self, node: Node) -> None:
        """The opposite of `cut_off`."""
        ip("-n", inside(node), "link", "set", "eth0", "up")

    def cut(self, sender: Node, receiver: Node) -> None:
        """What one node sends to another is lost; the other direction stays."""
        nobody = "02:00:00:00:00:01"
        ip("-n", inside(sender), "neigh", "replace", receiver.host, "lladdr", nobody, "dev", "eth0", "nud", "permanent")

    def heal(self, sender: Node, receiver: Node) -> None:
        """The opposite of `cut`."""
        ip("-n", inside(sender), "neigh", "del", receiver.host, "dev", "eth0")


def inside(node: Node) -> str:
    """The node's namespace."""
    if node.namespace is None:
        raise NotAllowed(f"{node.name} has no link of its own")
    return node.namespace


def make_network(label: str, count: int, cleanup: ExitStack) -> Network:
    """Nodes on one network, for one purpose; what an earlier run left goes first; `cleanup` removes it all."""
    cleanup.enter_context(locked(f"network {label}"))
    try:
        namespaces.remove(label)
        cleanup.callback(remove, label)
        return connected(label, count, free_prefix(label, cleanup))
    except NotAllowed as reason:
        remove(label)
        step.note(f"no network namespaces: {reason}")
        nodes = tuple(Node(f"node{number + 1}", f"127.0.0.{number + 2}") for number in range(count))
        step.note(f"the nodes are {', '.join(node.host for node in nodes)} instead: nothing is between them")
        return Network(Node("hub", "127.0.0.1"), nodes)


def remove(label: str) -> None:
    """The end of a network, as far as there is one."""
    with suppress(NotAllowed):
        namespaces.remove(label)


def connected(label: str, count: int, prefix: str) -> Network:
    """The network with namespaces."""
    hub = Node("hub", f"{prefix}.1", name_of(label, "hub"))
    nodes = tuple(
        Node(f"node{number}", f"{prefix}.{10 + number}", name_of(label, f"node{number}"))
        for number in range(1, count + 1)
    )
    for node in (hub, *nodes):
        ip("netns", "add", inside(node))
        ip("-n", inside(node), "link", "set", "lo", "up")
    # An address of its own, or it would change as ports come and go.
    ip("-n", inside(hub), "link", "add", "bridge", "address", "02:00:00:00:00:02", "type", "bridge")
    ip("-n", inside(hub), "address", "add", f"{hub.host}/24", "dev", "bridge")
    ip("-n", inside(hub), "link", "set", "bridge", "up")
    for node in nodes:
        plug_in(hub, node.name, "eth0", inside(node))
        ip("-n", inside(node), "address", "add", f"{node.host}/24", "dev", "eth0")
        ip("-n", inside(node), "link", "set", "eth0", "up")
    plug_in(hub, "outside", interface_of(label), str(getpid()))
    ip("address", "add", f"{prefix}.254/24", "dev", interface_of(label))
    ip("link", "set", interface_of(label), "up")
    return Network(hub, nodes)


def plug_in(hub: Node, port: str, interface: str, where: str) -> None:
    """A cable from a port of the bridge to an interface in the namespace `where`: its name, or a process in it."""
    ip("-n", inside(hub), "link", "add", port, "type", "veth", "peer", "name", interface, "netns", where)
    ip("-n", inside(hub), "link", "set", port, "master", "bridge", "up")


def free_prefix(label: str, cleanup: ExitStack) -> str:
    """The first three numbers of addresses that no other network of this machine has, until `cleanup`.

    Another one for each purpose: workers at one address are told apart by nothing but that.
    """
    routes = [route["dst"] for route in json.loads(ip("-json", "route", "show"))]
    first = int.from_bytes(hashlib.sha256(name_of(label, "").encode()).digest()[:4])
    for index in range(len(NETWORKS)):
        prefix = NETWORKS[(first + index) % len(NETWORKS)]
        if not any(route.startswith(f"{prefix}.") for route in routes) and claim(prefix, cleanup):
            return prefix
    raise NotAllowed(f"all of {len(NETWORKS)} networks are taken")


def claim(prefix: str, cleanup: ExitStack) -> bool:
    """Keeps others from taking a network between the look at the routes and the making of one's own."""
    holder = socket.socket(socket.AF_UNIX)
    cleanup.callback(holder.close)
    try:
        holder.bind(f"\0chariot-network-{prefix}")
    except OSError:
        return False
    return True
