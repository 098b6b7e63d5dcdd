"""An engine on paper: vLLM's real scheduler and our real connector, around a model that only writes down what it saw.

For each token the model writes a number to the KV cache that stands for all tokens up to it, the layer and the KV head.
Before it computes a token it checks that the cache says the right thing about every token that the layer looks back on.
Whatever is saved, loaded, evicted, preempted or lost in between: a wrong byte fails the run.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from vllm.config import CacheConfig, DeviceConfig, KVTransferConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.distributed.kv_transfer.kv_connector.utils import KVOutputAggregator
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec, SlidingWindowSpec
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

from chariot_ds.vllm import plugin
from chariot_ds.vllm.connector import ChariotConnector

HEADS, HEAD_SIZE = 4, 4
KNOWN_REPORTS = {field.name for field in dataclasses.fields(KVConnectorOutput)}
"""What this version of vLLM takes from a worker after a step."""
VOCABULARY = 500


@dataclass(frozen=True)
class Group:
    """Layers that share a block table."""

    layers: int = 3
    window: int | None = None


@dataclass
class Options:
    """What differs between the engines of a test."""

    address: str
    model: Path
    role: str = "kv_both"
    groups: Sequence[Group] = (Group(),)
    ranks: int = 1
    blocks: int = 200
    block_size: int = 16
    tokens_a_step: int = 128
    prefix_caching: bool = True
    runs_ahead: bool = False
    """Whether a step is scheduled before the output of the one before it is known, as on a GPU."""
    extra: dict[str, Any] = field(default_factory=dict)
    transfer: dict[str, Any] = field(default_factory=dict)


def make_model(directory: Path) -> Path:
    """What vLLM wants to know of a model whose weights nobody reads."""
    directory.mkdir(parents=True, exist_ok=True)
    configuration = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": HEADS,
        "num_hidden_layers": 3,
        "max_position_embeddings": 8192,
        "vocab_size": VOCABULARY,
    }
    (directory / "config.json").write_text(json.dumps(configuration))
    return directory


def make_config(options: Options) -> VllmConfig:
    """The configuration of an engine."""
    plugin.register()
    model = ModelConfig(model=str(options.model), dtype="float32", skip_tokenizer_init=True, max_model_len=4096)
    config = VllmConfig(
        model_config=model,
        cache_config=CacheConfig(block_size=options.block_size, enable_prefix_caching=options.prefix_caching),
        scheduler_config=SchedulerConfig(
            max_num_seqs=8,
            max_num_batched_tokens=options.tokens_a_step,
            max_model_len=4096,
            is_encoder_decoder=False,
            async_scheduling=False,
        ),
        kv_transfer_config=KVTransferConfig(
            kv_connector="ChariotConnector",
            kv_role=options.role,
            kv_connector_extra_config={"chariot.worker_address": options.address, **options.extra},
            **options.transfer,
        ),
        device_config=DeviceConfig("cpu"),
    )
    config.parallel_config.tensor_parallel_size = options.ranks
    config.cache_config.num_gpu_blocks = options.blocks
    config.scheduler_config.async_scheduling = options.runs_ahead
    return config


def make_cache_config(options: Options) -> KVCacheConfig:
    """The KV cache of one rank."""
    heads = max(HEADS // options.ranks, 1)
    common = {
        "block_size": options.block_size,
        "num_kv_heads": heads,
        "head_size": HEAD_SIZE,
        "dtype": torch.float32,
    }
    groups = []
    for index, group in enumerate(options.groups):
        names = [f"group{index}.layer{layer}" for layer in range(group.layers)]
        spec = (
            FullAttentionSpec(**common)
            if group.window is None
            else SlidingWindowSpec(**common, sliding_window=group.window)
        )
        groups.append(KVCacheGroupSpec(names, spec))
    return KVCacheConfig(num_blocks=options.blocks, kv_cache_tensors=[], kv_cache_groups=groups)


@dataclass
class Running:
    """What a model runner keeps of a request."""

    request: Request
    tables: list[list[int]]
    tokens: list[int]
    """All tokens that were sampled, known to the scheduler or not."""
    seen: list[int] = field(default_factory=list)
    """For each token: the number that stands for it and all before it."""

    def state(self, position: int) -> int:
        while len(self.seen) <= position:
            before = self.seen[-1] if self.seen else zlib.crc32(str(self.request.cache_salt).encode())
            token = self.tokens[len(self.seen)]
            self.seen.append(zlib.crc32(token.to_bytes(4, "little"), before))
        return self.seen[position]


class Rank:
    """A worker: its KV cache and its side of the connector."""

    def __init__(self, options: Options, rank: int) -> None:
        config = make_config(options)
        config.parallel_config.rank = rank
        self.number = rank
        self.cache_config = make_cache_config(options)
        self.connector = ChariotConnector(config, KVConnectorRole.WORKER, self.cache_config)
        heads = max(HEADS // options.ranks, 1)
        first = rank * HEADS // options.ranks
        self.heads = torch.arange(first, first + heads)
        shape = (options.blocks, heads, options.block_size, 2 * HEAD_SIZE)
        self.caches = {
            name: torch.full(shape, -1.0) for group in self.cache_config.kv_cache_groups for name in group.layer_names
        }
        self.connector.register_kv_caches(self.caches)

    def numbers_for(self, state: int, layer: str) -> torch.Tensor:
        """What the rank's heads write, a column."""
        return ((state * 31 + zlib.crc32(layer.encode()) + self.heads * 977) % (1 << 22)).float()[:, None]


