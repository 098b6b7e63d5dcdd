"""A worker with a file on a disk: what memory has no room for comes from there, also after the worker was killed."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster import eventually
from conftest import FreshPrompt
from deployment import BLOCK_TOKENS, CACHE_CAN_BE_RESET, KV_BYTES_PER_TOKEN, Deployment, answer, on_worker
from tools.services.data_worker import DataWorker, start_worker
from tools.services.ports import HOST, free_ports
from tools.services.service import Service
from tools.services.vllm_instance import start_vllm
from tools.traffic.openai_client import post

POOL_MEGABYTES = 32
PROMPT_TOKENS = 1333
FLOOD_PROMPTS, FLOOD_TOKENS = 8, 1900


@dataclass
class Tiered:
    """An instance in both roles on a worker whose memory is small and whose disk is not."""

    worker: DataWorker
    folder: Path
    logs: Path
    engine: Service
    plain: Deployment

    def ask(self, prompt: list[int]) -> int:
        """How many tokens of the prompt the instance computes with a cache of its own that is empty.

        Its answer must be plain vLLM's.
        """
        assert post(f"{self.engine.url}/reset_prefix_cache", {}) == {"success": True}
        given = answer(self.engine.url, self.engine, [prompt])
        assert given.tokens == self.plain.expected([prompt])
        return given.computed.prompt_tokens

    def flood(self, fresh_prompt: FreshPrompt) -> list[list[int]]:
        """Prompts of more than twice the worker's memory; it has begun to write what does not fit."""
        prompts = [fresh_prompt(FLOOD_TOKENS) for _ in range(FLOOD_PROMPTS)]
        assert FLOOD_PROMPTS * FLOOD_TOKENS * KV_BYTES_PER_TOKEN > 1.5 * POOL_MEGABYTES * 2**20
        for prompt in prompts:
            assert self.ask(prompt) == len(prompt)
        return prompts

    def disk(self) -> dict[str, int]:
        """What `dscli status` says of the file."""
        spill = self.worker.status()["spill"]
        assert isinstance(spill, dict)
        return spill

    def kill_and_start_again(self) -> None:
        """kill -9, and a worker at the same address with the same file, which the instance has found."""
        process = self.worker.process_id
        eventually("all is written", lambda: self.disk()["coming"] == 0)
        os.kill(process, signal.SIGKILL)
        eventually("the worker is gone", lambda: not Path(f"/proc/{process}").exists())
        self.worker = start(self.worker.address, self.folder, self.logs)
        eventually("the instance is back", lambda: len(self.sessions()) == 2)

    def sessions(self) -> list[str]:
        """Names of the instance's connections: its scheduler's and its rank's."""
        sessions = self.worker.status()["sessions"]
        assert isinstance(sessions, list)
        return [session["name"] for session in sessions if session["name"].startswith("vllm")]


def start(address: str, folder: Path, logs: Path) -> DataWorker:
    """The worker, with its file in `folder`."""
    memory = ("--shared_memory_size_mb", str(POOL_MEGABYTES))
    return start_worker(address, logs, *memory, "--spill_directory", str(folder), "--spill_size_limit", "512MiB")


@pytest.fixture(scope="module")
def tiered(logs: Path, deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiered]:
    """The instance and its worker."""
    [port] = free_ports(1)
    folder, logs = tmp_path_factory.mktemp("spill"), logs / "second-tier"
    worker = start(f"{HOST}:{port}", folder, logs)
    engine = start_vllm("engine", on_worker(worker.address, "kv_both", **CACHE_CAN_BE_RESET), logs)
    tiered = Tiered(worker, folder, logs, engine, deployment)
    try:
        engine.wait_healthy()
        yield tiered
    finally:
        engine.stop()
        tiered.worker.stop()


def test_prompts_that_were_pushed_out_of_memory_come_from_the_disk(tiered: Tiered, fresh_prompt: FreshPrompt) -> None:
    first = fresh_prompt(PROMPT_TOKENS)
    assert tiered.ask(first) == PROMPT_TOKENS
    others = tiered.flood(fresh_prompt)
    before = tiered.disk()
    assert tiered.ask(first) == 1
    after = tiered.disk()
    assert after["hits"] - before["hits"] == -(-PROMPT_TOKENS // BLOCK_TOKENS), "all of it was meant to be on the disk"
    # Nor has it pushed out others for good: whatever had to make room for it is on the disk.
    assert [tiered.ask(prompt) for prompt in others] == [1] * len(others)
    assert [tiered.disk()[name] for name in ("misses", "corrupt", "late", "dropped")] == [0] * 4


def test_prompts_on_the_disk_outlive_a_killed_worker(tiered: Tiered, fresh_prompt: FreshPrompt) -> None:
    first = fresh_prompt(PROMPT_TOKENS)
    assert tiered.ask(first) == PROMPT_TOKENS
    tiered.flood(fresh_prompt)
    tiered.kill_and_start_again()
    assert tiered.ask(first) == 1
    # And it is a worker like any other.
    prompt = fresh_prompt(PROMPT_TOKENS)
    assert [tiered.ask(prompt) for _ in range(2)] == [PROMPT_TOKENS, 1]
