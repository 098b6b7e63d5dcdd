"""What is disturbed: a prefill and a decode instance on two nodes, each with a data worker, an etcd and a proxy.

Whatever is killed can be brought back at its old address.
"""

import os
import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tools import step
from tools.checkout import LOGS
from tools.failure import Failure
from tools.services.clock import Clock, make_clock
from tools.services.data_worker import DataWorker, restart_worker, start_worker
from tools.services.disk import Disk, make_disk
from tools.services.etcd import Etcd, start_etcd, start_etcd_again
from tools.services.network import Network, make_network
from tools.services.node import HERE, Node
from tools.services.proxy import start_proxy
from tools.services.service import Service, stop_together
from tools.services.vllm_instance import VllmOptions, chariot_transfer, start_vllm
from tools.session import start_time

CHAOS_LOGS = LOGS / "chaos"
WORKER_PORT, PREFILL_PORT, DECODE_PORT = 31501, 8100, 8200
PROXY_PORT, PLAIN_PORT = 8400, 8500
LEASE_SECONDS = 3
# Of 150 prompts, memory holds a third and the disk another.
POOL_MEGABYTES, SPILL_MEGABYTES, DISK_MEGABYTES = 128, 128, 192
ENGINE_FLAGS = ("--max-num-batched-tokens", "2048", "--max-model-len", "4096", "--block-size", "32")
SIDES = ("prefill", "decode")


@dataclass
class Scene:
    """Everything that runs. Services are replaced by new ones as they are killed and started again."""

    network: Network
    etcd: Etcd
    workers: dict[str, DataWorker]
    """By the side whose engine uses it."""
    engines: dict[str, Service]
    proxy: Service
    plain: Service
    disks: dict[str, Disk]
    clocks: dict[str, Clock]
    """The workers' own."""
    expected_ends: set[int] = field(default_factory=set)
    """Processes of engines that were killed on purpose."""

    def node(self, side: str) -> Node:
        """Where a side's engine and worker are."""
        return self.network.nodes[SIDES.index(side)]

    def signal_worker(self, side: str, what: signal.Signals) -> None:
        """Sends a signal to a worker; one that has gone is no error."""
        with suppress(ProcessLookupError):
            os.kill(self.workers[side].process_id, what)

    def start_worker(self, side: str) -> None:
        """A fresh worker at the old address."""
        self.workers[side] = start_site_worker(self.node(side), self.etcd.address, self.disks[side], self.clocks[side])

    def restart_worker(self, side: str) -> None:
        """The worker in a new process, with its blocks and its clients."""
        self.workers[side] = restart_worker(self.workers[side], self.node(side), self.clocks[side].environment)

    def is_running(self, side: str) -> bool:
        """Whether a worker has not ended."""
        return start_time(self.workers[side].process_id) is not None

    def start_etcd(self) -> None:
        """The etcd again, with what it has kept."""
        self.etcd = start_etcd_again(self.network.hub, CHAOS_LOGS)

    def kill_engine(self, side: str) -> None:
        """An engine crashes, because somebody wanted it to."""
        self.expected_ends.add(self.engines[side].process.pid)
        self.engines[side].kill()

    def start_engine(self, side: str) -> None:
        """A fresh engine at the old address; returns when it answers."""
        self.engines[side] = start_site_engine(side, self.node(side), self.workers[side].address)
        self.engines[side].wait_healthy()

    def start_proxy(self) -> None:
        """A fresh proxy at the old address."""
        port = int(self.proxy.url.rpartition(":")[2])
        self.proxy = start_scene_proxy(port, self.network, self.workers["decode"].address)
        self.proxy.wait_healthy(30)

    def lost_engines(self) -> list[str]:
        """The engines that have ended and were not meant to."""
        ended = [(name, service) for name, service in [*self.engines.items(), ("plain", self.plain)]]
        return [
            name for name, service in ended if not service.is_running and service.process.pid not in self.expected_ends
        ]


