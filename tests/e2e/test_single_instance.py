"""One instance in both roles, run as users run it, with little KV cache and a worker that is late.

It takes its own saved KV back after its cache was reset and after preemption. Its engine runs with vLLM's default
process layout and block size, the other tests' engines with the smaller one.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import FreshPrompt
from deployment import MAX_BATCHED_TOKENS, WORKER_FLAGS, Deployment, answer, at_once
from tools.services.data_worker import DataWorker, start_worker
from tools.services.ports import HOST, free_ports
from tools.services.service import Service
from tools.services.vllm_instance import VllmOptions, chariot_transfer, start_vllm
from tools.traffic.metrics import preemptions
from tools.traffic.openai_client import complete, post

# 20 blocks of 128 tokens, which is vLLM's own block size here: several requests do not fit side by side.
SMALL_KV_CACHE = "10M"


@pytest.fixture(scope="module")
def worker_address() -> str:
    """Where a worker will be."""
    [port] = free_ports(1)
    return f"{HOST}:{port}"


@pytest.fixture(scope="module")
def engine(worker_address: str, logs: Path) -> Iterator[Service]:
    """Started before there is a worker."""
    [port] = free_ports(1)
    options = VllmOptions(
        port=port,
        kv_transfer=chariot_transfer("kv_both"),
        kv_cache=SMALL_KV_CACHE,
        arguments=("--max-num-batched-tokens", str(MAX_BATCHED_TOKENS), "--max-model-len", "2048"),
        environment={
            "DS_WORKER_ADDR": worker_address,
            "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
            # Opens the route that empties vLLM's own prefix cache.
            "VLLM_SERVER_DEV_MODE": "1",
        },
    )
    service = start_vllm("single", options, logs)
    yield service.wait_healthy()
    service.stop()


@pytest.fixture(scope="module")
def answered_without_worker(engine: Service, deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    """What the first test shows, once, before a worker is there."""
    prompt = fresh_prompt(150)
    alone = answer(engine.url, engine, [prompt])
    assert alone.tokens == deployment.expected([prompt])
    assert alone.computed.prompt_tokens == len(prompt)


@pytest.fixture(scope="module")
def late_worker(answered_without_worker: None, worker_address: str, logs: Path) -> Iterator[DataWorker]:
    """A worker that starts after the engine has answered without one."""
    worker = start_worker(worker_address, logs / "late-worker", *WORKER_FLAGS)
    yield worker
    worker.stop()


def test_an_engine_without_a_worker_answers(answered_without_worker: None) -> None:
    """The fixture asserts it."""


def test_a_worker_that_comes_late_is_found(engine: Service, late_worker: DataWorker, fresh_prompt: FreshPrompt) -> None:
    deadline = time.monotonic() + 20
    while late_worker.status()["puts"] == 0:
        assert time.monotonic() < deadline, "the engine has not saved anything 20 s after the worker came"
        at_once(engine.url, [fresh_prompt(100)])


def test_saved_kv_comes_back_after_the_cache_was_reset(
    engine: Service, late_worker: DataWorker, deployment: Deployment, fresh_prompt: FreshPrompt
) -> None:
    prompt = fresh_prompt(500)
    expected = deployment.expected([prompt])
    assert answer(engine.url, engine, [prompt]).tokens == expected
    assert post(f"{engine.url}/reset_prefix_cache", {}) == {"success": True}
    again = answer(engine.url, engine, [prompt])
    assert again.tokens == expected
    assert again.computed.prompt_tokens == 1


def test_preempted_requests_give_the_same_tokens(
    engine: Service, late_worker: DataWorker, deployment: Deployment, fresh_prompt: FreshPrompt
) -> None:
    prompts = [fresh_prompt(350 + 10 * index) for index in range(5)]
    before = preemptions(engine.url)
    ours = at_once(engine.url, prompts, output_tokens=300)
    assert preemptions(engine.url) > before, "the KV cache was meant to be too small for all"
    theirs = at_once(deployment.plain.url, prompts, output_tokens=300)
    assert [item.token_ids for item in ours] == [item.token_ids for item in theirs]
    assert all(len(item.token_ids) == 300 for item in ours)
    assert complete(engine.url, prompts[0], 8).token_ids == theirs[0].token_ids[:8]
