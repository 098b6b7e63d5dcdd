"""What the end-to-end tests talk to: prefill, decode and plain vLLM, a worker, a proxy; and how to compare them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tools.checkout import TINY_MODEL
from tools.services.data_worker import DataWorker, start_worker
from tools.services.ports import HOST, free_ports
from tools.services.proxy import start_proxy
from tools.services.service import Service, stop_together
from tools.services.vllm_instance import VllmOptions, chariot_transfer, start_vllm
from tools.traffic.openai_client import Completion, Prompt, complete
from tools.traffic.step_log import Computed, StepLog

OUTPUT_TOKENS = 24
BLOCK_TOKENS = 32
MAX_BATCHED_TOKENS = 1024
# The tiny model keeps K and V of 2 heads of 64 float32 in each of 4 layers.
KV_BYTES_PER_TOKEN = 4 * 2 * 2 * 64 * 4
ENGINE_FLAGS = (
    *("--max-num-batched-tokens", str(MAX_BATCHED_TOKENS)),
    *("--max-model-len", "8192"),
    # vLLM's own choice on a CPU is 128; smaller blocks put more block boundaries into short prompts.
    *("--block-size", str(BLOCK_TOKENS)),
)
# Opens the route that empties vLLM's own prefix cache.
CACHE_CAN_BE_RESET = {"VLLM_SERVER_DEV_MODE": "1"}
WORKER_FLAGS = ("--shared_memory_size_mb", "512")


@dataclass
class Deployment:
    """One prefill and one decode instance behind a proxy, with an instance that knows the right answers: `plain`."""

    worker: DataWorker
    prefill: Service
    decode: Service
    plain: Service
    proxy: Service

    def restart_worker(self, logs: Path) -> None:
        """A fresh worker at the old address, as an operator would bring it back."""
        self.worker = start_worker(self.worker.address, logs, *WORKER_FLAGS)

    def through_proxy(self, prompts: Sequence[Prompt], **fields: object) -> "Answer":
        """All prompts at once through the proxy."""
        return answer(self.proxy.url, self.decode, prompts, **fields)

    def expected(self, prompts: Sequence[Prompt], **fields: object) -> list[tuple[int, ...]]:
        """The tokens of the plain instance."""
        return [item.token_ids for item in at_once(self.plain.url, prompts, **fields)]


def on_worker(worker: str, role: str, *arguments: str, **environment: str) -> VllmOptions:
    """An engine in `role` at a free port that uses the data worker at that address; `environment` adds variables."""
    [port] = free_ports(1)
    return VllmOptions(
        port=port,
        kv_transfer=chariot_transfer(role),
        arguments=(*ENGINE_FLAGS, *arguments),
        environment={"DS_WORKER_ADDR": worker, **environment},
    )


@contextmanager
def start_pair(
    name: str,
    logs: Path,
    *,
    model: Path = TINY_MODEL,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Deployment]:
    """A deployment of another kind, without a plain instance.

    A producer loads nothing, so prefill's own answers are plain vLLM's and save a third engine.
    """
    worker_port, proxy_port = free_ports(2)
    with ExitStack() as cleanup:
        services: list[Service] = []

        def engine(side: str, role: str) -> Service:
            options = on_worker(worker.address, role, *arguments, **(environment or {}))
            services.append(start_vllm(f"{name}-{side}", replace(options, model=model), logs))
            return services[-1]

        worker = start_worker(f"{HOST}:{worker_port}", logs / name, *WORKER_FLAGS)
        # Whichever worker is at the address by then: a test may have put another one in its place.
        cleanup.callback(worker.stop)
        cleanup.callback(stop_together, services)
        prefill, decode = engine("prefill", "kv_producer"), engine("decode", "kv_consumer")
        proxy = start_proxy(proxy_port, prefill.port, decode.port, logs / name)
        services.append(proxy)
        running = Deployment(worker, prefill, decode, plain=prefill, proxy=proxy)
        for service in services:
            service.wait_healthy()
        yield running


@dataclass(frozen=True)
class Answer:
    """The completions, and what the answering instance computed for them."""

    completions: list[Completion]
    computed: Computed

    @property
    def tokens(self) -> list[tuple[int, ...]]:
        """The generated tokens of each."""
        return [item.token_ids for item in self.completions]


def answer(url: str, engine: Service, prompts: Sequence[Prompt], **fields: object) -> Answer:
    """Sends the prompts at once to `url` and reads from the log of `engine`, idle until now, what it computed."""
    steps = StepLog(engine.log)
    completions = at_once(url, prompts, **fields)
    # A request's first token comes out of its last prompt step, each further token out of a step of its own.
    generated = sum(len(item.token_ids) - 1 for item in completions)
    computed = steps.settled(lambda found: found.generation_tokens >= generated and found.prompt_tokens >= len(prompts))
    return Answer(completions, computed)


def at_once(
    url: str, prompts: Sequence[Prompt], output_tokens: int = OUTPUT_TOKENS, **fields: object
) -> list[Completion]:
    """All prompts in flight together, each answered whole."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(lambda prompt: complete(url, prompt, output_tokens, **fields), prompts))


def wait_until_carried(deployment: Deployment, fresh_prompt: Callable[[int], list[int]], seconds: float = 20) -> None:
    """Sends prompts until decode loads one; each answer on the way must be right as well."""
    deadline = time.monotonic() + seconds
    while True:
        prompt = fresh_prompt(100)
        carried = deployment.through_proxy([prompt])
        assert carried.tokens == deployment.expected([prompt])
        if carried.computed.prompt_tokens == 1:
            return
        assert time.monotonic() < deadline, f"nothing was loaded for {seconds:.0f} s after the worker came back"
        time.sleep(0.2)


def assert_carried(deployment: Deployment, prompts: Sequence[Prompt], **fields: object) -> Answer:
    """The whole claim for `prompts`: tokens equal plain vLLM's, and decode computed one token of each prompt."""
    carried = deployment.through_proxy(prompts, **fields)
    assert carried.tokens == deployment.expected(prompts, **fields)
    assert carried.computed.prompt_tokens == len(prompts), f"decode computed {carried.computed}"
    return carried
