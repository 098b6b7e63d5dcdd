"""What the connector says of its blocks: whose they are, and which prompts are hot."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from paper_engine import VOCABULARY, Group, PaperEngine
from worker import Worker, wait_for

import chariot_ds
from chariot_ds.vllm import compat, scheduler

MakeEngine = Callable[..., PaperEngine]


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(VOCABULARY) for _ in range(count)]


def soft_pinned(worker: Worker) -> int:
    with chariot_ds.Client(worker.address) as client:
        return client.status()["soft_pinned_blocks"]


def namespaces(worker: Worker) -> dict[str, int]:
    with chariot_ds.Client(worker.address) as client:
        return {space["name"]: space["blocks"] for space in client.status()["namespaces"]}


def test_blocks_are_put_under_the_name_of_the_model(engine: MakeEngine, own_worker: Worker) -> None:
    one = engine()
    one.add("prompt", tokens(64))
    one.run()
    [(name, blocks)] = namespaces(own_worker).items()
    assert name.endswith(str(one.options.model)[-100:])
    assert blocks >= 4


def test_blocks_are_put_under_the_name_that_is_configured(engine: MakeEngine, own_worker: Worker) -> None:
    one = engine(extra={"chariot.namespace": "a team"})
    one.add("prompt", tokens(64))
    one.run()
    assert list(namespaces(own_worker)) == ["a team"]


@pytest.mark.parametrize(
    ("layout", "count"),
    [
        pytest.param({}, 6, id="plain"),
        pytest.param({"ranks": 2}, 12, id="two ranks"),
        pytest.param({"tokens_a_step": 40}, 6, id="chunked"),
        pytest.param(
            {"groups": (Group(layers=2), Group(layers=2, window=1000))},
            12,
            id="two groups",
            marks=pytest.mark.skipif(not compat.REPORTS_FAILED_REQUESTS, reason="cannot be told of failed loads"),
        ),
    ],
)
def test_a_hot_prompt_is_pinned_up_to_its_last_full_block(
    engine: MakeEngine, own_worker: Worker, layout: dict[str, Any], count: int
) -> None:
    one = engine(**layout)
    one.add("cold", tokens(100, seed=1))
    one.run()
    one.add("hot", tokens(100), transfer={"pin_seconds": 3600})
    one.run()
    wait_for(lambda: soft_pinned(own_worker) == count)


def test_a_prompt_that_is_there_already_becomes_hot(engine: MakeEngine, own_worker: Worker) -> None:
    one, other = engine(), engine()
    one.add("cold", tokens(96))
    one.run()
    assert soft_pinned(own_worker) == 0
    other.add("hot", tokens(96), transfer={"pin_seconds": 0.5e6})
    other.run()
    assert other.computed["hot"] == 1
    wait_for(lambda: soft_pinned(own_worker) == 6)


@pytest.mark.parametrize("seconds", [0, -1, True, "60", [], float("nan"), float("inf"), 1e300, {"a": 1}])
def test_a_time_that_cannot_be_is_said_once_and_pins_nothing(
    engine: MakeEngine, own_worker: Worker, seconds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine()
    said: list[str] = []
    monkeypatch.setattr(scheduler.logger, "warning", lambda text, *rest: said.append(text % rest))
    for number in range(3):
        one.add(str(number), tokens(50, number), transfer={"pin_seconds": seconds})
        one.run()
    assert soft_pinned(own_worker) == 0
    assert len(said) == 1
    assert "pin_seconds" in said[0]
