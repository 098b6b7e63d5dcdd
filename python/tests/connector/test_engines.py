"""Engines that carry KV cache to each other, checked token by token by the engine on paper."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from paper_engine import VOCABULARY, Group, PaperEngine
from worker import Worker, wait_for

import chariot_ds
from chariot_ds._native import shard_key
from chariot_ds.vllm import compat

MakeEngine = Callable[..., PaperEngine]

HYBRID = (Group(layers=2), Group(layers=2, window=40), Group(layers=1, window=24))
NEEDS_FAILED_REQUESTS = pytest.mark.skipif(
    not compat.REPORTS_FAILED_REQUESTS, reason="this vLLM cannot be told that a load of several groups has failed"
)
LAYOUTS = [
    pytest.param({}, id="plain"),
    pytest.param({"ranks": 2}, id="two ranks"),
    pytest.param({"groups": HYBRID}, id="hybrid", marks=NEEDS_FAILED_REQUESTS),
    pytest.param({"groups": HYBRID, "ranks": 2}, id="hybrid of two ranks", marks=NEEDS_FAILED_REQUESTS),
    pytest.param({"extra": {"chariot.device_path": "torch"}}, id="through torch"),
    pytest.param({"extra": {"chariot.layerwise": "off"}}, id="not layer by layer"),
    pytest.param(
        {"groups": HYBRID, "extra": {"chariot.device_path": "torch"}},
        id="hybrid through torch",
        marks=NEEDS_FAILED_REQUESTS,
    ),
    pytest.param({"runs_ahead": True}, id="running ahead"),
    pytest.param({"runs_ahead": True, "groups": HYBRID}, id="hybrid running ahead", marks=NEEDS_FAILED_REQUESTS),
]


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(VOCABULARY) for _ in range(count)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("length", [2, 15, 16, 17, 64, 300])
def test_decode_computes_one_token_of_what_prefill_computed(
    engine: MakeEngine, layout: dict[str, Any], length: int
) -> None:
    prefill, decode = engine("kv_producer", **layout), engine("kv_consumer", **layout)
    prefill.add("at prefill", tokens(length))
    prefill.run()
    decode.add("at decode", tokens(length), outputs=40)
    decode.run()
    assert prefill.computed["at prefill"] == length
    assert decode.computed["at decode"] == 1
    assert list(prefill.requests["at prefill"].output_token_ids) == list(
        decode.requests["at decode"].output_token_ids[:1]
    )


def test_one_wrong_page_is_noticed(engine: MakeEngine) -> None:
    """The control: an engine on paper that found nothing wrong would prove nothing."""
    both = engine()
    both.add("spoilt", tokens(40), outputs=8)
    both.step()
    [rank] = both.ranks
    rank.caches["group0.layer1"][both.running["spoilt"].tables[0][1]] += 1
    with pytest.raises(AssertionError, match=r"spoilt: group0\.layer1"):
        both.run()


def test_a_prompt_of_one_token_is_computed(engine: MakeEngine) -> None:
    both = engine()
    for name in ("first", "second"):
        both.add(name, [7])
        both.run()
    assert both.computed == {"first": 1, "second": 1}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_requests_that_share_prefixes_are_right_whatever_runs_together(
    engine: MakeEngine, layout: dict[str, Any]
) -> None:
    generator = random.Random(str(layout))
    engines = [engine(tokens_a_step=64, blocks=120, **layout) for _ in range(2)]
    stems = [tokens(generator.randrange(1, 150), seed) for seed in range(4)]
    for round_ in range(3):
        for index, each in enumerate(engines):
            for number in range(6):
                stem = generator.choice(stems)
                prompt = stem[: generator.randrange(1, len(stem) + 1)] + tokens(generator.randrange(1, 60), number)
                each.add(f"{round_}.{index}.{number}", prompt, outputs=generator.randrange(1, 40))
            each.run()
    assert engines[1].stats["loaded_blocks"] > 0
    assert all("failed_blocks" not in each.stats for each in engines)


def test_a_chunked_prompt_is_saved_whole(engine: MakeEngine) -> None:
    prefill, decode = engine("kv_producer", tokens_a_step=40), engine("kv_consumer")
    prefill.add("chunked", tokens(250))
    prefill.run()
    decode.add("loaded", tokens(250))
    decode.run()
    assert decode.computed["loaded"] == 1


def test_what_came_from_the_prefix_cache_of_vllm_is_saved_as_well(engine: MakeEngine, own_worker: Worker) -> None:
    prefill = engine("kv_producer")
    prefill.add("first", tokens(100))
    prefill.run()
    own_worker.kill()
    own_worker.start()
    wait_for(lambda: saves_again(prefill))
    prefill.add("second", tokens(100))
    prefill.run()
    assert prefill.computed["second"] < 100
    decode = engine("kv_consumer")
    decode.add("loaded", tokens(100))
    decode.run()
    assert decode.computed["loaded"] == 1


def saves_again(each: PaperEngine) -> bool:
    """Whether the engine's saves reach the worker, tried with a prompt of their own."""
    each.stats.clear()
    name = f"try {len(each.requests)}"
    each.add(name, tokens(16, seed=len(each.requests) + 1000))
    each.run(name)
    return each.stats.get("saved_blocks", 0) > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_a_preempted_request_comes_back_without_recompute(
    engine: MakeEngine, layout: dict[str, Any], prefix_caching: bool
) -> None:
    # Groups have block tables of their own, out of one pool.
    blocks = 48 if "groups" in layout else 24
    both = engine(blocks=blocks, prefix_caching=prefix_caching, tokens_a_step=512, **layout)
    for number in range(4):
        both.add(str(number), tokens(60, number), outputs=100)
    both.run()
    preemptions = sum(request.num_preemptions for request in both.requests.values())
    assert preemptions > 0
    assert both.stats["loaded_blocks"] > 0
    # Where a step is scheduled before the one before it has ended, its last token is not known yet.
    assert sum(both.computed_again.values()) <= (preemptions if layout.get("runs_ahead") else 0)


