"""Fixtures: real engines, started once a session and in parallel, since loading is what takes the time."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deployment import ENGINE_FLAGS, WORKER_FLAGS, Deployment, on_worker
from tools import interrupt
from tools.checkout import LOGS
from tools.services.data_worker import start_worker
from tools.services.ports import HOST, free_ports
from tools.services.proxy import start_proxy
from tools.services.service import Service, stop_together
from tools.services.vllm_instance import VllmOptions, start_vllm
from tools.traffic.prompts import token_ids

FreshPrompt = Callable[[int], list[int]]


def pytest_configure(config: pytest.Config) -> None:
    """A terminated run ends its engines and workers too."""
    interrupt.on_termination()


@pytest.fixture(scope="session")
def logs() -> Path:
    """Where each process of the session writes its log."""
    folder = LOGS / "e2e"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def fresh_prompt() -> FreshPrompt:
    """Makes prompts of an exact length that no earlier test has sent."""
    seeds = itertools.count()
    return lambda tokens: token_ids(tokens, next(seeds))


@pytest.fixture(scope="session")
def deployment(logs: Path) -> Iterator[Deployment]:
    """One of everything, started together; the engines' load failure policy is vLLM's default."""
    worker_port, plain_port, proxy_port = free_ports(3)
    with ExitStack() as cleanup:
        services: list[Service] = []

        def engine(name: str, options: VllmOptions) -> Service:
            services.append(start_vllm(name, options, logs))
            return services[-1]

        worker = start_worker(f"{HOST}:{worker_port}", logs, *WORKER_FLAGS)
        # Whichever worker is at the address by then: a test may have put another one in its place.
        cleanup.callback(worker.stop)
        cleanup.callback(stop_together, services)
        prefill = engine("prefill", on_worker(worker.address, "kv_producer"))
        decode = engine("decode", on_worker(worker.address, "kv_consumer"))
        plain = engine("plain", VllmOptions(port=plain_port, arguments=ENGINE_FLAGS))
        proxy = start_proxy(proxy_port, prefill.port, decode.port, logs)
        running = Deployment(worker, prefill, decode, plain, proxy)
        services.append(running.proxy)
        for service in services:
            service.wait_healthy()
        yield running
