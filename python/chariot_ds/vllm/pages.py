"""Where the pages of vLLM's KV cache are, read off its tensors.

One description serves all layouts that vLLM has used: each layer's page is a list of parts, contiguous runs of bytes
at a constant stride from block to block. K and V in two tensors, heads outside of blocks, all layers of a block
together, kernel blocks that subdivide a block: the strides tell.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Cache = torch.Tensor | Sequence[torch.Tensor]
"""Of a layer. Some platforms hand in several tensors."""

MAX_PARTS = 4096
"""A page in more parts than this is no page that copies well, but a sign of strides misread."""


@dataclass(frozen=True)
class Part:
    """One contiguous run of every page of a layer."""

    tensor: torch.Tensor
    offset: int
    """Bytes from the start of the tensor's storage to the part of block 0."""
    block_stride: int
    page_bytes: int
    blocks: int

    @property
    def address(self) -> int:
        """Where the part of block 0 is, in the device's memory."""
        return int(self.tensor.untyped_storage().data_ptr()) + self.offset

    def view(self) -> torch.Tensor:
        """The part of all blocks, as bytes: one row a block."""
        nothing = torch.empty(0, dtype=torch.uint8, device=self.tensor.device)
        return nothing.set_(
            self.tensor.untyped_storage(), self.offset, (self.blocks, self.page_bytes), (self.block_stride, 1)
        )


def layer_parts(cache: Cache, blocks: int) -> list[Part]:
    """The parts of a layer's pages."""
    tensors = [cache] if isinstance(cache, torch.Tensor) else list(cache)
    return [part for tensor in tensors for part in _tensor_parts(tensor, blocks)]


def _tensor_parts(tensor: torch.Tensor, blocks: int) -> list[Part]:
    item = tensor.element_size()
    dimension = _block_dimension(tensor, blocks)
    split = tensor.shape[dimension] // blocks
    inner = [
        (size, stride * item)
        for index, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True))
        if index != dimension and size > 1
    ]
    if split > 1:
        inner.append((split, tensor.stride(dimension) * item))
    inner.sort(key=lambda axis: axis[1])
    run = item
    while inner and inner[0][1] == run:
        run *= inner.pop(0)[0]
    if any(stride < run for _, stride in inner):
        raise ValueError(f"a KV cache of shape {tuple(tensor.shape)} and strides {tensor.stride()} overlaps itself")
    outer = [range(0, size * stride, stride) for size, stride in reversed(inner)]
    offsets = [sum(steps) for steps in itertools.product(*outer)]
    if len(offsets) > MAX_PARTS:
        raise ValueError(f"a KV cache of shape {tuple(tensor.shape)} has pages in {len(offsets)} parts")
    first = int(tensor.storage_offset()) * item
    block_stride = tensor.stride(dimension) * split * item
    return [Part(tensor, first + offset, block_stride, run, blocks) for offset in offsets]


def _block_dimension(tensor: torch.Tensor, blocks: int) -> int:
    """The dimension that counts blocks: the first, or the second where K and V come before it."""
    shape = tensor.shape
    has_two_halves = len(shape) > 2 and shape[0] == 2 and shape[1] % blocks == 0
    if has_two_halves and blocks > 2:
        return 1
    if shape and shape[0] % blocks == 0 and shape[0] > 0:
        return 0
    raise ValueError(f"a KV cache of shape {tuple(shape)} has no dimension of {blocks} blocks")


def by_heads(cache: Cache, heads: int | None, shards: int) -> list[Cache]:
    """A layer's cache cut into `shards` of as many heads each, of the `heads` that its second dimension counts."""
    if shards == 1:
        return [cache]
    if not isinstance(cache, torch.Tensor) or heads is None or cache.dim() < 2 or cache.shape[1] != heads:
        raise ValueError("this vLLM, or its attention backend, does not lay KV caches out by heads: they cannot be cut")
    if heads % shards:
        raise ValueError(f"a layer with {heads} KV heads a rank cannot be cut into {shards} shards")
    return list(cache.chunk(shards, dim=1))


def layout(parts: Iterable[Part]) -> list[tuple[int, int, int]]:
    """Parts as the native copier takes them."""
    return [(part.address, part.block_stride, part.page_bytes) for part in parts]


def content(cache: Cache, blocks: int) -> list[Any]:
    """What is where within a page: its shape and the order of its axes in memory, however many blocks there are."""
    facts: list[Any] = []
    for tensor in [cache] if isinstance(cache, torch.Tensor) else cache:
        dimension = _block_dimension(tensor, blocks)
        axes = [index for index in range(tensor.dim()) if index != dimension and tensor.shape[index] > 1]
        order = sorted(axes, key=tensor.stride, reverse=True)
        sizes = [[axis, tensor.shape[axis]] for axis in order]
        facts.append([str(tensor.dtype), tensor.shape[dimension] // blocks, sizes])
    return facts


def hardware(device: torch.device) -> list[Any]:
    """What the bytes of a page depend on besides their layout: the CPU backend packs them for its instruction set."""
    if device.type != "cpu":
        return [device.type]
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return [device.type, torch.backends.cpu.get_cpu_capability(), bool(has_tiles)]
