"""`./dev bench` with real vLLM: what a prompt costs that is found in the worker's memory, or on its disk.

The same engine computes a prompt, and later finds it: on the disk, because others have pushed it out of memory since,
and in memory, because it has just come back. Its own prefix cache is emptied before each, and its log of steps says
that it has computed one token of the prompt and no more.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools import step
from tools.checkout import GENERATED, LOGS
from tools.failure import Failure
from tools.rows import Row, add_to, compared, table
from tools.services.data_worker import DataWorker, start_worker
from tools.services.ports import HOST, free_ports
from tools.services.service import Service
from tools.services.vllm_instance import VllmOptions, chariot_transfer, start_vllm
from tools.traffic.openai_client import post, stream
from tools.traffic.prompts import token_ids
from tools.traffic.step_log import StepLog

PROMPT_TOKENS = 4000
ROUNDS = 7
# Of 16 MiB each with the tiny model. Memory has room for three, so that of those before it none is left.
AHEAD = 6
POOL_MEGABYTES, DISK = 64, "1GiB"
TIMED_TOKENS = 2
BENCH_LOGS = LOGS / "bench"


@dataclass
class Times:
    """Seconds to the first token, one a round."""

    computed: list[float] = field(default_factory=list)
    from_disk: list[float] = field(default_factory=list)
    from_memory: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """An engine in both roles, and its worker."""

    worker: DataWorker
    engine: Service

    def computed(self, prompt: list[int]) -> float:
        """Seconds to the first token of a prompt that nobody has seen."""
        return self.first_token(prompt, computes=len(prompt))

    def found(self, prompt: list[int], blocks_from_disk: range) -> float:
        """The same of one that the worker has, and that is read from the disk by so many blocks."""
        before = self.disk_hits()
        seconds = self.first_token(prompt, computes=1)
        read = self.disk_hits() - before
        if read not in blocks_from_disk:
            raise Failure(f"`{read}` blocks of a prompt were read from the disk, which is not what is measured")
        return seconds

    def first_token(self, prompt: list[int], computes: int) -> float:
        """Seconds to the first token, of which so many of the prompt are computed."""
        post(f"{self.engine.url}/reset_prefix_cache", {})
        steps = StepLog(self.engine.log)
        seconds = stream(self.engine.url, prompt, TIMED_TOKENS).first_token_seconds
        found = steps.settled(lambda done: done.generation_tokens >= TIMED_TOKENS - 1)
        if found.prompt_tokens != computes:
            raise Failure(f"`{found.prompt_tokens}` prompt tokens were computed, and not `{computes}`", str(BENCH_LOGS))
        return seconds

    def disk_hits(self) -> int:
        """Blocks that were read from the disk so far."""
        disk = self.worker.status()["spill"]
        if not isinstance(disk, dict):
            raise Failure("the worker has no disk")
        return int(disk["hits"])


def run_engine_bench(json_file: Path | None) -> str:
    """Measures, prints the rows, and adds them to those of the file."""
    with start_bench() as bench:
        times = measure(bench)
    reference = "computing it"
    rows: list[Row] = [
        compared(name, [1000 * value for value in found], "ms", reference, [1000 * value for value in times.computed])
        for name, found in (("ttft_host_hit", times.from_memory), ("ttft_ssd_hit", times.from_disk))
    ]
    print(f"\n{table(rows)}\n", flush=True)
    if json_file is not None:
        add_to(json_file, rows)
    return f"{len(rows)} rows with vLLM"


def measure(bench: Bench) -> Times:
    """In each round one prompt is computed, and one of `AHEAD` rounds before it found, twice."""
    prompts = [token_ids(PROMPT_TOKENS, seed) for seed in range(ROUNDS + AHEAD)]
    for prompt in prompts[:AHEAD]:
        bench.computed(prompt)
    times = Times()
    for old, fresh in zip(prompts, prompts[AHEAD:], strict=False):
        times.computed.append(bench.computed(fresh))
        times.from_disk.append(bench.found(old, range(1, PROMPT_TOKENS)))
        times.from_memory.append(bench.found(old, range(1)))
    return times


@contextmanager
def start_bench() -> Iterator[Bench]:
    """The two, which serve."""
    with ExitStack() as cleanup:
        folder = cleanup.enter_context(tempfile.TemporaryDirectory(dir=GENERATED))
        worker_port, engine_port = free_ports(2)
        worker = start_worker(
            f"{HOST}:{worker_port}",
            BENCH_LOGS,
            "--shared_memory_size_mb", str(POOL_MEGABYTES),
            "--spill_directory", folder,
            "--spill_size_limit", DISK,
        )  # fmt: skip
        cleanup.callback(worker.stop)
        options = VllmOptions(
            port=engine_port,
            kv_transfer=chariot_transfer("kv_both"),
            # The variable opens the route that empties vLLM's own prefix cache.
            environment={"DS_WORKER_ADDR": worker.address, "VLLM_SERVER_DEV_MODE": "1"},
        )
        engine = start_vllm("engine", options, BENCH_LOGS)
        cleanup.callback(engine.stop)
        step.note("a vLLM instance is loading, about 20 s on two cores")
        yield Bench(worker, engine.wait_healthy())
