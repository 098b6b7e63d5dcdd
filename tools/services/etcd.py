"""An etcd of one member, with its data among the logs."""

import re
import shutil
import urllib.request
from pathlib import Path

from tools.etcd import etcd_program
from tools.services.node import Node
from tools.services.service import Service, answers

CLIENT_PORT, PEER_PORT = 2379, 2380


class Etcd:
    """A running etcd; workers are given its `address`."""

    def __init__(self, service: Service, address: str) -> None:
        self.service = service
        self.address = address

    def requests(self) -> int:
        """Messages that clients have sent so far, but for those that keep leases alive, by etcd's own counters."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        counters = re.findall(r"^grpc_server_msg_received_total\{(.*)\} (\S+)$", text, re.MULTILINE)
        return sum(round(float(value)) for labels, value in counters if 'grpc_method="LeaseKeepAlive"' not in labels)


def start_etcd(node: Node, logs: Path, *, outlives_parent: bool = False) -> Etcd:
    """Starts it empty and waits until it answers."""
    shutil.rmtree(logs / "etcd", ignore_errors=True)
    return start_etcd_again(node, logs, outlives_parent=outlives_parent)


def start_etcd_again(node: Node, logs: Path, *, outlives_parent: bool = False) -> Etcd:
    """Starts it with what it has kept, and waits until it answers."""
    client, peer = (f"http://{node.host}:{port}" for port in node.ports([CLIENT_PORT, PEER_PORT]))
    data = logs / "etcd"
    service = Service(
        "etcd",
        node.inside([
            etcd_program(),
            "--name", "chariot",
            "--data-dir", data,
            "--listen-client-urls", client,
            "--advertise-client-urls", client,
            "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"chariot={peer}",
            # Nobody minds the loss of an etcd that is started empty, and disks differ.
            "--unsafe-no-fsync",
        ]),
        logs / "etcd.log",
        environment={},
        url=client,
        outlives_parent=outlives_parent,
    )  # fmt: skip
    service.wait_until(lambda: answers(f"{client}/health"), 30)
    return Etcd(service, client.removeprefix("http://"))
