"""`cache_salt` keeps tenants apart: KV saved under one salt is never loaded under another."""

from conftest import FreshPrompt
from deployment import Deployment, answer


def test_kv_saved_under_one_salt_is_not_loaded_under_another(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    prompt = fresh_prompt(200)
    answer(deployment.prefill.url, deployment.prefill, [prompt], cache_salt="tenant-a")
    expected = deployment.expected([prompt])

    other = answer(deployment.decode.url, deployment.decode, [prompt], cache_salt="tenant-b")
    assert other.tokens == expected
    assert other.computed.prompt_tokens == len(prompt)

    unsalted = answer(deployment.decode.url, deployment.decode, [prompt])
    assert unsalted.tokens == expected
    assert unsalted.computed.prompt_tokens == len(prompt)

    same = answer(deployment.decode.url, deployment.decode, [prompt], cache_salt="tenant-a")
    assert same.tokens == expected
    assert same.computed.prompt_tokens == 1
