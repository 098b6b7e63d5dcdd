"""Every difference between the vLLM versions that are supported (0.20 and later), and nothing else.

The rest of this package is written against 0.32 and takes from here whatever older versions lack or name otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1 import base

LEGACY_FIELDS = ("kv_rank", "kv_parallel_size", "kv_ip", "kv_buffer_size")
"""Fields of KVTransferConfig that 0.32 removed, and that guides still pass."""

try:
    TransferResults = base.KVConnectorTransferResults
    REPORTS_FAILED_REQUESTS = True
except AttributeError:  # Before 0.30 failures were told by block id only.
    REPORTS_FAILED_REQUESTS = False

    @dataclass
    class TransferResults:  # type: ignore[no-redef]
        """What 0.30 and later collect after each step."""

        finished_sending: set[str] = field(default_factory=set)
        finished_recving: set[str] = field(default_factory=set)
        failed_recving: set[str] = field(default_factory=set)


def host_cache_hit_source() -> Any:
    """How hits of this connector are counted: host memory. None before 0.32, which does not ask."""
    try:
        from vllm.v1.metrics.cache_hit_source import CacheHitSource
    except ImportError:
        return None
    return CacheHitSource.HOST


FULL_ATTENTION = ("FullAttentionSpec", "MLAAttentionSpec", "SinkFullAttentionSpec")
SLIDING_WINDOW = ("SlidingWindowSpec", "SlidingWindowMLASpec")


class LooksBack(Enum):
    """How a window goes along."""

    STEADILY = auto()
    WITHIN_CHUNK = auto()


@dataclass(frozen=True)
class GroupTraits:
    """What the connector needs to know of a group of layers that share a block table."""

    block_size: int
    window: int | None
    """How many tokens back a layer looks; None for all of them."""
    looks_back: LooksBack = LooksBack.STEADILY

    def first_needed(self, position: int) -> int:
        """The first token that the one at `position` looks back on: blocks before it may be others' already."""
        if self.window is None:
            return 0
        if self.looks_back is LooksBack.WITHIN_CHUNK:
            return position // self.window * self.window
        return max(0, position - self.window + 1)


class UnsupportedGroupError(ValueError):
    """A kind of KV cache that cannot be cut into blocks whose bytes depend on tokens alone."""


def group_traits(group: Any) -> GroupTraits:
    """The traits of a `KVCacheGroupSpec`."""
    spec = group.kv_cache_spec
    if type(spec).__name__ == "UniformTypeKVCacheSpecs":
        spec = next(iter(spec.kv_cache_specs.values()))
    kind = type(spec).__name__
    if not getattr(group, "enable_kv_transfer", True) or getattr(group, "host_resident", False):
        raise UnsupportedGroupError(f"a group of `{kind}` is not in the KV cache that can be transferred")
    if kind in FULL_ATTENTION:
        return GroupTraits(spec.block_size, None)
    if kind in SLIDING_WINDOW:
        return GroupTraits(spec.block_size, spec.sliding_window)
    if kind == "ChunkedLocalAttentionSpec":
        return GroupTraits(spec.block_size, spec.attention_chunk_size, LooksBack.WITHIN_CHUNK)
    raise UnsupportedGroupError(f"KV caches of the kind `{kind}` are not supported")


def page_bytes(group: Any, layer_name: str) -> int | None:
    """Bytes of one page of a layer without padding, where the version says."""
    spec = _layer_spec(group, layer_name)
    for name in ("unpadded_page_size_bytes", "real_page_size_bytes"):
        if (size := getattr(spec, name, None)) is not None:
            return int(size)
    return None


def _layer_spec(group: Any, layer_name: str) -> Any:
    spec = group.kv_cache_spec
    return getattr(spec, "kv_cache_specs", {}).get(layer_name, spec)


def kv_heads(vllm_config: Any) -> int:
    """How many KV heads the model has. Latent attention keeps one vector a token for all of its heads."""
    model = vllm_config.model_config
    return 1 if getattr(model, "use_mla", False) else int(model.get_total_num_kv_heads())


def kv_replicas(vllm_config: Any) -> int:
    """How many consecutive tensor-parallel ranks hold the same KV."""
    ranks, heads = int(vllm_config.parallel_config.tensor_parallel_size), kv_heads(vllm_config)
    return ranks // heads if heads < ranks else 1


def heads_of_page(group: Any, layer_name: str) -> int | None:
    """How many KV heads a layer's cache counts in its second dimension, after blocks; None where it does not.

    From 0.30 on a cache is logically blocks, heads, tokens, content, unless its backend packs heads otherwise.
    """
    spec = _layer_spec(group, layer_name)
    return int(spec.num_kv_heads) if getattr(spec, "num_head_slots", 0) is None else None


def splits_tokens_between_ranks(vllm_config: Any) -> bool:
    """Whether context parallelism gives each rank only some of a block's tokens."""
    parallel = vllm_config.parallel_config
    names = ("decode_context_parallel_size", "prefill_context_parallel_size")
    return any(getattr(parallel, name, 1) > 1 for name in names)


def attention_backend(vllm_config: Any, layer_name: str) -> str:
    """The name of the layer's attention backend, which decides what is where within a page."""
    layer = vllm_config.compilation_config.static_forward_context.get(layer_name)
    backend = layer.get_attn_backend() if hasattr(layer, "get_attn_backend") else None
    return str(backend.get_name()) if backend is not None else ""


def computes_behind_a_prefix(vllm_config: Any) -> bool:
    """Whether the engine computes more than one token of a prompt whose beginning was loaded.

    Latent attention on a CPU does not: vLLM turns off chunked prefill for it, and would pass over what was loaded.
    """
    is_latent = getattr(vllm_config.model_config, "use_mla", False)
    return not is_latent or bool(vllm_config.scheduler_config.enable_chunked_prefill)


def preempted_requests(output: Any) -> Iterable[str]:
    """The requests whose blocks were taken from them since the step before."""
    return getattr(output, "preempted_req_ids", None) or ()


def must_compute_whole_prompt(request: Any) -> bool:
    """Whether the request needs more of its prompt than the KV: logprobs of its tokens, or an embedding."""
    if getattr(request, "skip_reading_prefix_cache", False) or request.pooling_params is not None:
        return True
    parameters = request.sampling_params
    return parameters is not None and parameters.prompt_logprobs is not None
