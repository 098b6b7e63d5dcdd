"""Other people's prefill-then-decode proxies: the connector needs nothing from them, and accepts what they send."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conftest import FreshPrompt
from deployment import OUTPUT_TOKENS, Deployment, answer
from tools.checkout import VLLM_ENVIRONMENT, VLLM_PYTHON
from tools.failure import Failure
from tools.services.ports import HOST, free_ports
from tools.services.service import Service, answers
from tools.traffic.openai_client import completion_request, post
from tools.traffic.step_log import StepLog
from tools.vllm_sources import ensure_toy_proxy


def test_plain_proxy_sends_the_prompt_twice_without_parameters(
    deployment: Deployment, fresh_prompt: FreshPrompt
) -> None:
    """As the guide's simple proxy and vLLM's disagg_proxy_demo do: one token from prefill, then the request itself."""
    prompt = fresh_prompt(333)
    post(f"{deployment.prefill.url}/v1/completions", completion_request(prompt, 1))
    # Nothing waits in between: the KV must be findable when prefill's reply has arrived.
    carried = answer(deployment.decode.url, deployment.decode, [prompt])
    assert carried.tokens == deployment.expected([prompt])
    assert carried.computed.prompt_tokens == 1


def test_transfer_parameters_pass_from_prefill_to_decode(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    """What vLLM's toy_proxy_server sends, step by step: one request id for both, prefill's parameters for decode."""
    prompt = fresh_prompt(444)
    headers = {"X-Request-Id": str(uuid.uuid4())}
    to_prefill = completion_request(prompt, 1) | {
        "stream": False,
        "kv_transfer_params": {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "remote_engine_id": None,
            "remote_block_ids": None,
            "remote_host": None,
            "remote_port": None,
        },
    }
    steps = StepLog(deployment.decode.log)
    reply = post(f"{deployment.prefill.url}/v1/completions", to_prefill, headers)
    to_decode = completion_request(prompt, OUTPUT_TOKENS) | {"kv_transfer_params": reply["kv_transfer_params"]}
    final = post(f"{deployment.decode.url}/v1/completions", to_decode, headers)
    computed = steps.settled(lambda found: found.generation_tokens >= OUTPUT_TOKENS - 1)
    assert [tuple(final["choices"][0]["token_ids"])] == deployment.expected([prompt])
    assert computed.prompt_tokens == 1


@pytest.fixture(scope="module")
def toy_proxy(deployment: Deployment, logs: Path) -> Iterator[Service]:
    """vLLM's own toy_proxy_server in front of the same two engines."""
    try:
        script = ensure_toy_proxy()
    except Failure as failure:
        pytest.skip(f"vLLM's sources cannot be had: {failure}")
    [port] = free_ports(1)
    service = Service(
        "toy-proxy",
        [
            VLLM_PYTHON, script,
            "--host", HOST,
            "--port", str(port),
            "--prefiller-host", HOST,
            "--prefiller-port", deployment.prefill.url.rpartition(":")[2],
            "--decoder-host", HOST,
            "--decoder-port", deployment.decode.url.rpartition(":")[2],
        ],
        logs / "toy-proxy.log",
        environment={},
        url=f"http://{HOST}:{port}",
    )  # fmt: skip
    try:
        yield service.wait_until(lambda: answers(f"{service.url}/healthcheck"), 60)
    finally:
        service.stop()


def test_toy_proxy_server_is_served(deployment: Deployment, toy_proxy: Service, fresh_prompt: FreshPrompt) -> None:
    prompts = [fresh_prompt(tokens) for tokens in (40, 800, 1600)]
    carried = answer(toy_proxy.url, deployment.decode, prompts)
    assert carried.tokens == deployment.expected(prompts)
    assert carried.computed.prompt_tokens == len(prompts)


def test_both_sides_asked_at_the_same_time_answer_right(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    """As Mooncake's proxy does. What decode computes then depends on who is first; the tokens must not."""
    prompt = fresh_prompt(555)
    with ThreadPoolExecutor(2) as pool:
        prefilled = pool.submit(post, f"{deployment.prefill.url}/v1/completions", completion_request(prompt, 1))
        decoded = pool.submit(answer, deployment.decode.url, deployment.decode, [prompt])
    assert prefilled.result()["usage"]["completion_tokens"] == 1
    assert decoded.result().tokens == deployment.expected([prompt])


@pytest.fixture(scope="module")
def router(deployment: Deployment, logs: Path) -> Iterator[Service]:
    """vllm-router in front of the same two engines."""
    port, metrics_port = free_ports(2)
    service = Service(
        "vllm-router",
        [
            VLLM_ENVIRONMENT / "bin" / "vllm-router",
            "--host", HOST,
            "--port", str(port),
            "--prometheus-port", str(metrics_port),
            "--vllm-pd-disaggregation",
            "--kv-connector", "nixl",
            "--policy", "round_robin",
            "--prefill", deployment.prefill.url,
            "--decode", deployment.decode.url,
        ],
        logs / "vllm-router.log",
        environment={},
        url=f"http://{HOST}:{port}",
    )  # fmt: skip
    try:
        yield service.wait_healthy(60)
    finally:
        service.stop()


def test_vllm_router_is_served(deployment: Deployment, router: Service, fresh_prompt: FreshPrompt) -> None:
    prompts = [fresh_prompt(tokens) for tokens in (40, 800, 1600)]
    carried = answer(router.url, deployment.decode, prompts)
    assert carried.tokens == deployment.expected(prompts)
    assert carried.computed.prompt_tokens == len(prompts)
