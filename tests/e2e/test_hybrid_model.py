"""A model with sliding-window and full-attention layers: two KV-cache groups, and windows that let blocks go."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import FreshPrompt
from deployment import (
    BLOCK_TOKENS,
    MAX_BATCHED_TOKENS,
    Deployment,
    answer,
    assert_carried,
    at_once,
    start_pair,
    wait_until_carried,
)
from tools.checkout import HYBRID_MODEL
from tools.traffic.step_log import StepLog
from tools.vllm_environment import ensure_hybrid_model

WINDOW = 96


@pytest.fixture(scope="module")
def hybrid(logs: Path) -> Iterator[Deployment]:
    """A deployment that serves the hybrid model."""
    ensure_hybrid_model()
    with start_pair("hybrid", logs, model=HYBRID_MODEL) as running:
        yield running


def test_the_model_has_two_groups(hybrid: Deployment) -> None:
    assert f"kv cache group sizes ({BLOCK_TOKENS}, {BLOCK_TOKENS})" in hybrid.decode.log.read_text()


@pytest.mark.parametrize(
    "tokens", [2, BLOCK_TOKENS, WINDOW - 1, WINDOW, WINDOW + 1, 8 * BLOCK_TOKENS, 700, 2 * MAX_BATCHED_TOKENS + 9]
)
def test_a_prompt_of_any_length_is_carried(hybrid: Deployment, fresh_prompt: FreshPrompt, tokens: int) -> None:
    assert_carried(hybrid, [fresh_prompt(tokens)])


def test_prompts_at_once_are_carried(hybrid: Deployment, fresh_prompt: FreshPrompt) -> None:
    assert_carried(hybrid, [fresh_prompt(tokens) for tokens in (40, 200, 333, 1500)])


@pytest.mark.parametrize("shared", [2 * BLOCK_TOKENS, 9 * BLOCK_TOKENS])
def test_a_prefix_that_prefill_has_cached_is_carried_all_the_same(
    hybrid: Deployment, fresh_prompt: FreshPrompt, shared: int
) -> None:
    prefix = fresh_prompt(shared)
    assert_carried(hybrid, [prefix + fresh_prompt(70)])
    steps = StepLog(hybrid.prefill.log)
    assert_carried(hybrid, [prefix + fresh_prompt(90)])
    # Prefill answers twice: for the proxy, and for the comparison.
    assert steps.computed().prompt_tokens < 2 * (shared + 90) - shared, "prefill was meant to find the prefix"


@pytest.mark.parametrize("shared", [2 * BLOCK_TOKENS, 9 * BLOCK_TOKENS])
def test_a_prompt_that_begins_as_a_saved_one_is_loaded_that_far(
    hybrid: Deployment, fresh_prompt: FreshPrompt, shared: int
) -> None:
    prefix = fresh_prompt(shared)
    at_once(hybrid.prefill.url, [prefix], output_tokens=1)
    prompt = prefix + fresh_prompt(70)
    carried = answer(hybrid.decode.url, hybrid.decode, [prompt])
    assert carried.tokens == hybrid.expected([prompt])
    assert carried.computed.prompt_tokens == 70


def test_a_window_that_ends_with_a_block_is_whole_for_the_last_token(
    hybrid: Deployment, fresh_prompt: FreshPrompt
) -> None:
    """Told that such a prompt is loaded whole, vLLM would free a block too early: so a block less is loaded.

    One token of KV would be missing to each, which changes what only some of them say: so there are many.
    """
    prompts = [fresh_prompt(4 * BLOCK_TOKENS - 1) for _ in range(32)]
    carried = hybrid.through_proxy(prompts)
    assert carried.tokens == hybrid.expected(prompts)
    assert carried.computed.prompt_tokens <= len(prompts) * BLOCK_TOKENS


def test_requests_outlive_a_killed_worker(hybrid: Deployment, fresh_prompt: FreshPrompt, logs: Path) -> None:
    """A load that fails is told vLLM by request, where several groups number their blocks alike."""
    prompts = [fresh_prompt(610 + index) for index in range(8)]
    expected = hybrid.expected(prompts)
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(hybrid.through_proxy, prompts)
        # Somewhere between the first lookup and the last load; where differs from run to run, the claim does not.
        time.sleep(0.05)
        os.kill(hybrid.worker.process_id, signal.SIGKILL)
        assert in_flight.result().tokens == expected
    hybrid.restart_worker(logs / "hybrid")
    wait_until_carried(hybrid, fresh_prompt)
