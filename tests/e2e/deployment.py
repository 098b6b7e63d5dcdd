"""What the end-to-end tests talk to: prefill, decode and plain vLLM, a worker, a proxy; and how to compare them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.services.data_worker import DataWorker, start_worker
from tools.services.service import Service
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
WORKER_FLAGS = ("--shared_memory_size_mb", "512")


@dataclass
class Deployment:
    """One prefill and one decode instance behind a proxy, with a plain instance that knows the right answers."""

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


def assert_carried(deployment: Deployment, prompts: Sequence[Prompt], **fields: object) -> Answer:
    """The whole claim for `prompts`: tokens equal plain vLLM's, and decode computed one token of each prompt."""
    carried = deployment.through_proxy(prompts, **fields)
    assert carried.tokens == deployment.expected(prompts, **fields)
    assert carried.computed.prompt_tokens == len(prompts), f"decode computed {carried.computed}"
    return carried
