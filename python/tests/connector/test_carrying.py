"""The native saver and loader between two paged caches, and what they do about all that can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
import torch
from worker import Worker, wait_for

import chariot_ds
from chariot_ds._native import Connection, KeyChain, Loader, LoadReport, PagedCache, Saver, shard_key
from chariot_ds.vllm import pages

LAYERS, BLOCKS, PAGE = 3, 40, 1000
SHARD = b"a shard"
REQUEST_TIMEOUT = 0.5
MEGABYTE = 1 << 20


@dataclass
class Cache:
    """A paged cache, the layers side by side."""

    layers: list[torch.Tensor]
    native: PagedCache


def make_cache(fill: int | None = None, page: int = PAGE) -> Cache:
    generator = torch.Generator().manual_seed(1)
    layers = [
        torch.randint(0, 255, (BLOCKS, page), dtype=torch.uint8, generator=generator)
        if fill is None
        else torch.full((BLOCKS, page), fill, dtype=torch.uint8)
        for _ in range(LAYERS)
    ]
    layout = [pages.layout(pages.layer_parts(layer, BLOCKS)) for layer in layers]
    return Cache(layers, PagedCache([(BLOCKS, layout)], layers))


class Pair:
    """One who saves and one who loads, each with a connection of its own."""

    def __init__(self, worker: Worker) -> None:
        self.address = worker.address
        self.save_connection = Connection(worker.address, "saver", REQUEST_TIMEOUT, "model")
        self.load_connection = Connection(worker.address, "loader", REQUEST_TIMEOUT, "model")
        self.saver = Saver(self.save_connection, [SHARD])
        self.loader = Loader(self.load_connection, [SHARD], 2)

    def close(self) -> None:
        self.saver.close()
        self.loader.close()

    def load(self, cache: Cache, blocks: list[tuple[int, int, bytes]], timeout: float = 5.0) -> LoadReport:
        self.loader.start(cache.native, "a request", blocks, timeout)
        return self.report()

    def report(self) -> LoadReport:
        deadline = monotonic() + 20
        while not (reports := self.loader.reports()):
            assert monotonic() < deadline, "a load never ended"
            self.loader.wait(1.0)
        [report] = reports
        return report


@pytest.fixture
def pair(own_worker: Worker) -> Iterator[Pair]:
    pair = Pair(own_worker)
    yield pair
    pair.close()


@pytest.fixture
def large_pair(tmp_path: Path) -> Iterator[Pair]:
    """With room for more than the worker is asked for at once."""
    worker = Worker(tmp_path, shared_memory_mb=4 * LAYERS * BLOCKS)
    worker.start()
    pair = Pair(worker)
    yield pair
    pair.close()
    worker.stop()


def keys(count: int, seed: int = 0) -> list[bytes]:
    return KeyChain(b"a model", 4).extend([seed] * (4 * count), {})


def to_save(ids: list[int], names: list[bytes]) -> list[tuple[int, int, bytes, bytes | None]]:
    parents = [None, *names]
    return [(0, block, key, parents[index]) for index, (block, key) in enumerate(zip(ids, names, strict=True))]


def to_load(ids: list[int], names: list[bytes]) -> list[tuple[int, int, bytes]]:
    return [(0, block, key) for block, key in zip(ids, names, strict=True)]


def same(source: Cache, ids: list[int], target: Cache, at: list[int], layers: int = LAYERS) -> bool:
    return all(torch.equal(source.layers[layer][ids], target.layers[layer][at]) for layer in range(layers))


@pytest.mark.parametrize("ready", [[], [0], [0, 1, 2], [2, 0], [1, 1, 1]])
def test_pages_arrive_whichever_layers_were_declared_ready(pair: Pair, ready: list[int]) -> None:
    source, target, names = make_cache(), make_cache(0), keys(5)
    pair.saver.begin(source.native, to_save([3, 1, 4, 11, 5], names), [])
    for layer in ready:
        pair.saver.layer_ready(0, layer)
    report = pair.saver.finish()
    assert report is not None
    assert (report.saved, report.present, report.dropped, report.error) == (5, 0, 0, None)
    loaded = pair.load(target, to_load([9, 2, 6, 30, 31], names))
    assert (loaded.loaded, loaded.failed, loaded.bytes) == (5, [], 5 * LAYERS * PAGE)
    assert same(source, [3, 1, 4, 11, 5], target, [9, 2, 6, 30, 31])
    untouched = [block for block in range(BLOCKS) if block not in (9, 2, 6, 30, 31)]
    assert all(not layer[untouched].any() for layer in target.layers)


def test_blocks_that_are_there_are_not_saved_again(pair: Pair) -> None:
    source, names = make_cache(), keys(4)
    for saved, present, count in ((2, 0, 2), (2, 2, 4)):
        pair.saver.begin(source.native, to_save(list(range(count)), names[:count]), [])
        report = pair.saver.finish()
        assert report is not None
        assert (report.saved, report.present) == (saved, present)


def test_a_layer_is_loaded_while_the_next_is_computed(pair: Pair) -> None:
    source, target, names = make_cache(), make_cache(0), keys(6)
    ids = list(range(6))
    pair.saver.begin(source.native, to_save(ids, names), [])
    pair.saver.layer_ready(0, 0)
    wait_for(lambda: present(pair, names) == 6)
    pair.loader.start(target.native, "follower", to_load(ids, names), 10.0)
    wait_for(lambda: same(source, ids, target, ids, layers=1))
    assert not target.layers[1].any()
    pair.saver.layer_ready(0, 1)
    wait_for(lambda: same(source, ids, target, ids, layers=2))
    assert pair.loader.reports() == []
    pair.saver.finish()
    assert pair.report().failed == []
    assert same(source, ids, target, ids)


def test_more_loads_than_threads_are_followed_layer_by_layer(pair: Pair) -> None:
    source, names = make_cache(), keys(6)
    ids, targets = list(range(6)), [make_cache(0) for _ in range(12)]
    pair.saver.begin(source.native, to_save(ids, names), [])
    wait_for(lambda: present(pair, names) == 6)
    for number, target in enumerate(targets):
        pair.loader.start(target.native, str(number), to_load(ids, names), 20.0)
    for layer in range(LAYERS - 1):
        pair.saver.layer_ready(0, layer)
        wait_for(lambda layer=layer: all(same(source, ids, target, ids, layers=layer + 1) for target in targets))
    # One that has nothing to wait for is not held up by those that have.
    pair.loader.start(make_cache(0).native, "lost", to_load([0], keys(1, seed=5)), 20.0)
    assert pair.report().failed == [(0, 0)]
    pair.saver.finish()
    wait_for(lambda: pair.loader.active() == 0)
    assert all(report.failed == [] for report in pair.loader.reports())
    assert all(same(source, ids, target, ids) for target in targets)


def test_a_step_that_is_given_up_fails_those_who_follow_it(pair: Pair) -> None:
    source, target, names = make_cache(), make_cache(0), keys(3)
    pair.saver.begin(source.native, to_save([0, 1, 2], names), [])
    pair.saver.layer_ready(0, 0)
    wait_for(lambda: present(pair, names) == 3)
    pair.loader.start(target.native, "follower", to_load([0, 1, 2], names), 30.0)
    pair.saver.begin(source.native, to_save([5], keys(1, seed=9)), [])
    assert pair.report().failed == [(0, 0), (0, 1), (0, 2)]


def present(pair: Pair, names: list[bytes]) -> int:
    with chariot_ds.Client(pair.address) as client:
        return client.longest_prefix([chariot_ds.Key(shard_key(SHARD, name)) for name in names]).present


def test_a_block_that_is_not_there_fails_with_all_after_it(pair: Pair) -> None:
    source, target, names = make_cache(), make_cache(0), keys(5)
    kept = [0, 1, 3, 4]
    pair.saver.begin(source.native, [to_save(list(range(5)), names)[index] for index in kept], [])
    pair.saver.finish()
    report = pair.load(target, to_load([10, 11, 12, 13, 14], names))
    assert report.failed == [(0, 12), (0, 13), (0, 14)]
    assert report.loaded == 2
    assert same(source, [0, 1], target, [10, 11])


def test_a_load_of_more_than_is_asked_for_at_once_is_as_any_other(large_pair: Pair) -> None:
    source, target, names = make_cache(page=MEGABYTE), make_cache(0, page=MEGABYTE), keys(BLOCKS)
    ids = list(range(BLOCKS))
    large_pair.saver.begin(source.native, to_save(ids, names), [])
    large_pair.saver.layer_ready(0, 0)
    wait_for(lambda: present(large_pair, names) == BLOCKS)
    large_pair.loader.start(target.native, "follower", to_load(ids, names), 20.0)
    wait_for(lambda: same(source, ids, target, ids, layers=1))
    large_pair.saver.finish()
    report = large_pair.report()
    assert (report.loaded, report.failed, report.bytes) == (BLOCKS, [], BLOCKS * LAYERS * MEGABYTE)
    assert same(source, ids, target, ids)
    # The second time it is asked, the worker does not have all.
    gone = names[: BLOCKS - 10] + keys(10, seed=7)
    report = large_pair.load(make_cache(0, page=MEGABYTE), to_load(ids, gone))
    assert report.failed == [(0, block) for block in ids[-10:]]


def test_a_load_may_be_of_more_than_there_is_room_for(tmp_path: Path) -> None:
    """Half of it is on the disk, whichever half that is."""
    page = 3 * MEGABYTE
    all_bytes = LAYERS * BLOCKS * page // MEGABYTE
    worker = Worker(tmp_path, shared_memory_mb=all_bytes // 2, spill_mb=2 * all_bytes)
    worker.start()
    pair = Pair(worker)
    try:
        source, target, names, ids = make_cache(page=page), make_cache(0, page), keys(BLOCKS), list(range(BLOCKS))
        # The second time the beginning is on the disk, and the end in memory.
        for _ in range(2):
            for block in to_save(ids, names):
                pair.saver.begin(source.native, [block], [])
                pair.saver.finish()
                wait_for(lambda: has_room(worker))
            report = pair.load(target, to_load(ids, names), timeout=60.0)
            # Memory that is in pieces may lose a block for good, rarely; nothing else is a reason to end a load.
            assert report.loaded == BLOCKS or not exists(worker, names[report.loaded]), report.error
            assert report.loaded > BLOCKS // 8
            assert same(source, ids[: report.loaded], target, ids[: report.loaded])
            target = make_cache(0, page)
    finally:
        pair.close()
        worker.stop()


def has_room(worker: Worker) -> bool:
    """Whether there is room for the next block, and nothing on its way to the disk."""
    with chariot_ds.Client(worker.address) as client:
        status = client.status()
    assert status["spill"] is not None
    return status["free_bytes"] > status["capacity_bytes"] // 18 and status["spill"]["coming"] == 0


def exists(worker: Worker, name: bytes) -> bool:
    with chariot_ds.Client(worker.address) as client:
        return client.exists(chariot_ds.Key(shard_key(SHARD, name)))


def test_a_load_ends_by_its_deadline(pair: Pair) -> None:
    source, target, names = make_cache(), make_cache(0), keys(2)
    pair.saver.begin(source.native, to_save([0, 1], names), [])
    wait_for(lambda: present(pair, names) == 2)
    began = monotonic()
    report = pair.load(target, to_load([0, 1], names), timeout=0.3)
    assert 0.3 <= monotonic() - began < 1.3
    assert report.failed == [(0, 0), (0, 1)]
    assert report.error is not None
    assert "deadline" in report.error


def test_a_worker_that_answers_nothing_is_given_up(pair: Pair, own_worker: Worker) -> None:
    source, target, names = make_cache(), make_cache(0), keys(2)
    own_worker.freeze()
    try:
        began = monotonic()
        pair.saver.begin(source.native, to_save([0, 1], names), [])
        saved = pair.saver.finish()
        report = pair.load(target, to_load([0, 1], names))
        assert monotonic() - began < 2 * REQUEST_TIMEOUT + 1
    finally:
        own_worker.thaw()
    assert saved is not None
    assert saved.dropped == 2
    assert len(report.failed) == 2


def test_a_worker_that_dies_fails_what_was_not_finished(pair: Pair, own_worker: Worker) -> None:
    source, target, names = make_cache(), make_cache(0), keys(2)
    pair.saver.begin(source.native, to_save([0, 1], names), [])
    wait_for(lambda: present(pair, names) == 2)
    pair.loader.start(target.native, "follower", to_load([0, 1], names), 30.0)
    began = monotonic()
    own_worker.kill()
    report = pair.report()
    saved = pair.saver.finish()
    assert monotonic() - began < 2
    assert len(report.failed) == 2
    assert saved is not None
    assert saved.saved == 0


def test_a_pool_without_room_keeps_the_beginning(pair: Pair, own_worker: Worker) -> None:
    # Two thirds of the pool are pinned by a reader, so that they cannot be evicted.
    source, names = make_cache(page=MEGABYTE), keys(BLOCKS, seed=3)
    with chariot_ds.Client(own_worker.address) as client:
        size = own_worker.shared_memory_mb // 4 * 3
        for number in range(size):
            client.put(f"filler {number}", b"x" * MEGABYTE)
        pins = [client.get(f"filler {number}") for number in range(size)]
        assert all(pin is not None for pin in pins)
        pair.saver.begin(source.native, to_save(list(range(BLOCKS)), names), [])
        report = pair.saver.finish()
    assert report is not None
    assert 0 < report.saved < BLOCKS
    assert report.saved + report.dropped == BLOCKS
    assert report.error is not None
    assert present(pair, names) == report.saved


def test_many_loads_at_once_all_end(pair: Pair) -> None:
    source, names = make_cache(), keys(BLOCKS)
    pair.saver.begin(source.native, to_save(list(range(BLOCKS)), names), [])
    pair.saver.finish()
    targets = {str(number): make_cache(0) for number in range(30)}
    for name, target in targets.items():
        pair.loader.start(target.native, name, to_load(list(range(BLOCKS)), names), 10.0)
    ended: list[LoadReport] = []

    def all_ended() -> bool:
        ended.extend(pair.loader.reports())
        return len(ended) == len(targets)

    wait_for(all_ended)
    assert pair.loader.active() == 0
    assert all(report.failed == [] for report in ended)
    assert all(same(source, list(range(BLOCKS)), target, list(range(BLOCKS))) for target in targets.values())


def test_blocks_that_a_cache_does_not_have_are_refused(pair: Pair) -> None:
    cache = make_cache(0)
    with pytest.raises(ValueError, match=f"no block `{BLOCKS}`"):
        pair.saver.begin(cache.native, to_save([BLOCKS], keys(1)), [])
    with pytest.raises(ValueError, match=f"no block `{BLOCKS}`"):
        pair.loader.start(cache.native, "wrong", to_load([BLOCKS], keys(1)), 1.0)
    with pytest.raises(ValueError, match="impossible"):
        PagedCache([(2, [[(4096, 1, 8)]])], None)
