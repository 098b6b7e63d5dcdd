"""A model with multi-head latent attention: one compressed vector a token, and no heads, in each page.

vLLM's CPU build computes a prompt and an answer's tokens with kernels that do not agree, not even within one plain
instance. So what is compared are tokens that the same kernel makes of the same KV cache: prefill's answer behind its
first token, and the answer of a decode that loads the prompt and is given that token.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import FreshPrompt
from deployment import Deployment, answer, at_once, start_pair
from tools.checkout import LATENT_MODEL
from tools.vllm_environment import ensure_latent_model

BLOCK_TOKENS = 16
"""The only size that vLLM's kernel for these pages takes."""


@pytest.fixture(scope="module")
def latent(logs: Path) -> Iterator[Deployment]:
    """A deployment that serves the model."""
    ensure_latent_model()
    # vLLM's own choice on some processors does not take the 32 bits in which the model is kept.
    arguments = ("--attention-backend", "CPU_MLA", "--block-size", str(BLOCK_TOKENS))
    with start_pair("latent", logs, model=LATENT_MODEL, arguments=arguments) as running:
        yield running


@pytest.mark.parametrize("blocks", [1, 2, 31, 63])
def test_a_prompt_is_carried(latent: Deployment, fresh_prompt: FreshPrompt, blocks: int) -> None:
    prompt = fresh_prompt(blocks * BLOCK_TOKENS)
    [prefilled] = at_once(latent.prefill.url, [prompt])
    first, *others = prefilled.token_ids
    carried = answer(latent.decode.url, latent.decode, [[*prompt, first]])
    assert carried.computed.prompt_tokens == 1
    assert list(carried.tokens[0][: len(others)]) == others


def test_a_prompt_that_only_begins_as_a_saved_one_is_computed(latent: Deployment, fresh_prompt: FreshPrompt) -> None:
    """vLLM would compute the rest as if nothing were before it."""
    prefix = fresh_prompt(20 * BLOCK_TOKENS)
    at_once(latent.prefill.url, [prefix], output_tokens=1)
    prompt = prefix + fresh_prompt(70)
    alone = answer(latent.decode.url, latent.decode, [prompt])
    assert alone.computed.prompt_tokens == len(prompt)
    assert alone.tokens == latent.expected([prompt])


def test_a_prompt_that_ends_within_a_block_is_loaded_whole(latent: Deployment, fresh_prompt: FreshPrompt) -> None:
    prompts = [fresh_prompt(length) for length in (2, 17, 333)]
    assert latent.through_proxy(prompts).computed.prompt_tokens == len(prompts)
