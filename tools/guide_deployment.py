"""The guide's deployment on this machine: data worker, prefill, decode and proxy, and a plain vLLM to compare with."""

from contextlib import ExitStack
from dataclasses import dataclass

from tools import running, step
from tools.checkout import LOGS
from tools.services.data_worker import DataWorker, start_worker
from tools.services.ports import HOST, preferred_or_free
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

    worker: DataWorker
    prefill: Service
    decode: Service
    proxy: Service
    plain: Service


def start_deployment(cleanup: ExitStack, *, outlives_parent: bool) -> Deployment:
    """Starts everything and waits until it answers; `cleanup` gets what ends each part, as soon as that part runs."""
    step.say("starting: data worker, prefill, decode, plain vLLM, proxy")
    worker_port, prefill_port, decode_port, proxy_port, plain_port = preferred_or_free(
        [WORKER_PORT, PREFILL_PORT, DECODE_PORT, PROXY_PORT, PLAIN_PORT]
    )
    cleanup.callback(running.forget)
    worker = start_worker(f"{HOST}:{worker_port}", DEMO_LOGS, "--shared_memory_size_mb", str(POOL_MEGABYTES))
    cleanup.callback(worker.stop)
    running.record_worker(worker.address, worker.process_id)
    print(worker.ok_line, flush=True)
    services: list[Service] = []
    cleanup.callback(stop_together, services)

    def vllm(name: str, port: int, role: str | None) -> Service:
        options = VllmOptions(
            port=port,
            kv_transfer=chariot_transfer(role) if role else None,
            kv_cache=KV_CACHE,
            served_names=(SERVED_NAME, GUIDE_MODEL),
            arguments=GUIDE_FLAGS,
            environment={"DS_WORKER_ADDR": worker.address},
        )
        service = start_vllm(name, options, DEMO_LOGS, outlives_parent=outlives_parent)
        services.append(service)
        running.record_session(name, service.process.pid)
        return service

    prefill = vllm("prefill", prefill_port, "kv_producer")
    decode = vllm("decode", decode_port, "kv_consumer")
    plain = vllm("plain", plain_port, None)
    step.note("three vLLM instances are loading, about 40 s on two cores")
    for service in (prefill, decode, plain):
        service.wait_healthy()
        step.note(f"{service.name} answers at {service.url}")
    proxy = start_proxy(proxy_port, prefill_port, decode_port, DEMO_LOGS, outlives_parent=outlives_parent)
    services.append(proxy)
    running.record_session("proxy", proxy.process.pid)
    proxy.wait_healthy(30)
    step.note(f"proxy answers at {proxy.url}")
    cleanup.callback(step.say, "stopping everything")
    return Deployment(worker, prefill, decode, proxy, plain)
