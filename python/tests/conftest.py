"""Fixtures: a worker for the whole run, workers that a test may kill, and clients on both transports."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from worker import Worker

import chariot_ds


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """The worker that tests share; none of them may end it."""
    worker = Worker(tmp_path_factory.mktemp("worker"))
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def own_worker(tmp_path: Path) -> Iterator[Worker]:
    """A worker for one test alone."""
    worker = Worker(tmp_path / "worker")
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture(params=["auto", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    """Both ways to a worker: what a client sees is the same."""
    return str(request.param)


@pytest.fixture
def client(worker: Worker, transport: str) -> Iterator[chariot_ds.Client]:
    with chariot_ds.Client(worker.address, transport=transport) as client:
        yield client


@pytest.fixture
def connect(worker: Worker) -> Iterator[Callable[..., chariot_ds.Client]]:
    """Makes further clients of the shared worker, and closes them afterwards."""
    clients: list[chariot_ds.Client] = []

    def make(transport: str = "auto") -> chariot_ds.Client:
        clients.append(chariot_ds.Client(worker.address, transport=transport))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


_numbers = itertools.count()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses."""
    return f"{request.node.name} {next(_numbers)}"
