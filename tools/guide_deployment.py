"""The guide's deployment on this machine: data worker, prefill, decode and proxy, and a plain vLLM to compare with.

On one node, or with prefill and decode on nodes of their own: each has a data worker there, and an etcd is beside them.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tools import running, step
from tools.checkout import LOGS
from tools.services.data_worker import DataWorker, start_worker
from tools.services.etcd import start_etcd
from tools.services.network import make_network
from tools.services.node import HERE, Node
from tools.services.proxy import start_proxy
from tools.services.service import Service, stop_together
from tools.services.vllm_instance import SERVED_NAME, VllmOptions, chariot_transfer, start_vllm

# The model's name in the guide: the tiny model answers to it too, so that the guide's curl works as it stands.
GUIDE_MODEL = "Qwen/Qwen2.5-7B-Instruct"
GUIDE_FLAGS = [
    "--max-num-batched-tokens", "45000",
    "--gpu-memory-utilization", "0.8",
    "--trust-remote-code",
]  # fmt: skip
KV_CACHE = "512M"
POOL_MEGABYTES = 1024
WORKER_PORT, PREFILL_PORT, DECODE_PORT, PROXY_PORT, PLAIN_PORT = 31501, 8100, 8200, 8000, 8300
DEMO_LOGS = LOGS / "demo"


@dataclass(frozen=True)
class Deployment:
    """Everything that runs, ready to answer."""

    nodes: int
    worker: DataWorker
    """The one that decode loads from."""
    prefill: Service
    decode: Service
    proxy: Service
    plain: Service


@dataclass(frozen=True)
class Site:
    """A node and the data worker on it."""

    node: Node
    worker: DataWorker


def start_deployment(cleanup: ExitStack, nodes: int, *, outlives_parent: bool) -> Deployment:
    """Starts everything and waits until it answers; `cleanup` gets what ends each part, as soon as that part runs."""
    step.say("starting: data worker, prefill, decode, plain vLLM, proxy")
    cleanup.callback(running.forget)
    sites = one_site(cleanup) if nodes == 1 else sites_of_a_cluster(cleanup, nodes, outlives_parent=outlives_parent)
    before, behind = sites[0], sites[-1]
    services: list[Service] = []
    cleanup.callback(stop_together, services)

    def vllm(name: str, options: VllmOptions) -> Service:
        service = start_vllm(name, options, DEMO_LOGS, outlives_parent=outlives_parent)
        services.append(service)
        running.record_session(name, service.process.pid)
        return service

    prefill = vllm("prefill", with_chariot(engine(before.node, PREFILL_PORT), before.worker, "kv_producer"))
    decode = vllm("decode", with_chariot(engine(behind.node, DECODE_PORT), behind.worker, "kv_consumer"))
    plain = vllm("plain", engine(HERE, PLAIN_PORT))
    step.note("three vLLM instances are loading, about 40 s on two cores")
    for service in (prefill, decode, plain):
        service.wait_healthy()
        step.note(f"{service.name} answers at {service.url}")
    [proxy_port] = HERE.ports([PROXY_PORT])
    proxy = start_proxy(
        proxy_port,
        prefill.port,
        decode.port,
        DEMO_LOGS,
        arguments=proxy_arguments(before, behind) if nodes > 1 else (),
        outlives_parent=outlives_parent,
    )
    services.append(proxy)
    running.record_session("proxy", proxy.process.pid)
    proxy.wait_healthy(30)
    step.note(f"proxy answers at {proxy.url}")
    cleanup.callback(step.say, "stopping everything")
    return Deployment(nodes, behind.worker, prefill, decode, proxy, plain)


def engine(node: Node, preferred_port: int) -> VllmOptions:
    """A plain vLLM with the guide's flags."""
    [port] = node.ports([preferred_port])
    return VllmOptions(
        port=port, node=node, kv_cache=KV_CACHE, served_names=(SERVED_NAME, GUIDE_MODEL), arguments=GUIDE_FLAGS
    )


def with_chariot(options: VllmOptions, worker: DataWorker, role: str) -> VllmOptions:
    """The same with the connector, as the guide tells."""
    return replace(options, kv_transfer=chariot_transfer(role), environment={"DS_WORKER_ADDR": worker.address})


def one_site(cleanup: ExitStack) -> list[Site]:
    """A data worker that prefill and decode share."""
    return [start_site(cleanup, HERE)]


def sites_of_a_cluster(cleanup: ExitStack, nodes: int, *, outlives_parent: bool) -> list[Site]:
    """Data workers on nodes of their own, that find each other through an etcd."""
    network = make_network(running.NETWORK, nodes, cleanup)
    etcd = start_etcd(network.hub, DEMO_LOGS, outlives_parent=outlives_parent)
    cleanup.callback(etcd.service.stop)
    running.record_session("etcd", etcd.service.process.pid)
    step.note(f"etcd answers at {etcd.address}")
    return [start_site(cleanup, node, "--etcd_address", etcd.address) for node in network.nodes]


def start_site(cleanup: ExitStack, node: Node, *arguments: str) -> Site:
    """A data worker on a node."""
    [port] = node.ports([WORKER_PORT])
    memory = ["--shared_memory_size_mb", str(POOL_MEGABYTES)]
    worker = start_worker(f"{node.host}:{port}", DEMO_LOGS, *memory, *arguments, node=node)
    cleanup.callback(worker.stop)
    running.record_worker(worker.address, worker.process_id)
    print(worker.ok_line, flush=True)
    return Site(node, worker)


def proxy_arguments(prefill: Site, decode: Site) -> Sequence[str]:
    """Where the instances are, where prefill's blocks are needed next, and that decode need not wait for prefill."""
    return [
        "--prefiller-host", prefill.node.host,
        "--decoder-host", decode.node.host,
        "--decoder-worker", decode.worker.address,
        "--dispatch", "concurrent",
    ]  # fmt: skip
