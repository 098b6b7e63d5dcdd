"""Engines with other numbers of ranks: blocks divided alike are shared, each rank taking the heads that are its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from paper_engine import PaperEngine
from test_engines import HYBRID, NEEDS_FAILED_REQUESTS, bereave, tokens
from worker import Worker

MakeEngine = Callable[..., PaperEngine]

RANKS = [(2, 1, 2), (1, 2, 2), (4, 1, 4), (2, 4, 4), (1, 2, 4), (8, 2, 4), (1, 8, 4)]
LAYOUTS = [
    pytest.param({}, {}, id="plain"),
    pytest.param({"groups": HYBRID}, {}, id="hybrid", marks=NEEDS_FAILED_REQUESTS),
    pytest.param({}, {"chariot.device_path": "torch"}, id="through torch"),
    pytest.param({}, {"chariot.layerwise": "off"}, id="not layer by layer"),
]


def divided(shards: int, **extra: Any) -> dict[str, Any]:
    return {"extra": {"chariot.kv_shards": shards, **extra}}


@pytest.mark.parametrize("ranks", RANKS, ids=str)
@pytest.mark.parametrize(("layout", "extra"), LAYOUTS)
def test_decode_with_other_ranks_computes_one_token(
    engine: MakeEngine, ranks: tuple[int, int, int], layout: dict[str, Any], extra: dict[str, Any]
) -> None:
    before, behind, shards = ranks
    prefill = engine("kv_producer", ranks=before, **layout, **divided(shards, **extra))
    decode = engine("kv_consumer", ranks=behind, **layout, **divided(shards, **extra))
    for number, length in enumerate((2, 16, 300)):
        prefill.add(f"at prefill {number}", tokens(length, number))
        prefill.run()
        decode.add(f"at decode {number}", tokens(length, number), outputs=40)
        decode.run()
        assert decode.computed[f"at decode {number}"] == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_only_who_has_other_ranks_need_be_told(engine: MakeEngine, ranks: int) -> None:
    """Two shards are what two ranks keep anyway."""
    told, untold = engine(ranks=1, **divided(2)), engine(ranks=2)
    saving, looking = (told, untold) if ranks == 1 else (untold, told)
    saving.add("saved", tokens(80), outputs=30)
    saving.run()
    looking.add("found", tokens(80), outputs=30)
    looking.run()
    assert looking.computed["found"] == 1


def test_blocks_that_are_divided_otherwise_are_strangers(engine: MakeEngine) -> None:
    engines = [engine(), engine(**divided(2)), engine(**divided(4))]
    for number, each in enumerate(engines):
        each.add(f"request {number}", tokens(80), outputs=30)
        each.run()
        assert each.computed[f"request {number}"] == 80


def test_a_preempted_request_of_a_divided_cache_goes_on_where_it_was(engine: MakeEngine) -> None:
    both = engine(blocks=14, prefix_caching=False, **divided(4))
    for number in range(3):
        both.add(f"request {number}", tokens(50, number), outputs=60)
    both.run()
    assert sum(both.computed_again.values()) == 0
    assert both.stats["loaded_blocks"] > 0


def test_one_lost_shard_costs_its_block_and_what_follows(engine: MakeEngine, own_worker: Worker) -> None:
    prefill, decode = engine("kv_producer", **divided(4)), engine("kv_consumer", ranks=2, **divided(4))
    bereave(prefill, decode, own_worker, lambda keys: keys[-1:])
    assert 1 < decode.computed["bereft"] < 300


@pytest.mark.parametrize(("ranks", "shards"), [(1, 3), (2, 1), (1, 8), (4, 2)])
def test_a_division_that_cannot_be_is_refused_with_those_that_can(engine: MakeEngine, ranks: int, shards: int) -> None:
    with pytest.raises(ValueError, match=rf"`chariot.kv_shards` is `{shards}`.*can be divided into .*4\."):
        engine(ranks=ranks, **divided(shards))
