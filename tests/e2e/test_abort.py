"""Clients that go away: nothing stays pinned or half written, and the next request is answered as ever."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from conftest import FreshPrompt
from deployment import Deployment, assert_carried
from tools.services.service import Service
from tools.traffic.metrics import counter
from tools.traffic.openai_client import completion_request, events


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(
    deployment: Deployment, fresh_prompt: FreshPrompt
) -> None:
    def leave_after(tokens: int, prompt: list[int]) -> None:
        request = completion_request(prompt, max_tokens=2000) | {"stream": True}
        with closing(events(f"{deployment.proxy.url}/v1/completions", request)) as stream:
            for _ in range(tokens):
                next(stream)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave_after, [1, 1, 2, 3, 5, 8, 13, 21], [fresh_prompt(400 + index) for index in range(8)]))
    wait_until_idle(deployment)
    assert_carried(deployment, [fresh_prompt(450)])


def test_a_client_that_leaves_during_prefill_leaves_nothing_behind(
    deployment: Deployment, fresh_prompt: FreshPrompt
) -> None:
    def leave_at_once(prompt: list[int]) -> None:
        request = completion_request(prompt, max_tokens=2000) | {"stream": True}
        stream = events(f"{deployment.proxy.url}/v1/completions", request, timeout=0.02)
        try:
            next(stream)
        except TimeoutError:
            pass
        finally:
            stream.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(leave_at_once, [fresh_prompt(4000) for _ in range(4)]))
    wait_until_idle(deployment)
    assert_carried(deployment, [fresh_prompt(450)])


def wait_until_idle(deployment: Deployment, seconds: float = 30) -> None:
    """Both engines without requests, their KV cache given back, and no block pinned or growing in the worker."""
    deadline = time.monotonic() + seconds
    while True:
        status = deployment.worker.status()
        busy = {
            "growing": status["growing_blocks"],
            "pinned": status["pinned_blocks"],
            "running": sum(counter(engine.url, "vllm:num_requests_running") for engine in engines(deployment)),
            "waiting": sum(counter(engine.url, "vllm:num_requests_waiting") for engine in engines(deployment)),
            "kv cache": sum(counter(engine.url, "vllm:kv_cache_usage_perc") for engine in engines(deployment)),
        }
        if not any(busy.values()):
            return
        assert time.monotonic() < deadline, f"still held after {seconds:.0f} s: {busy}"
        time.sleep(0.1)


def engines(deployment: Deployment) -> list[Service]:
    """Both sides."""
    return [deployment.prefill, deployment.decode]