def set_scene(cleanup: ExitStack) -> Scene:
    """Starts everything and waits until it answers; `cleanup` ends it."""
    step.say("starting: etcd, two data workers, prefill, decode, plain vLLM, proxy")
    network = make_network("chaos", len(SIDES), cleanup)
    if not network.is_real:
        raise Failure("there are no network namespaces here", "run it as root, on Linux, with iproute2 installed")
    scene_parts: list[Scene] = []
    etcd = start_etcd(network.hub, CHAOS_LOGS)
    cleanup.callback(lambda: (scene_parts[0].etcd if scene_parts else etcd).service.stop())
    workers = {}
    disks = {side: make_disk(CHAOS_LOGS / f"{side}.disk", DISK_MEGABYTES, cleanup) for side in SIDES}
    clocks = {side: make_clock(side, CHAOS_LOGS) for side in SIDES}
    for side, node in zip(SIDES, network.nodes, strict=True):
        workers[side] = start_site_worker(node, etcd.address, disks[side], clocks[side])
        cleanup.callback(end_worker, workers, side)
        step.note(workers[side].ok_line)
    engines = {
        side: start_site_engine(side, node, workers[side].address)
        for side, node in zip(SIDES, network.nodes, strict=True)
    }
    [plain_port, proxy_port] = HERE.ports([PLAIN_PORT, PROXY_PORT])
    plain = start_vllm("plain", VllmOptions(port=plain_port, arguments=ENGINE_FLAGS), CHAOS_LOGS)
    proxy = start_scene_proxy(proxy_port, network, workers["decode"].address)
    scene = Scene(network, etcd, workers, engines, proxy, plain, disks, clocks)
    scene_parts.append(scene)
    cleanup.callback(lambda: stop_together([*scene.engines.values(), scene.plain, scene.proxy]))
    step.note("three vLLM instances are loading, about 40 s on two cores")
    for service in (*engines.values(), plain, proxy):
        service.wait_healthy()
    return scene


def end_worker(workers: dict[str, DataWorker], side: str) -> None:
    """Ends whichever worker is at a side's address by then."""
    worker = workers[side]
    with suppress(ProcessLookupError):
        os.kill(worker.process_id, signal.SIGCONT)
        with suppress(Failure):
            worker.stop()


def start_site_worker(node: Node, etcd: str, disk: Disk, clock: Clock) -> DataWorker:
    """A data worker that joins the cluster, and has a second tier."""
    return start_worker(
        f"{node.host}:{WORKER_PORT}",
        CHAOS_LOGS / node.name,
        "--shared_memory_size_mb", str(POOL_MEGABYTES),
        "--etcd_address", etcd,
        "--lease_seconds", str(LEASE_SECONDS),
        "--spill_directory", str(disk.folder),
        "--spill_size_limit", f"{SPILL_MEGABYTES}MiB",
        node=node,
        environment=clock.environment,
    )  # fmt: skip


def start_site_engine(side: str, node: Node, worker: str) -> Service:
    """An engine of its side's role; returns before it answers."""
    options = VllmOptions(
        port=PREFILL_PORT if side == "prefill" else DECODE_PORT,
        node=node,
        kv_transfer=chariot_transfer("kv_producer" if side == "prefill" else "kv_consumer"),
        arguments=ENGINE_FLAGS,
        environment={"DS_WORKER_ADDR": worker},
    )
    return start_vllm(side, options, keep_logs(side))


def keep_logs(name: str) -> Path:
    """The folder of logs, where what an engine before has written is kept beside."""
    log = CHAOS_LOGS / f"{name}.log"
    if log.exists():
        log.replace(log.with_suffix(".before.log"))
    return CHAOS_LOGS


def start_scene_proxy(port: int, network: Network, decode_worker: str) -> Service:
    """The proxy, which asks both sides at once."""
    prefill, decode = network.nodes
    return start_proxy(
        port,
        PREFILL_PORT,
        DECODE_PORT,
        keep_logs("proxy"),
        arguments=[
            "--prefiller-host", prefill.host,
            "--decoder-host", decode.host,
            "--decoder-worker", decode_worker,
            "--dispatch", "concurrent",
        ],
    )  # fmt: skip
