"""Engines of other shapes beside one worker: blocks of one shape are never read as another, and each finds its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import FreshPrompt
from deployment import BLOCK_TOKENS, CACHE_CAN_BE_RESET, Deployment, answer, on_worker
from tools.services.service import Service
from tools.services.vllm_instance import start_vllm
from tools.traffic.openai_client import post


@contextmanager
def engine_of(name: str, deployment: Deployment, logs: Path, *arguments: str) -> Iterator[Service]:
    """An instance in both roles that shares the worker of `deployment`."""
    service = start_vllm(name, on_worker(deployment.worker.address, "kv_both", *arguments, **CACHE_CAN_BE_RESET), logs)
    try:
        yield service.wait_healthy()
    finally:
        service.stop()


def test_blocks_of_another_size_are_computed_and_shared_among_their_like(
    deployment: Deployment, fresh_prompt: FreshPrompt, logs: Path
) -> None:
    prompt = fresh_prompt(500)
    expected = answer(deployment.prefill.url, deployment.prefill, [prompt]).tokens
    with engine_of("large-blocks", deployment, logs, "--block-size", str(2 * BLOCK_TOKENS)) as engine:
        assert_computed_once(engine, prompt, expected)


def test_pages_of_eight_bits_are_carried(deployment: Deployment, fresh_prompt: FreshPrompt, logs: Path) -> None:
    prompt = fresh_prompt(500)
    answer(deployment.prefill.url, deployment.prefill, [prompt])
    with engine_of("eight-bits", deployment, logs, "--kv-cache-dtype", "fp8") as engine:
        assert_computed_once(engine, prompt, expected=None)


def assert_computed_once(engine: Service, prompt: list[int], expected: list[tuple[int, ...]] | None) -> None:
    """What others saved is of no use to the engine; what it saves itself it loads once its own cache is empty."""
    first = answer(engine.url, engine, [prompt])
    assert first.computed.prompt_tokens == len(prompt)
    assert first.tokens == (expected or first.tokens)
    assert post(f"{engine.url}/reset_prefix_cache", {}) == {"success": True}
    again = answer(engine.url, engine, [prompt])
    assert again.computed.prompt_tokens == 1
    assert again.tokens == first.tokens
