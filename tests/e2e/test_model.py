"""The tiny model is fit for comparing tokens: its output varies with the prompt and with nothing else."""

from conftest import FreshPrompt
from deployment import MAX_BATCHED_TOKENS, Deployment, at_once


def test_greedy_tokens_do_not_depend_on_batching_chunking_or_caching(
    deployment: Deployment, fresh_prompt: FreshPrompt
) -> None:
    prompts = [fresh_prompt(tokens) for tokens in (20, 64, 300, 700, 1000, MAX_BATCHED_TOKENS + 300, 2500, 4000)]
    alone = [at_once(deployment.plain.url, [prompt])[0].token_ids for prompt in prompts]
    batched = [item.token_ids for item in at_once(deployment.plain.url, prompts)]
    assert batched == alone


def test_outputs_are_varied(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    outputs = deployment.expected([fresh_prompt(100) for _ in range(8)])
    assert len(set(outputs)) == len(outputs)
    assert all(len(set(output)) > len(output) // 4 for output in outputs)
