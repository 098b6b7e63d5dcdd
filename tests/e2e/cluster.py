"""A cluster of data workers with a real etcd, each on a node of its own: what tests of several nodes share."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import chariot_ds
from tools.services.data_worker import DataWorker, start_worker
from tools.services.etcd import Etcd, start_etcd
from tools.services.network import Network, make_network
from tools.services.node import Node

PORT = 31501
LEASE_SECONDS = 3
SOON = 60.0
"""Long enough for anything that happens at all, on a machine that is busy with other things."""


def content(name: str, length: int = 100_000) -> bytes:
    """What a block called `name` holds."""
    seed = name.encode() + b" "
    return (seed * (length // len(seed) + 1))[:length]


def eventually(what: str, condition: Callable[[], bool], seconds: float = SOON) -> None:
    """Waits until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never came to pass: {what}"
        time.sleep(0.02)


class Cluster:
    """Workers by number, from 0 on; any of them may be away."""

    def __init__(self, count: int, logs: Path, cleanup: ExitStack) -> None:
        self.logs = logs
        self.network: Network = make_network("cluster", count, cleanup)
        self.nodes: tuple[Node, ...] = self.network.nodes
        self.etcd: Etcd = start_etcd(self.network.hub, logs)
        cleanup.callback(self.etcd.service.stop)
        self.workers: list[DataWorker | None] = [None] * count
        cleanup.callback(self.kill_all)
        for number in range(count):
            self.start(number)
        self.wait_for_members(count)

    def address(self, number: int) -> str:
        """Where a worker serves."""
        return f"{self.nodes[number].host}:{PORT}"

    def start(self, number: int) -> None:
        """`dscli start` on a worker's node."""
        flags = ["--etcd_address", self.etcd.address, "--lease_seconds", str(LEASE_SECONDS)]
        memory = ["--shared_memory_size_mb", "128"]
        logs = self.logs / f"worker{number}"
        self.workers[number] = start_worker(self.address(number), logs, *flags, *memory, node=self.nodes[number])

    def stop(self, number: int) -> None:
        """`dscli stop`: the worker leaves."""
        worker = self.workers[number]
        assert worker is not None
        worker.stop()
        self.workers[number] = None

    def signal(self, number: int, what: signal.Signals) -> None:
        """Sends a signal to a worker."""
        worker = self.workers[number]
        assert worker is not None
        os.kill(worker.process_id, what)

    def kill(self, number: int) -> None:
        """A worker crashes."""
        self.signal(number, signal.SIGKILL)
        self.workers[number] = None

    def kill_all(self) -> None:
        """Leaves nothing behind, whatever a test has done."""
        for number, worker in enumerate(self.workers):
            if worker is not None:
                self.kill(number)

    def client(self, number: int) -> chariot_ds.Client:
        """A client of a worker, through shared memory: namespaces share the file system."""
        return chariot_ds.Client(self.address(number), timeout=5, request_timeout=10)

    def members(self, number: int) -> list[str]:
        """The addresses that a worker knows as members that can be reached."""
        with self.client(number) as client:
            cluster = client.status()["cluster"]
        assert cluster is not None
        return [member["address"] for member in cluster["members"] if member["is_reached"]]

    def wait_for_members(self, count: int) -> None:
        """Waits until every worker that runs reaches `count` members, itself among them."""
        running = [number for number, worker in enumerate(self.workers) if worker is not None]
        eventually(f"{count} members", lambda: all(len(self.members(number)) == count for number in running))

    def put(self, number: int, names: list[str], length: int = 100_000) -> None:
        """Puts blocks at a worker, to be found by all."""
        with self.client(number) as client:
            client.put_many({name: content(name, length) for name in names})
            client.flush()

    def finds(self, number: int, names: list[str], length: int = 100_000) -> list[bool]:
        """Which blocks are found from a worker; the bytes of those are right."""
        with self.client(number) as client:
            blocks = [client.get(name, timeout=0.5) for name in names]
            for name, block in zip(names, blocks, strict=True):
                assert block is None or block.tobytes() == content(name, length), f"wrong bytes in {name}"
            return [block is not None for block in blocks]

    def assert_at_rest(self) -> None:
        """Nothing is pinned, growing, on its way or waited for."""

        def at_rest(number: int) -> bool:
            with self.client(number) as client:
                status = client.status()
            cluster = status["cluster"]
            assert cluster is not None
            held = [status[name] for name in ("growing_blocks", "pinned_blocks", "detached_blocks", "waiting")]
            return held == [0, 0, 0, 0] and cluster["streams"] == 0 and cluster["wanted"] == 0

        for number, worker in enumerate(self.workers):
            if worker is not None:
                eventually(f"worker {number} is at rest", lambda number=number: at_rest(number))  # type: ignore[misc]