def test_salts_keep_tenants_apart(engine: MakeEngine) -> None:
    both, other = engine(), engine()
    both.add("ours", tokens(80), cache_salt="ours")
    both.run()
    other.add("theirs", tokens(80), cache_salt="theirs")
    other.add("no salt", tokens(80))
    other.run()
    assert other.computed == {"theirs": 80, "no salt": 80}


def test_two_engines_of_other_model_versions_share_nothing(engine: MakeEngine) -> None:
    old, new = (engine(extra={"chariot.model_version": version}) for version in ("1", "2"))
    old.add("old", tokens(80))
    old.run()
    new.add("new", tokens(80))
    new.run()
    assert new.computed["new"] == 80


@pytest.mark.parametrize("other", [{"ranks": 2}, {"block_size": 32}, {"groups": (Group(layers=2),)}], ids=str)
def test_engines_of_another_shape_share_nothing(engine: MakeEngine, other: dict[str, Any]) -> None:
    for writer, reader in (({}, other), (other, {})):
        seed = len(writer)
        saving, looking = engine(**writer), engine(**reader)
        saving.add("saved", tokens(80, seed), outputs=30)
        saving.run()
        looking.add("looked for", tokens(80, seed), outputs=30)
        looking.run()
        assert looking.computed["looked for"] == 80
        assert "loaded_blocks" not in looking.stats


def test_after_a_reset_nothing_older_is_loaded(engine: MakeEngine) -> None:
    one, other = engine(), engine()
    one.add("stale", tokens(80))
    one.run()
    for each in (one, other):
        assert each.connector.reset_cache() is True
    other.add("fresh", tokens(80))
    other.run()
    assert other.computed["fresh"] == 80
    one.add("shared", tokens(80, seed=5))
    one.run()
    other.add("loaded", tokens(80, seed=5))
    other.run()
    assert other.computed["loaded"] == 1


def test_an_aborted_load_leaves_nothing_behind(engine: MakeEngine) -> None:
    from vllm.v1.request import RequestStatus

    prefill, decode = engine("kv_producer"), engine("kv_consumer")
    prefill.add("saved", tokens(300))
    prefill.run()
    decode.add("aborted", tokens(300))
    output = decode.scheduler.schedule()
    assert decode.requests["aborted"].status == RequestStatus.WAITING_FOR_REMOTE_KVS
    decode.scheduler.finish_requests("aborted", RequestStatus.FINISHED_ABORTED)
    [rank] = decode.ranks
    decode.scheduler.update_from_output(output, decode._run_rank(rank, output.kv_connector_metadata, output))
    wait_for(lambda: decode.step() or not decode.scheduler.requests)
    blocks = decode.scheduler.kv_cache_manager.block_pool
    assert blocks.get_num_free_blocks() == decode.options.blocks - 1


