"""What keys are made of: the namespaces, and what blocks depend on besides their tokens.

Everything here is deterministic across processes and hosts, so that two engines that never met agree on every key.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from chariot_ds._native import KeyChain
from chariot_ds.vllm.compat import GroupTraits

FORMAT_VERSION = 1
"""Of the descriptions below and of what a block's bytes are. A change here makes all keys new."""


def describe(**facts: Any) -> bytes:
    """Facts in canonical form."""
    return json.dumps({"format": FORMAT_VERSION, **facts}, sort_keys=True, separators=(",", ":"), default=str).encode()


def content_namespace(vllm_config: Any, model_version: str, block_size: int, resets: int) -> bytes:
    """What all blocks of `block_size` tokens of this model have in common.

    `resets` counts how often the cache was declared stale.
    """
    model, cache = vllm_config.model_config, vllm_config.cache_config
    speculative = vllm_config.speculative_config
    draft = getattr(speculative, "draft_model_config", None)
    return describe(
        model=model.model,
        revision=model.revision,
        model_version=model_version,
        resets=resets,
        architecture=_architecture(model),
        dtype=model.dtype,
        quantization=model.quantization,
        cache_dtype=cache.cache_dtype,
        block_size=block_size,
        speculative=speculative and [speculative.method, draft and draft.model, draft and draft.revision],
    )


def _architecture(model: Any) -> str:
    """A digest of the model's own configuration: the same name with other sizes or rope is another model."""
    facts = model.hf_config.to_dict()
    for volatile in ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"):
        facts.pop(volatile, None)
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


class SequenceKeys:
    """The content keys of one request's blocks, for one block size, computed when they are asked for."""

    def __init__(self, namespace: bytes, block_size: int, request: Any) -> None:
        self._chain = KeyChain(namespace, block_size)
        self._block_size = block_size
        self._request = request
        self._keys: list[bytes] = []

    def full(self, blocks: int) -> list[bytes]:
        """The keys of at least the first `blocks` blocks, whose tokens are known."""
        known = len(self._keys)
        if blocks > known:
            size = self._block_size
            extras = {}
            for index in range(known, blocks):
                if extra := block_extra(self._request, index * size, (index + 1) * size):
                    extras[index - known] = extra
            self._keys += self._chain.extend(self._request.all_token_ids[known * size : blocks * size], extras)
        return self._keys

    def partial(self, tokens: int) -> bytes:
        """The key of the last block of the first `tokens` tokens, which do not fill it."""
        blocks = tokens // self._block_size
        start = blocks * self._block_size
        parent = self.full(blocks)[blocks - 1] if blocks else None
        extra = block_extra(self._request, start, tokens)
        return self._chain.partial(parent, self._request.all_token_ids[start:tokens], extra)


class RequestKeys:
    """The content keys of one request's blocks in every group; `namespaces` are by block size."""

    def __init__(self, namespaces: Mapping[int, bytes], groups: Sequence[GroupTraits], request: Any) -> None:
        self._groups = groups
        self._by_size = {size: SequenceKeys(name, size, request) for size, name in namespaces.items()}
        self.alignment = math.lcm(*self._by_size)
        """Tokens that fill whole blocks in every group."""

    def until(self, index: int, end: int) -> list[bytes]:
        """The keys of the blocks of group `index` that hold the first `end` tokens, a partly filled one included."""
        size = self._groups[index].block_size
        content, blocks = self._by_size[size], end // size
        full = content.full(blocks)[:blocks]
        return [*full, content.partial(end)] if end % size else full

    def blocks(self, index: int, start: int, end: int) -> list[tuple[int, int, bytes]]:
        """The blocks of group `index` that hold tokens `start` to `end`: where each ends, the group, its key."""
        size, content = self._groups[index].block_size, self.until(index, end)
        return [
            (min((position + 1) * size, end), index, content[position])
            for position in range(start // size, len(content))
        ]

    def aligned(self, tokens: int) -> int:
        """As many of `tokens` tokens as fill whole blocks in every group."""
        return tokens // self.alignment * self.alignment


def block_extra(request: Any, start: int, end: int) -> bytes:
    """What the block of tokens `start` to `end` depends on besides its tokens and the blocks before it.

    A request's adapter and salt are in its first block's key, and by the chain in all.
    """
    facts: list[list[Any]] = []
    if start == 0:
        if (adapter := request.lora_request) is not None:
            facts.append(["lora", adapter.lora_name, adapter.lora_path])
        if request.cache_salt:
            facts.append(["salt", request.cache_salt])
    for feature in request.mm_features or ():
        offset, length = feature.mm_position.offset, feature.mm_position.length
        if offset < end and start < offset + length:
            facts.append(["multimodal", feature.identifier, offset - start])
    embeds = request.prompt_embeds
    if embeds is not None and start < len(embeds):
        facts.append(["embeds", _digest(embeds[start:end])])
        if (mask := request.prompt_is_token_ids) is not None:
            facts.append(["tokens", list(mask[start:end])])
    return json.dumps(facts, separators=(",", ":")).encode() if facts else b""


def _digest(tensor: Any) -> str:
    import torch

    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode() + raw.tobytes()).hexdigest()
