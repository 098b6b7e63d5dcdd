"""`./dev bench` between nodes: workers of one cluster, each in a network namespace, and an etcd beside them.

Which rows there are, `dscli bench-nodes` knows (crates/bench/src/nodes); here are the nodes, the links between them,
and what can be read from etcd alone.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tools import step
from tools.checkout import BUILT_DSCLI, LOGS
from tools.integrity_bench import build_unchecked, share_lost
from tools.iperf3 import ensure_iperf3
from tools.rows import Row, add_to, alone, table
from tools.services.certificates import make_authority
from tools.services.data_worker import start_worker
from tools.services.etcd import Etcd, start_etcd
from tools.services.link import Link, shape, unshape
from tools.services.network import Network, make_network
from tools.services.node import Node

NETWORK = "bench"
# Look-ups are over three workers; what two do among themselves needs no third.
WORKERS, LOOKUP_WORKERS = 2, 3
POOL_MEGABYTES = 1024
WORKER_PORT, SECOND_WORKER_PORT = 31501, 31502
SLOW_LINK = Link(gigabits=10, milliseconds=1)
FAST_LINK = Link(gigabits=25, milliseconds=1)
SMALL_BLOCKS = 100_000
# Two workers are compared with two others on the same nodes.
PAIRS = ("tls", "integrity_nodes")
SECONDS = 600


@dataclass(frozen=True)
class Cluster:
    """The workers, and where each is."""

    network: Network
    etcd: Etcd
    nodes: Sequence[Node]
    addresses: Sequence[str]

    def measure(self, part: str, rounds: int) -> list[Row]:
        """The rows of one part."""
        nodes = [self.words(node, address) for node, address in zip(self.nodes, self.addresses, strict=True)]
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            step.run(
                [
                    BUILT_DSCLI, "bench-nodes", part,
                    *(word for node in nodes for word in ("--node", node)),
                    "--iperf3", ensure_iperf3(),
                    "--rounds", str(rounds),
                    "--json", file.name,
                ],
                f"bench/{part}",
                seconds=SECONDS,
            )  # fmt: skip
            rows: list[Row] = json.load(file)["rows"]
        return rows

    @staticmethod
    def words(node: Node, address: str) -> str:
        """How `dscli bench-nodes` is told of a worker."""
        return address if node.namespace is None else f"{address}@{node.namespace}"


def run_nodes_bench(json_file: Path | None, parts: Sequence[str]) -> str:
    """Measures these parts, prints the rows, and adds them to those of the file."""
    rows: list[Row] = []
    for part in parts:
        step.note(f"between nodes: {part.replace('_', ' ')}")
        with ExitStack() as cleanup:
            cluster = start_cluster(cleanup, part)
            rows += PARTS[part](cluster)
    print(f"\n{table(rows)}\n", flush=True)
    if json_file is not None:
        add_to(json_file, rows)
    return f"{len(rows)} rows between nodes"


def transfers(cluster: Cluster) -> list[Row]:
    """Pulls and pushes, on links as fast as this machine makes them."""
    return cluster.measure("transfers", rounds=7)


def lookups(cluster: Cluster) -> list[Row]:
    """Questions to the owners of keys."""
    return cluster.measure("lookups", rounds=7)


def small(cluster: Cluster) -> list[Row]:
    """Very many small blocks, and what etcd had to do with them."""
    before = cluster.etcd.requests()
    rows = cluster.measure("small", rounds=1)
    requests = cluster.etcd.requests() - before
    return [*rows, alone("etcd_requests_per_block", requests / SMALL_BLOCKS, "requests")]


def tls(cluster: Cluster) -> list[Row]:
    """Pulls within TLS, against the same without."""
    plain = "the same pull between workers on the same nodes without TLS"
    return [row | {"row": "pull_64x1MiB_tls", "reference": plain} for row in cluster.measure("pairs", rounds=7)]


def integrity(cluster: Cluster) -> list[Row]:
    """What checksums cost, on links as fast as this machine makes them and on links of networks that there are."""
    rows = [row | {"row": "integrity_cost_nodes"} for row in cluster.measure("pairs", rounds=15)]
    for link in (SLOW_LINK, FAST_LINK):
        name = f"integrity_cost_{link.gigabits}_gbit"
        rows += [row | {"row": name} for row in on_link(cluster, link, "pairs", rounds=7)]
    return [share_lost(row) for row in rows]


def handoff(cluster: Cluster) -> list[Row]:
    """A prompt's cache, carried while it is computed, on a slow link."""
    return on_link(cluster, SLOW_LINK, "handoff", rounds=15)


def slow_transfers(cluster: Cluster) -> list[Row]:
    """Pulls and pushes on a slow link."""
    rows = on_link(cluster, SLOW_LINK, "transfers", rounds=3)
    return [row | {"row": f"{row['row']}_slow_link"} for row in rows]


def on_link(cluster: Cluster, link: Link, part: str, rounds: int) -> list[Row]:
    """The rows of one part, which say what the link was."""
    shaped = shape(cluster.network, link)
    step.note(f"the link: {shaped}")
    try:
        return [row | {"link": shaped} for row in cluster.measure(part, rounds)]
    finally:
        unshape(cluster.network)


PARTS: dict[str, Callable[[Cluster], list[Row]]] = {
    "transfers": transfers,
    "lookups": lookups,
    "small": small,
    "tls": tls,
    "handoff": handoff,
    "integrity_nodes": integrity,
    "slow_transfers": slow_transfers,
}


def start_cluster(cleanup: ExitStack, part: str) -> Cluster:
    """An etcd and the workers for a part, which serve when this returns; `cleanup` ends them."""
    network = make_network(NETWORK, LOOKUP_WORKERS if part == "lookups" else WORKERS, cleanup)
    logs = LOGS / "bench"
    etcd = start_etcd(network.hub, logs)
    cleanup.callback(etcd.service.stop)
    nodes = list(network.nodes)
    first = build_unchecked() if part == "integrity_nodes" else BUILT_DSCLI
    addresses = [start_bench_worker(cleanup, node, WORKER_PORT, etcd, program=first) for node in nodes]
    if part in PAIRS:
        second = ["--cluster_name", "second"]
        authority = make_authority(logs / "certificates") if part == "tls" else None
        addresses += [
            start_bench_worker(
                cleanup, node, SECOND_WORKER_PORT, etcd, *second, *(authority.arguments(node) if authority else ())
            )
            for node in nodes
        ]
        nodes += nodes
    return Cluster(network, etcd, nodes, addresses)


def start_bench_worker(
    cleanup: ExitStack, node: Node, preferred: int, etcd: Etcd, *arguments: str, program: Path = BUILT_DSCLI
) -> str:
    """A worker that serves when this returns; its address."""
    [port] = node.ports([preferred])
    address = f"{node.host}:{port}"
    worker = start_worker(
        address,
        LOGS / "bench",
        "--etcd_address", etcd.address,
        "--shared_memory_size_mb", str(POOL_MEGABYTES),
        *arguments,
        node=node,
        program=program,
    )  # fmt: skip
    cleanup.callback(worker.stop)
    return address
