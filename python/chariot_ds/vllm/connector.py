"""`ChariotConnector`: the class that vLLM sees. It hands every call to the scheduler side or the worker side.

Nothing that goes wrong in here may stop vLLM or change its output. A configuration that cannot work is refused when
vLLM starts; from then on trouble is logged and means that KV is computed instead of loaded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorWorkerMetadata,
    SupportsHMA,
)
from vllm.logger import init_logger

from chariot_ds.vllm import compat
from chariot_ds.vllm.compat import TransferResults, UnsupportedGroupError
from chariot_ds.vllm.scheduler import Scheduler
from chariot_ds.vllm.settings import Settings
from chariot_ds.vllm.stats import ChariotPromMetrics, ChariotStats
from chariot_ds.vllm.vocabulary import StepMetadata, WorkerReport
from chariot_ds.vllm.worker import Worker

if TYPE_CHECKING:
    import torch

logger = init_logger(f"vllm.{__name__}")

_Method = TypeVar("_Method", bound=Callable[..., Any])


def guarded(otherwise: Callable[[], Any]) -> Callable[[_Method], _Method]:
    """A method whose exceptions are logged and answered with `otherwise()`: vLLM goes on without Chariot."""

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        def guard(self: ChariotConnector, *arguments: Any, **keywords: Any) -> Any:
            try:
                return method(self, *arguments, **keywords)
            except Exception:
                if method.__name__ not in self._complaints:
                    self._complaints.add(method.__name__)
                    logger.exception("ChariotConnector goes on without what failed in %s", method.__name__)
                return otherwise()

        return cast(_Method, guard)

    return decorate


def nothing() -> None:
    """What most methods return."""


class ChariotConnector(KVConnectorBase_V1, SupportsHMA):
    """Carries KV cache between vLLM instances through a data worker on this host."""

    _cache_hit_source = compat.host_cache_hit_source()

    def __init__(self, vllm_config: Any, role: KVConnectorRole, kv_cache_config: Any) -> None:
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        self._complaints: set[str] = set()
        self._scheduler: Scheduler | None = None
        self._worker: Worker | None = None
        transfer = vllm_config.kv_transfer_config
        settings = Settings.read(transfer.kv_connector_extra_config)
        self._choose_failure_policy(settings)
        try:
            if compat.splits_tokens_between_ranks(vllm_config):
                raise UnsupportedGroupError("context parallelism is not supported")
            groups = [compat.group_traits(group) for group in kv_cache_config.kv_cache_groups]
        except UnsupportedGroupError as error:
            if role == KVConnectorRole.SCHEDULER:
                logger.error("ChariotConnector saves and loads nothing: %s", error)
            return
        if role == KVConnectorRole.SCHEDULER:
            logger.info("ChariotConnector: %s with the data worker at %s", transfer.kv_role, settings.worker_address)
            self._scheduler = Scheduler(vllm_config, settings, groups)
        else:
            self._worker = Worker(vllm_config, settings, kv_cache_config)

    def _choose_failure_policy(self, settings: Settings) -> None:
        """Recomputes what could not be loaded, unless the user chose otherwise: a cache miss is no failed request."""
        transfer = self._kv_transfer_config
        policy = settings.load_failure_policy or "recompute"
        if transfer.kv_load_failure_policy != policy:
            transfer.kv_load_failure_policy = policy
            if self._role == KVConnectorRole.SCHEDULER:
                logger.info("ChariotConnector: kv_load_failure_policy is `%s` for it", policy)

    # Scheduler side

    @property
    def requires_kv_delivery(self) -> bool:
        """False: a step's KV is saved when the step ends, so nothing is pending when a request is preempted."""
        return False

    def set_xfer_handshake_metadata(self, metadata: dict[Any, KVConnectorHandshakeMetadata]) -> None:
        """Takes the shards of all ranks, by rank."""
        self._set_shards(metadata)

    def set_xfer_handshake_metadata_pp_aware(self, metadata: dict[Any, KVConnectorHandshakeMetadata]) -> None:
        """Takes the shards of all ranks, by pipeline stage and rank."""
        self._set_shards(metadata)

    @guarded(nothing)
    def _set_shards(self, metadata: dict[Any, KVConnectorHandshakeMetadata]) -> None:
        if self._scheduler is not None:
            self._scheduler.set_shards(metadata)

    @guarded(lambda: (0, False))
    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int | None, bool]:
        """How many more tokens can be loaded."""
        if self._scheduler is None:
            return 0, False
        return self._scheduler.num_new_matched_tokens(request, num_computed_tokens)

    def get_loaded_kv_cache_group_ids(self, request: Any) -> tuple[int, ...]:
        """All groups: a load carries every one of them."""
        return tuple(range(len(self._kv_cache_config.kv_cache_groups)))

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Plans the load into the allocated blocks.

        Not guarded: vLLM waits for this load, so it must not be lost.
        """
        if self._scheduler is not None:
            self._scheduler.update_after_alloc(request, blocks.get_block_ids(), num_external_tokens)

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        """What the workers do in this step."""
        if self._scheduler is None:
            return StepMetadata()
        metadata = self._scheduler.begin_metadata(scheduler_output)
        self._add_saves(metadata, scheduler_output)
        return metadata

    @guarded(nothing)
    def _add_saves(self, metadata: StepMetadata, scheduler_output: Any) -> None:
        if self._scheduler is not None:
            self._scheduler.add_saves(metadata, scheduler_output)

    @guarded(nothing)
    def update_connector_output(self, connector_output: Any) -> None:
        """Takes the workers' reports."""
        if self._scheduler is not None:
            self._scheduler.take_reports(getattr(connector_output, "kv_connector_worker_meta", None))

    @guarded(lambda: (False, None))
    def request_finished(self, request: Any, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        """Its blocks can be freed at once."""
        return False, None if self._scheduler is None else self._scheduler.request_finished(request)

    @guarded(lambda: (False, None))
    def request_finished_all_groups(
        self, request: Any, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        """Its blocks can be freed at once."""
        return False, None if self._scheduler is None else self._scheduler.request_finished(request)

    def reset_cache(self) -> bool | None:
        """Never again uses what was saved so far."""
        if self._scheduler is not None:
            self._scheduler.reset()
        return True

    # Worker side

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Takes the KV cache. One that cannot be described is neither saved nor loaded."""
        if self._worker is None:
            return
        try:
            self._worker.register(kv_caches)
        except Exception:
            logger.exception("ChariotConnector saves and loads nothing: it cannot use this KV cache")
            self._worker.close()
            self._worker = None

    def get_handshake_metadata(self) -> KVConnectorHandshakeMetadata | None:
        """This rank's shard, for the scheduler side."""
        return None if self._worker is None else self._worker.shards

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        """Begins a step: loads and saves start before the model runs."""
        super().bind_connector_metadata(connector_metadata)
        self._begin_step(connector_metadata)

    @guarded(nothing)
    def _begin_step(self, metadata: KVConnectorMetadata) -> None:
        if self._worker is not None and isinstance(metadata, StepMetadata):
            self._worker.begin_step(metadata)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Nothing: loads were started when the step began."""

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing: a request runs after all of its KV is loaded."""

    @guarded(nothing)
    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        """The layer is computed: its pages can be copied."""
        if self._worker is not None:
            self._worker.layer_computed(layer_name)

    @guarded(nothing)
    def wait_for_save(self) -> None:
        """Returns when the step's KV can be found by others, which is before the reply leaves."""
        if self._worker is not None:
            self._worker.finish_save()

    @guarded(TransferResults)
    def get_transfer_results(self, finished_req_ids: set[str]) -> TransferResults:
        """The loads that have ended."""
        return self._worker.transfer_results() if self._worker is not None else TransferResults()

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        """The same, for versions that do not know the results above."""
        results = self.get_transfer_results(finished_req_ids)
        return results.finished_sending or None, results.finished_recving or None

    @guarded(set)
    def get_block_ids_with_load_errors(self) -> set[int]:
        """Blocks that could not be loaded; vLLM computes them."""
        return self._worker.take_failed_blocks() if self._worker is not None else set()

    @guarded(nothing)
    def build_connector_worker_meta(self) -> KVConnectorWorkerMetadata | None:
        """This rank's report of the step."""
        report: WorkerReport | None = self._worker.take_report() if self._worker is not None else None
        return report

    @guarded(nothing)
    def get_kv_connector_stats(self) -> ChariotStats | None:
        """What was counted since the last call."""
        return self._worker.take_stats() if self._worker is not None else None

    @guarded(nothing)
    def shutdown(self) -> None:
        """Ends the threads. Not counted on: what this process holds in the worker goes with its connections."""
        if self._worker is not None:
            self._worker.close()

    def take_events(self) -> Iterable[Any]:
        """None: what the data worker holds is its own to tell."""
        return ()

    # Of the class

    @classmethod
    def requires_piecewise_for_cudagraph(cls, extra_config: dict[str, Any]) -> bool:
        """Only where layers are saved one by one: the replay of a full graph calls no layer hooks."""
        return extra_config.get("chariot.layerwise") == "on"

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> ChariotStats | None:
        """The stats that `data` holds."""
        return ChariotStats(data=data) if data is not None else ChariotStats()

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: Any,
        metric_types: dict[type[Any], type[Any]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> ChariotPromMetrics:
        """The counters in vLLM's /metrics."""
        return ChariotPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)