class PaperEngine:
    """One engine."""

    def __init__(self, options: Options) -> None:
        self.options = options
        init_none_hash(sha256)
        config = make_config(options)
        kind = AsyncScheduler if options.runs_ahead else Scheduler
        self.scheduler = kind(
            vllm_config=config,
            kv_cache_config=make_cache_config(options),
            log_stats=True,
            structured_output_manager=StructuredOutputManager(config),
            block_size=options.block_size,
        )
        self.ranks = [Rank(options, rank) for rank in range(options.ranks)]
        handshake = {(0, rank.number): rank.connector.get_handshake_metadata() for rank in self.ranks}
        connector = self.scheduler.get_kv_connector()
        assert isinstance(connector, ChariotConnector)
        self.connector = connector
        if all(metadata is not None for metadata in handshake.values()):
            connector.set_xfer_handshake_metadata_pp_aware(pickle.loads(pickle.dumps(handshake)))
        self.aggregator = KVOutputAggregator(options.ranks)
        self.running: dict[str, Running] = {}
        self.requests: dict[str, Request] = {}
        self.computed: dict[str, int] = {}
        """By request: prompt tokens that the model computed."""
        self.computed_again: dict[str, int] = {}
        """By request: tokens, generated ones included, that the model computed more than once."""
        self.reached: dict[str, int] = {}
        """By request: how far the model has ever come."""
        self.answers: dict[str, Any] = {}
        """By request: what a router is told with its last token."""
        self.stats: dict[str, float] = {}
        self.outputs_to_come: list[tuple[Any, ModelRunnerOutput]] = []

    def add(self, name: str, prompt: list[int], outputs: int = 1, transfer: Any = None, **keywords: Any) -> Request:
        """Adds a request that asks for `outputs` tokens; `transfer` is what a router says of it."""
        extra = {"kv_transfer_params": transfer} if transfer is not None else None
        parameters = SamplingParams(max_tokens=outputs, ignore_eos=True, extra_args=extra)
        parameters.update_from_generation_config({}, VOCABULARY + 1)
        request = Request(
            request_id=name,
            prompt_token_ids=prompt,
            sampling_params=parameters,
            pooling_params=None,
            block_hasher=get_request_block_hasher(self.options.block_size, sha256),
            **keywords,
        )
        self.requests[name] = request
        self.computed[name] = 0
        self.scheduler.add_request(request)
        return request

    def run(self, *names: str, steps: int = 2000) -> None:
        """Steps until the requests called `names`, or all, are finished."""
        for _ in range(steps):
            wanted = names or tuple(self.requests)
            if all(self.requests[name].is_finished() for name in wanted) and not self.scheduler.finished_req_ids:
                return
            self.step()
        raise AssertionError(f"not finished after {steps} steps")

    def step(self) -> None:
        """One step of the engine."""
        output = self.scheduler.schedule()
        self._update_tables(output)
        shipped = pickle.dumps(output.kv_connector_metadata)
        results = [self._run_rank(rank, pickle.loads(shipped), output) for rank in self.ranks]
        self.outputs_to_come.append((output, self.aggregator.aggregate(results, output_rank=len(results) - 1)))
        if len(self.outputs_to_come) > self.options.runs_ahead:
            answered = self.scheduler.update_from_output(*self.outputs_to_come.pop(0))
            for item in (item for outputs in answered.values() for item in outputs.outputs):
                self.answers[item.request_id] = item.kv_transfer_params

    def close(self) -> None:
        """Ends the connectors' threads."""
        for rank in self.ranks:
            rank.connector.shutdown()

    def _update_tables(self, output: Any) -> None:
        for new in output.scheduled_new_reqs:
            request = self.requests[new.req_id]
            self.running[new.req_id] = Running(
                request, [list(ids) for ids in new.block_ids], list(request.all_token_ids)
            )
        cached = output.scheduled_cached_reqs
        for name, new_ids in zip(cached.req_ids, cached.new_block_ids, strict=True):
            running = self.running[name]
            if name in cached.resumed_req_ids:
                running.tables = [list(ids) for ids in new_ids]
            elif new_ids is not None:
                for table, ids in zip(running.tables, new_ids, strict=True):
                    table.extend(ids)

    def _run_rank(self, rank: Rank, metadata: Any, output: Any) -> ModelRunnerOutput:
        connector = rank.connector
        connector.handle_preemptions(metadata)
        connector.bind_connector_metadata(metadata)
        names = list(output.num_scheduled_tokens)
        ranges = {name: self._range(name, output) for name in names}
        if names:
            for group, spec in enumerate(rank.cache_config.kv_cache_groups):
                for layer in spec.layer_names:
                    connector.wait_for_layer_load(layer)
                    for name in names:
                        self._compute(rank, group, layer, self.running[name], *ranges[name])
                    connector.save_kv_layer(layer, rank.caches[layer], None)
        connector.start_load_kv(None)
        connector.wait_for_save()
        transfers = connector.get_transfer_results(output.finished_req_ids)
        told = {
            "finished_sending": transfers.finished_sending,
            "finished_recving": transfers.finished_recving,
            "failed_recving": transfers.failed_recving,
            "invalid_block_ids": connector.get_block_ids_with_load_errors(),
            "kv_connector_worker_meta": connector.build_connector_worker_meta(),
        }
        stats = connector.get_kv_connector_stats()
        for key, amount in (stats.data if stats else {}).items():
            self.stats[key] = self.stats.get(key, 0) + amount
        connector.clear_connector_metadata()
        if rank.number == 0:
            for name, (start, end) in ranges.items():
                prompt = self.requests[name].num_prompt_tokens
                self.computed[name] += max(0, min(end, prompt) - start)
                reached = self.reached.get(name, 0)
                self.computed_again[name] = self.computed_again.get(name, 0) + max(0, min(end, reached) - start)
                self.reached[name] = max(end, reached)
        # The last rank samples, when all have checked their caches.
        is_last = rank is self.ranks[-1]
        sampled = [self._sample(self.running[name], ranges[name][1]) if is_last else [] for name in names]
        return ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: index for index, name in enumerate(names)},
            sampled_token_ids=sampled,
            kv_connector_output=KVConnectorOutput(**{key: told[key] for key in told if key in KNOWN_REPORTS}),
        )

    def _range(self, name: str, output: Any) -> tuple[int, int]:
        for new in output.scheduled_new_reqs:
            if new.req_id == name:
                return new.num_computed_tokens, new.num_computed_tokens + output.num_scheduled_tokens[name]
        cached = output.scheduled_cached_reqs
        start = cached.num_computed_tokens[cached.req_ids.index(name)]
        return start, start + output.num_scheduled_tokens[name]

    def _sample(self, running: Running, end: int) -> list[int]:
        """The token after the first `end`, if those are all there are."""
        if end < len(running.tokens):
            return []
        running.tokens.append(running.state(end - 1) % VOCABULARY)
        return running.tokens[-1:]

    def _compute(self, rank: Rank, group: int, layer: str, running: Running, start: int, end: int) -> None:
        """Checks what the layer looks back on, then writes tokens `start` to `end`."""
        size, table, cache = self.options.block_size, running.tables[group], rank.caches[layer]
        window = self.options.groups[group].window
        first = 0 if window is None else max(0, start - window + 1)
        for position in range(first, start):
            page = cache[table[position // size], :, position % size]
            expected = rank.numbers_for(running.state(position), layer)
            assert bool((page == expected).all()), (
                f"{running.request.request_id}: {layer} of rank {rank.number} has {page[:, 0]} for token "
                f"{position} of {start}, and should have {expected[:, 0]}"
            )
        for position in range(start, end):
            page = cache[table[position // size], :, position % size]
            page.copy_(rank.numbers_for(running.state(position), layer).expand_as(page))
