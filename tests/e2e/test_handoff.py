"""The main job: prefill here, decode there, tokens as from one vLLM, one prompt token computed by decode."""

import pytest

from conftest import FreshPrompt
from deployment import (
    BLOCK_TOKENS,
    KV_BYTES_PER_TOKEN,
    MAX_BATCHED_TOKENS,
    OUTPUT_TOKENS,
    Deployment,
    answer,
    assert_carried,
    at_once,
)
from tools.traffic.metrics import external_hits
from tools.traffic.openai_client import post, stream
from tools.traffic.step_log import StepLog


@pytest.mark.parametrize(
    "tokens",
    [
        1,
        2,
        7,
        BLOCK_TOKENS - 1,
        BLOCK_TOKENS,
        BLOCK_TOKENS + 1,
        8 * BLOCK_TOKENS - 1,
        8 * BLOCK_TOKENS,
        8 * BLOCK_TOKENS + 1,
        500,
    ],
)
def test_a_prompt_of_any_length_is_carried(deployment: Deployment, fresh_prompt: FreshPrompt, tokens: int) -> None:
    assert_carried(deployment, [fresh_prompt(tokens)])


@pytest.mark.parametrize("tokens", [MAX_BATCHED_TOKENS + 1, 2 * MAX_BATCHED_TOKENS, 4000])
def test_a_prompt_that_prefill_computes_in_chunks_is_carried(
    deployment: Deployment, fresh_prompt: FreshPrompt, tokens: int
) -> None:
    steps = StepLog(deployment.prefill.log)
    assert_carried(deployment, [fresh_prompt(tokens)])
    assert steps.computed().prompt_steps > 1


def test_the_bytes_come_from_the_worker_and_vllm_counts_them_as_external(
    deployment: Deployment, fresh_prompt: FreshPrompt
) -> None:
    before = deployment.worker.status()
    hits = external_hits(deployment.decode.url)
    assert_carried(deployment, [fresh_prompt(700)])
    after = deployment.worker.status()
    assert after["put_bytes"] - before["put_bytes"] >= 700 * KV_BYTES_PER_TOKEN
    assert after["hit_bytes"] - before["hit_bytes"] >= 700 * KV_BYTES_PER_TOKEN
    assert external_hits(deployment.decode.url) - hits >= 699


@pytest.mark.parametrize("shared", [5 * BLOCK_TOKENS, 5 * BLOCK_TOKENS + 9])
def test_a_prefix_that_prefill_has_cached_is_carried_all_the_same(
    deployment: Deployment, fresh_prompt: FreshPrompt, shared: int
) -> None:
    prefix = fresh_prompt(shared)
    assert_carried(deployment, [prefix + fresh_prompt(70)])
    steps = StepLog(deployment.prefill.log)
    assert_carried(deployment, [prefix + fresh_prompt(90)])
    assert steps.computed().prompt_tokens < shared, "prefill was meant to find the prefix in its own cache"


@pytest.mark.parametrize("shared", [5 * BLOCK_TOKENS, 5 * BLOCK_TOKENS + 9])
def test_a_prompt_that_begins_as_a_saved_one_is_loaded_that_far(
    deployment: Deployment, fresh_prompt: FreshPrompt, shared: int
) -> None:
    prefix = fresh_prompt(shared)
    at_once(deployment.prefill.url, [prefix], output_tokens=1)
    prompt = prefix + fresh_prompt(70)
    carried = answer(deployment.decode.url, deployment.decode, [prompt])
    assert carried.tokens == deployment.expected([prompt])
    assert carried.computed.prompt_tokens == 70 + shared % BLOCK_TOKENS


def test_a_prompt_sent_twice_costs_decode_one_token_again(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    # A multiple of the block size: decode has it whole in its own cache, and computes at most the last block's tokens.
    prompt = fresh_prompt(6 * BLOCK_TOKENS + 5)
    first = assert_carried(deployment, [prompt])
    second = assert_carried(deployment, [prompt])
    assert first.tokens == second.tokens


def test_eight_prompts_at_once_are_carried(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    assert_carried(deployment, [fresh_prompt(tokens) for tokens in (20, 33, 64, 200, 500, 900, 1500, 3000)])


def test_the_same_prompt_eight_times_at_once_is_right(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    prompt = fresh_prompt(600)
    assert_carried(deployment, [prompt] * 8)


def test_a_streamed_completion_is_the_same(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    prompt = fresh_prompt(300)
    steps = StepLog(deployment.decode.log)
    streamed = stream(deployment.proxy.url, prompt, OUTPUT_TOKENS)
    computed = steps.settled(lambda found: found.generation_tokens >= OUTPUT_TOKENS - 1)
    assert [streamed.token_ids] == deployment.expected([prompt])
    assert computed.prompt_tokens == 1


def test_a_chat_is_carried_too(deployment: Deployment) -> None:
    request = {
        "model": "tiny-qwen2",
        "messages": [{"role": "user", "content": "Which of two lists of words is the longer one? " * 20}],
        "max_tokens": OUTPUT_TOKENS,
        "temperature": 0,
    }
    steps = StepLog(deployment.decode.log)
    ours = post(f"{deployment.proxy.url}/v1/chat/completions", request)
    computed = steps.settled(lambda found: found.generation_tokens >= ours["usage"]["completion_tokens"] - 1)
    theirs = post(f"{deployment.plain.url}/v1/chat/completions", request)
    assert ours["choices"][0]["message"]["content"] == theirs["choices"][0]["message"]["content"]
    assert computed.prompt_tokens == 1