@pytest.mark.parametrize("layout", [{}, pytest.param({"groups": HYBRID}, marks=NEEDS_FAILED_REQUESTS), {"ranks": 2}])
def test_a_block_that_went_before_it_was_loaded_is_computed(
    engine: MakeEngine, layout: dict[str, Any], own_worker: Worker
) -> None:
    prefill, decode = engine("kv_producer", **layout), engine("kv_consumer", **layout)
    bereave(prefill, decode, own_worker, lambda keys: keys)
    assert decode.computed["bereft"] == 300
    assert decode.stats["failed_blocks"] > 0


def test_a_block_that_went_spoils_the_prompt_where_vllm_would_pass_over_what_is_before_it(
    engine: MakeEngine, own_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bereave(engine("kv_producer"), usual := engine("kv_consumer"), own_worker, lambda keys: keys[-2:])
    assert 1 < usual.computed["bereft"] < 300
    monkeypatch.setattr(compat, "computes_behind_a_prefix", lambda _config: False)
    bereave(engine("kv_producer"), latent := engine("kv_consumer"), own_worker, lambda keys: keys[-2:])
    assert latent.computed["bereft"] == 300


def bereave(
    prefill: PaperEngine, decode: PaperEngine, worker: Worker, gone: Callable[[list[chariot_ds.Key]], Any]
) -> None:
    """Has decode load what prefill has saved, of which some blocks go after the lookup and before the load."""
    prefill.add("saved", tokens(300))
    prefill.run()
    decode.add("bereft", tokens(300), outputs=5)
    planned = decode.scheduler.schedule()
    with chariot_ds.Client(worker.address) as client:
        assert client.delete_many(gone(loaded_keys(decode, planned))) > 0
    decode._update_tables(planned)
    results = [decode._run_rank(rank, planned.kv_connector_metadata, planned) for rank in decode.ranks]
    decode.scheduler.update_from_output(planned, decode.aggregator.aggregate(results))
    decode.run()


def loaded_keys(each: PaperEngine, planned: Any) -> list[chariot_ds.Key]:
    """The keys of all shards that a step is about to load."""
    shards = [rank.connector.get_handshake_metadata().groups for rank in each.ranks]
    blocks = [block for load in planned.kv_connector_metadata.loads for block in load.blocks]
    return [
        chariot_ds.Key(shard_key(shard, block.key))
        for groups in shards
        for block in blocks
        for shard in groups[block.group]
    ]


def test_vllm_runs_on_without_the_worker_and_with_it_again(engine: MakeEngine, own_worker: Worker) -> None:
    both = engine()
    own_worker.kill()
    for number in range(3):
        both.add(f"without {number}", tokens(100, number), outputs=20)
    both.run()
    assert "loaded_blocks" not in both.stats
    own_worker.start()
    wait_for(lambda: saves_again(both))
    both.add("with", tokens(100, seed=77))
    both.run()
    other = engine()
    other.add("loaded", tokens(100, seed=77))
    other.run()
    assert other.computed["loaded"] == 1


def test_a_worker_that_was_never_there_changes_nothing(engine: MakeEngine) -> None:
    both = engine(address="127.0.0.1:9")
    both.add("alone", tokens(100), outputs=20)
    both.run()
    assert both.computed["alone"] == 100


def test_a_pool_without_room_keeps_the_beginning_of_a_prompt(model: Any, tmp_path: Any) -> None:
    """Covered by the pool's eviction where it can evict; here everything is one prompt that does not fit."""
    from paper_engine import Options

    worker = Worker(tmp_path / "worker", shared_memory_mb=64)
    worker.start()
    big = Options(address=worker.address, model=model, groups=(Group(layers=64),), blocks=2000, tokens_a_step=4096)
    prefill = PaperEngine(big)
    try:
        prefill.add("too long", tokens(16 * 120))
        prefill.run()
        assert prefill.stats["saved_blocks"] + prefill.stats.get("dropped_blocks", 0) == 120
    finally:
        prefill.close()
        worker.stop()


def test_ranks_that_hold_the_same_heads_save_them_once(engine: MakeEngine) -> None:
    four = engine(ranks=8)
    four.add("replicated", tokens(64))
    four.run()
    # The model has four KV heads: eight ranks hold each of them twice.
    assert four.stats["saved_blocks"] == 4 * 4
