"""Two ranks a side: each saves and loads its own shard of every block, and a block is there when both are."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import FreshPrompt
from deployment import (
    BLOCK_TOKENS,
    MAX_BATCHED_TOKENS,
    Deployment,
    answer,
    assert_carried,
    on_worker,
    start_pair,
)
from tools.services.service import Service
from tools.services.vllm_instance import chariot_transfer, start_vllm
from tools.session import session_members

RANKS = 2


@pytest.fixture(scope="module")
def pair(logs: Path) -> Iterator[Deployment]:
    """A deployment whose engines have two ranks each."""
    arguments = ("--tensor-parallel-size", str(RANKS))
    # vLLM wants to bind each rank to a memory node of its own, which a small machine has not.
    with start_pair(
        "tensor-parallel", logs, arguments=arguments, environment={"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    ) as running, without_leftovers([running.prefill, running.decode]):  # fmt: skip
        yield running


@contextmanager
def without_leftovers(engines: list[Service]) -> Iterator[None]:
    """Removes the shared memory through which the ranks of an engine talk, and which vLLM leaves behind."""
    mapped = {
        Path(line.split()[-1])
        for engine in engines
        for process in session_members(engine.process.pid)
        for line in Path(f"/proc/{process}/maps").read_text().splitlines()
        if "/dev/shm/vllm_dist_" in line
    }
    try:
        yield
    finally:
        for engine in engines:
            engine.stop()
        for path in mapped:
            path.unlink(missing_ok=True)


@pytest.mark.parametrize("tokens", [BLOCK_TOKENS + 1, MAX_BATCHED_TOKENS + 300])
def test_a_prompt_is_carried(pair: Deployment, fresh_prompt: FreshPrompt, tokens: int) -> None:
    assert_carried(pair, [fresh_prompt(tokens)])


def test_prompts_at_once_are_carried(pair: Deployment, fresh_prompt: FreshPrompt) -> None:
    assert_carried(pair, [fresh_prompt(tokens) for tokens in (40, 200, 500)])


def test_another_number_of_ranks_computes_what_it_cannot_read(
    pair: Deployment, fresh_prompt: FreshPrompt, logs: Path
) -> None:
    """Ranks of two hold other heads than one alone, which was not told to divide them: their shards have other keys."""
    single = start_vllm("tensor-parallel-single", on_worker(pair.worker.address, "kv_consumer"), logs)
    try:
        single.wait_healthy()
        for tokens in (100, 500):
            prompt = fresh_prompt(tokens)
            expected = answer(pair.prefill.url, pair.prefill, [prompt]).tokens
            alone = answer(single.url, single, [prompt])
            assert alone.tokens == expected
            assert alone.computed.prompt_tokens == tokens
    finally:
        single.stop()


def test_one_rank_and_two_share_blocks_that_are_divided_alike(
    pair: Deployment, fresh_prompt: FreshPrompt, logs: Path
) -> None:
    """A single rank that is told so keeps and reads what two ranks do, each a shard."""
    transfer = chariot_transfer("kv_both", kv_connector_extra_config={"chariot.kv_shards": RANKS})
    options = replace(on_worker(pair.worker.address, "kv_both"), kv_transfer=transfer)
    single = start_vllm("tensor-parallel-divided", options, logs)
    try:
        single.wait_healthy()
        for tokens in (BLOCK_TOKENS + 1, MAX_BATCHED_TOKENS + 300):
            for writer, reader in ((pair.prefill, single), (single, pair.decode)):
                prompt = fresh_prompt(tokens)
                computed = answer(writer.url, writer, [prompt])
                assert computed.computed.prompt_tokens == tokens
                loaded = answer(reader.url, reader, [prompt])
                assert loaded.tokens == computed.tokens
                assert loaded.computed.prompt_tokens == 1
    finally:
        single.stop()


def test_every_rank_has_a_connection_of_its_own(pair: Deployment) -> None:
    sessions = pair.worker.status()["sessions"]
    assert isinstance(sessions, list)
    processes = {session["pid"] for session in sessions if "rank" in session["name"]}
    assert len(processes) == 2 * RANKS
    assert os.getpid() not in processes
