"""A real `vllm serve`, with the settings that make it start quickly and small on a CPU."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.checkout import TINY_MODEL, VLLM
from tools.services.node import HERE, Node
from tools.services.service import Service

SERVED_NAME = "tiny-qwen2"

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
    # Fewer threads and a quicker start; one end-to-end test runs the way users do, with "1".
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


@dataclass(frozen=True)
class VllmOptions:
    """What differs between the instances of a test."""

    port: int
    node: Node = HERE
    model: Path = TINY_MODEL
    kv_transfer: Mapping[str, object] | None = None
    kv_cache: str = "128M"
    served_names: Sequence[str] = (SERVED_NAME,)
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def start_vllm(name: str, options: VllmOptions, logs: Path, *, outlives_parent: bool = False) -> Service:
    """Starts an instance and returns at once; `wait_healthy` on the result waits for it."""
    command: list[str | Path] = [
        VLLM, "serve", options.model,
        "--host", options.node.host,
        "--port", str(options.port),
        "--served-model-name", *options.served_names,
        # Without this vLLM would lower the model's float32, and near-ties would flip with the shape of a batch.
        "--dtype", "float32",
        "--enforce-eager",
        "--kv-cache-memory-bytes", options.kv_cache,
        # Says how many prompt tokens each step computed: the truth about recomputation, whatever a connector claims.
        "--enable-logging-iteration-details",
        *options.arguments,
    ]  # fmt: skip
    if options.kv_transfer is not None:
        command += ["--kv-transfer-config", json.dumps(options.kv_transfer, separators=(",", ":"))]
    return Service(
        name,
        options.node.inside(command),
        logs / f"{name}.log",
        environment=ENVIRONMENT | of_node(options.node) | dict(options.environment),
        url=f"http://{options.node.host}:{options.port}",
        outlives_parent=outlives_parent,
    )


def of_node(node: Node) -> dict[str, str]:
    """How an engine in a namespace knows its own address: vLLM would look for a route that there is not."""
    return {"VLLM_HOST_IP": node.host} if node.namespace else {}


def chariot_transfer(role: str, **extra: object) -> dict[str, object]:
    """The guide's --kv-transfer-config for `role`, legacy fields and all; `extra` adds further fields."""
    rank = {"kv_producer": 0, "kv_consumer": 1, "kv_both": 0}[role]
    return {"kv_connector": "ChariotConnector", "kv_role": role, "kv_rank": rank, "kv_parallel_size": 2, **extra}
