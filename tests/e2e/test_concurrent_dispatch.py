"""Decode is asked together with prefill: it takes the KV cache as it comes, and computes the prompt if prefill dies."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import chariot_ds
from conftest import FreshPrompt
from deployment import (
    BLOCK_TOKENS,
    MAX_BATCHED_TOKENS,
    OUTPUT_TOKENS,
    Deployment,
    answer,
    assert_carried,
    on_worker,
)
from test_abort import wait_until_idle
from tools.services.ports import free_ports
from tools.services.proxy import start_proxy
from tools.services.service import Service
from tools.services.vllm_instance import start_vllm
from tools.session import session_members, signal_process
from tools.traffic.metrics import counter
from tools.traffic.openai_client import completion_request, events, stream
from tools.traffic.step_log import StepLog

RESTARTS = "chariot_proxy_decode_restarts_total"


@pytest.fixture(scope="module")
def concurrent_proxy(deployment: Deployment, logs: Path) -> Iterator[Service]:
    """A proxy that asks both engines of the deployment at once."""
    [port] = free_ports(1)
    service = start_proxy(
        port, deployment.prefill.port, deployment.decode.port, logs,
        name="concurrent-proxy", arguments=["--dispatch", "concurrent"],
    )  # fmt: skip
    try:
        yield service.wait_healthy(60)
    finally:
        service.stop()


@pytest.mark.parametrize("tokens", [BLOCK_TOKENS + 1, 8 * BLOCK_TOKENS, 500, 3 * MAX_BATCHED_TOKENS + 7])
def test_decode_computes_one_token_of_a_prompt_that_prefill_computes_meanwhile(
    deployment: Deployment, concurrent_proxy: Service, fresh_prompt: FreshPrompt, tokens: int
) -> None:
    prompt = fresh_prompt(tokens)
    carried = answer(concurrent_proxy.url, deployment.decode, [prompt])
    assert carried.tokens == deployment.expected([prompt])
    assert carried.computed.prompt_tokens == 1
    assert counter(concurrent_proxy.url, RESTARTS) == 0


def test_many_at_once_wait_for_their_prompts_and_a_stream_does(
    deployment: Deployment, concurrent_proxy: Service, fresh_prompt: FreshPrompt
) -> None:
    prompts = [fresh_prompt(tokens) for tokens in (40, 64, 200, 500, 900, 1500, 3000)]
    carried = answer(concurrent_proxy.url, deployment.decode, prompts)
    assert carried.tokens == deployment.expected(prompts)
    assert carried.computed.prompt_tokens == len(prompts)
    prompt = fresh_prompt(600)
    steps = StepLog(deployment.decode.log)
    streamed = stream(concurrent_proxy.url, prompt, OUTPUT_TOKENS)
    computed = steps.settled(lambda found: found.generation_tokens >= OUTPUT_TOKENS - 1)
    assert [streamed.token_ids] == deployment.expected([prompt])
    assert computed.prompt_tokens == 1


def test_a_client_that_leaves_while_decode_waits_leaves_nothing_behind(
    deployment: Deployment, concurrent_proxy: Service, fresh_prompt: FreshPrompt
) -> None:
    def leave_at_once(prompt: list[int]) -> None:
        request = completion_request(prompt, max_tokens=2000) | {"stream": True}
        with closing(events(f"{concurrent_proxy.url}/v1/completions", request, timeout=0.02)) as stream:
            try:
                next(stream)
            except TimeoutError:
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(leave_at_once, [fresh_prompt(4000) for _ in range(4)]))
    wait_until_idle(deployment)
    assert_carried(deployment, [fresh_prompt(450)])


@pytest.fixture
def doomed(deployment: Deployment, logs: Path) -> Iterator[tuple[Service, Service]]:
    """A prefill instance that a test may kill, and a proxy that asks it together with the deployment's decode."""
    [proxy_port] = free_ports(1)
    engine = start_vllm("doomed-prefill", on_worker(deployment.worker.address, "kv_producer"), logs)
    proxy = start_proxy(
        proxy_port, engine.port, deployment.decode.port, logs,
        name="doomed-proxy", arguments=["--dispatch", "concurrent"],
    )  # fmt: skip
    try:
        yield engine.wait_healthy(), proxy.wait_healthy()
    finally:
        engine.kill()
        proxy.stop()


@pytest.mark.parametrize("moment", ["before a block is written", "while its blocks are written"])
def test_a_prefill_that_is_killed_while_decode_waits_costs_no_token(
    deployment: Deployment, doomed: tuple[Service, Service], fresh_prompt: FreshPrompt, moment: str
) -> None:
    prefill, proxy = doomed
    prompts = [fresh_prompt(1000) for _ in range(10)]
    expected = dict(zip(map(tuple, prompts), deployment.expected(prompts), strict=True))
    processes = session_members(prefill.process.pid)
    with chariot_ds.Client(deployment.worker.address) as client, ThreadPoolExecutor(1) as pool:
        for prompt in prompts:
            if moment == "before a block is written":
                for process in processes:
                    signal_process(process, signal.SIGSTOP)
            answering = pool.submit(answer, proxy.url, deployment.decode, [prompt])
            # The model takes some 40 ms for a prompt, and a busy machine may let that pass: then it is the next one's.
            while moment != "before a block is written" and client.status()["growing_blocks"] == 0:
                if answering.done():
                    break
            for process in processes:
                signal_process(process, signal.SIGSTOP)
            if moment == "before a block is written" or client.status()["growing_blocks"] > 0:
                wait_until_decode_waits(deployment)
                prefill.kill()
                assert answering.result().tokens == [expected[tuple(prompt)]]
                assert counter(proxy.url, RESTARTS) == 1
                break
            for process in processes:
                signal_process(process, signal.SIGCONT)
            assert answering.result().tokens == [expected[tuple(prompt)]]
        else:
            raise AssertionError(f"prefill was never caught in the middle of {len(prompts)} prompts")
    wait_until_idle(deployment)
    assert_carried(deployment, [fresh_prompt(300)])


def wait_until_decode_waits(deployment: Deployment, seconds: float = 20) -> None:
    """Returns once decode has a request that it does not compute yet."""
    deadline = time.monotonic() + seconds
    while counter(deployment.decode.url, "vllm:num_requests_waiting") == 0:
        assert time.monotonic() < deadline, "decode was never asked"
        time.sleep(0.01)
