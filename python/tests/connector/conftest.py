"""Fixtures of the connector's tests: engines on paper that share a worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker import Worker

os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

pytest.importorskip("vllm")

from paper_engine import Options, PaperEngine, make_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's description."""
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def engine(own_worker: Worker, model: Path) -> Iterator[Callable[..., PaperEngine]]:
    """Makes engines that share one worker; keyword arguments are those of `Options`."""
    engines: list[PaperEngine] = []

    def make(role: str = "kv_both", **options: Any) -> PaperEngine:
        options.setdefault("address", own_worker.address)
        engines.append(PaperEngine(Options(role=role, model=model, **options)))
        return engines[-1]

    yield make
    for each in engines:
        each.close()
