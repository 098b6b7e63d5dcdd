"""The worker side of one rank: copies pages out while the model runs, and in while it does other things.

The copies are made by native threads. What runs on the engine's thread is a hand-over at the beginning of a step, one
call a layer, and a wait at the end for the little that is left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vllm.logger import init_logger

from chariot_ds._native import Connection, Loader, LoadReport, Saver
from chariot_ds.vllm import compat, keys, pages
from chariot_ds.vllm.blocks import LoadBlock, SaveBlock
from chariot_ds.vllm.compat import TransferResults
from chariot_ds.vllm.device import HostPath, LoadBatch, SaveBatch, TorchPath
from chariot_ds.vllm.division import Division
from chariot_ds.vllm.settings import Settings
from chariot_ds.vllm.stats import ChariotStats
from chariot_ds.vllm.vocabulary import Load, ShardDescriptions, StepMetadata, WorkerReport

logger = init_logger(f"vllm.{__name__}")

AnyBlock = TypeVar("AnyBlock", LoadBlock, SaveBlock)

IDLE_WAIT = 0.002
"""Seconds that an empty step waits for a load to end, or for another instance: the engine would do nothing but ask."""


@dataclass
class ActiveLoad:
    """A load that vLLM waits for."""

    blocks: list[LoadBlock]
    batch: LoadBatch
    started_at: float
    """Seconds since 1970."""
    report: LoadReport | None = None
    """Set when the native copier is done; torch may not be."""
    failed: list[tuple[int, int]] = field(default_factory=list)
    """The blocks that could not be loaded: group and block id."""


class Worker:
    """The worker side of one rank."""

    def __init__(self, vllm_config: Any, settings: Settings, kv_cache_config: Any) -> None:
        self._vllm_config = vllm_config
        self._settings = settings
        self._groups = kv_cache_config.kv_cache_groups
        self._blocks = kv_cache_config.num_blocks
        self._division = Division.of(vllm_config, settings)
        self._loads_parts = compat.computes_behind_a_prefix(vllm_config)
        self._layers = {
            name: (group, layer)
            for group, spec in enumerate(self._groups)
            for layer, name in enumerate(spec.layer_names)
        }
        timeout, rank = settings.request_timeout_ms / 1000, vllm_config.parallel_config.rank
        self._connection = Connection(
            settings.worker_address, f"vllm rank {rank}", timeout, settings.namespace_of(vllm_config)
        )
        self.shards: ShardDescriptions | None = None
        self._path: HostPath | TorchPath | None = None
        self._saver: Saver | None = None
        self._loader: Loader | None = None
        self._is_layerwise = False
        self._save: SaveBatch | None = None
        self._step_is_empty = False
        self._rests = False
        self._loads: dict[str, ActiveLoad] = {}
        self._failed_loads: set[str] = set()
        self._failed_blocks: set[int] = set()
        self._results = TransferResults()
        self._stats = ChariotStats()
        self._computed_at = 0.0
        self._troubles: set[str] = set()
        """What was complained about and has not gone well since."""

    def register(self, kv_caches: Mapping[str, Any]) -> None:
        """Takes the KV cache that all copies are from and to."""
        # By group, shard and layer.
        caches = [list(zip(*self._cut(group, kv_caches), strict=True)) for group in self._groups]
        shards = [[pages.layer_parts(cache, self._blocks) for cache in layers] for group in caches for layers in group]
        device = shards[0][0][0].tensor.device
        is_host = device.type == "cpu"
        if not is_host and self._settings.device_path == "host":
            raise ValueError(f"`chariot.device_path` is `host`, but the KV cache is on `{device}`")
        use_torch = not is_host or self._settings.device_path == "torch"
        self._path = TorchPath(shards) if use_torch else HostPath(shards)
        self._is_layerwise = is_host if self._settings.layerwise == "auto" else self._settings.layerwise == "on"
        self.shards = ShardDescriptions(
            [
                [
                    self._describe(index, self._division.first + number, layers, pages.hardware(device))
                    for number, layers in enumerate(group)
                ]
                for index, group in enumerate(caches)
            ]
        )
        described = [shard for group in self.shards.groups for shard in group]
        if self._vllm_config.kv_transfer_config.is_kv_producer and self._division.is_saved_here:
            self._saver = Saver(self._connection, described)
        if self._vllm_config.kv_transfer_config.is_kv_consumer:
            self._loader = Loader(self._connection, described, self._settings.load_threads)

    def _cut(self, group: Any, kv_caches: Mapping[str, Any]) -> list[list[pages.Cache]]:
        """The caches of a group's layers, each cut into the rank's shards."""
        for name in group.layer_names:
            parts = pages.layer_parts(kv_caches[name], self._blocks)
            found, expected = sum(part.page_bytes for part in parts), compat.page_bytes(group, name)
            if expected not in (None, found):
                raise ValueError(f"the pages of `{name}` have {found} bytes, and should have {expected}")
        return [
            pages.by_heads(kv_caches[name], compat.heads_of_page(group, name), self._division.count)
            for name in group.layer_names
        ]

    def _describe(self, group: int, shard: int, caches: Sequence[pages.Cache], hardware: list[Any]) -> bytes:
        """All that the bytes of a shard depend on besides their block's tokens: `caches` are the layers' in it."""
        spec = self._groups[group]
        return keys.describe(
            group=group,
            shard=[shard, self._division.total],
            block_size=spec.kv_cache_spec.block_size,
            layers=[
                [
                    name,
                    sum(part.page_bytes for part in pages.layer_parts(cache, self._blocks)),
                    pages.content(cache, self._blocks),
                    compat.attention_backend(self._vllm_config, name),
                ]
                for name, cache in zip(spec.layer_names, caches, strict=True)
            ],
            hardware=hardware,
        )

    def begin_step(self, metadata: StepMetadata) -> None:
        """Starts what the step's metadata asks for, before the model runs."""
        self._step_is_empty, self._rests = metadata.is_empty, metadata.rests
        # Loads, and the model, may write to these very blocks.
        self._save_tails(metadata.tails)
        for load in metadata.loads:
            self._start_load(load)
        if self._saver is None or self._path is None:
            return
        forwards = [(reader, self._keys_in_shards(blocks)) for reader, blocks in metadata.forwards.items()]
        if metadata.saves:
            self._save = self._path.save(self._in_shards(metadata.saves))
            self._saver.begin(self._save.cache, self._save.blocks, forwards)
        elif forwards:
            self._saver.forward(forwards)
        if metadata.pins:
            self._saver.soft_pin([(seconds, self._keys_in_shards(blocks)) for seconds, blocks in metadata.pins])
        self._stats.add("forwarded_blocks", sum(len(blocks) for _, blocks in forwards))

    def layer_computed(self, layer_name: str) -> None:
        """The model has written a layer's pages. Called for each layer of each step, so most often there is nothing."""
        if self._save is None or not self._is_layerwise or self._saver is None:
            return
        if (place := self._layers.get(layer_name)) is not None:
            self._computed_at = time.time()
            group, layer = place
            for number in self._division.numbers(group):
                self._save.layer_computed(number, layer, self._saver.layer_ready)

    def finish_save(self) -> None:
        """Returns when all of the step's blocks can be found by others."""
        if self._save is None or self._saver is None:
            return
        if not self._is_layerwise:
            self._computed_at = time.time()
        self._stats.note("last_computed", self._computed_at)
        self._end_save(self._saver)

    def _save_tails(self, tails: list[SaveBlock]) -> None:
        """Saves blocks whose pages are about to be others'."""
        if tails and self._saver is not None and self._path is not None:
            self._save = self._path.save(self._in_shards(tails))
            self._saver.begin(self._save.cache, self._save.blocks, [])
            self._end_save(self._saver)

    def _end_save(self, saver: Saver) -> None:
        """Copies what is left, and returns when all blocks can be found by others."""
        if self._save is None:
            return
        save, self._save = self._save, None
        save.all_computed(saver.layer_ready)
        report = saver.finish()
        if report is None:
            return
        self._stats.add("saved_blocks", report.saved)
        self._stats.add("saved_bytes", report.bytes)
        self._stats.add("present_blocks", report.present)
        self._stats.add("dropped_blocks", report.dropped)
        self._stats.add("save_wait_seconds", report.waited)
        if report.error is None:
            self._troubles.discard("save")
        else:
            self._complain("save", "%d blocks were not saved: %s", report.dropped, report.error)

    def transfer_results(self) -> TransferResults:
        """The loads that have ended since the last step."""
        if self._step_is_empty and self._loads and self._loader is not None:
            self._loader.wait(IDLE_WAIT)
        elif self._step_is_empty and self._rests:
            time.sleep(IDLE_WAIT)
        for report in self._loader.reports() if self._loader is not None else ():
            load = self._loads[report.name]
            load.report = report
            try:
                failed = load.batch.arrived(report.failed)
                load.failed = list({(self._division.group(number), block): None for number, block in failed})
            except Exception as error:
                self._complain("arrive", "a load could not reach its pages: %s", error)
                load.failed = [(block.group, block.block) for block in load.blocks]
            if load.failed and not self._loads_parts:
                load.failed = [(block.group, block.block) for block in load.blocks]
        for request_id, load in list(self._loads.items()):
            if load.report is not None and load.batch.is_done():
                del self._loads[request_id]
                self._results.finished_recving.add(request_id)
                self._stats.note("last_loaded", load.started_at + load.report.seconds)
                self._count(request_id, load.report, load.failed)
        results, self._results = self._results, TransferResults()
        return results

    def take_failed_blocks(self) -> set[int]:
        """The blocks of a single group that could not be loaded."""
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def take_report(self) -> WorkerReport | None:
        """What the scheduler side must know of the step."""
        if not self._failed_loads:
            return None
        failed, self._failed_loads = self._failed_loads, set()
        return WorkerReport(failed)

    def take_stats(self) -> ChariotStats | None:
        """What was counted since the last call."""
        if self._stats.is_empty():
            return None
        stats, self._stats = self._stats, ChariotStats()
        return stats

    def close(self) -> None:
        """Ends the threads."""
        for closable in (self._saver, self._loader):
            if closable is not None:
                closable.close()

    def _start_load(self, load: Load) -> None:
        """Starts a load. One that cannot even start has failed, and is reported like any other."""
        try:
            if self._path is None or self._loader is None:
                raise RuntimeError("this rank loads nothing")
            batch = self._path.load(self._in_shards(load.blocks))
            started_at = time.time()
            self._loader.start(batch.cache, load.request_id, batch.blocks, load.seconds)
        except Exception as error:
            self._complain("start", "a load could not start: %s", error)
            self._fail(load.request_id, [(block.group, block.block) for block in load.blocks])
            self._results.finished_recving.add(load.request_id)
        else:
            self._loads[load.request_id] = ActiveLoad(load.blocks, batch, started_at)

    def _in_shards(self, blocks: Sequence[AnyBlock]) -> list[AnyBlock]:
        """The rank's shards of blocks."""
        return [block._replace(group=number) for block in blocks for number in self._division.numbers(block.group)]

    def _keys_in_shards(self, blocks: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """The same, of blocks without pages."""
        return [(number, key) for group, key in blocks for number in self._division.numbers(group)]

    def _count(self, request_id: str, report: LoadReport, failed: list[tuple[int, int]]) -> None:
        self._stats.add("loads", 1)
        self._stats.add("loaded_blocks", report.loaded)
        self._stats.add("loaded_bytes", report.bytes)
        self._stats.add("load_seconds", report.seconds)
        self._stats.add("failed_blocks", len(failed))
        if not failed:
            self._troubles.discard("load")
            return
        self._complain("load", "%d blocks could not be loaded and are recomputed: %s", len(failed), report.error)
        self._fail(request_id, failed)

    def _fail(self, request_id: str, blocks: list[tuple[int, int]]) -> None:
        """Block ids are unique within a group only; with several groups the request fails as a whole."""
        self._failed_loads.add(request_id)
        if len(self._groups) == 1:
            self._failed_blocks.update(block for _, block in blocks)
        else:
            self._results.failed_recving.add(request_id)

    def _complain(self, trouble: str, text: str, *arguments: Any) -> None:
        """Logs a trouble when it begins, not each time that it is met."""
        if trouble not in self._troubles:
            self._troubles.add(trouble)
            logger.warning("ChariotConnector: " + text, *arguments)
