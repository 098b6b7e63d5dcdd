"""Where pages are, for every layout that vLLM has used, held against torch's own indexing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from chariot_ds.vllm import pages

BLOCKS, HEADS, SIZE, WIDTH = 7, 2, 4, 8

Layout = Callable[[], tuple[torch.Tensor, Callable[[int], torch.Tensor]]]
"""Makes a layer's cache, and what torch says is the page of a block."""


def numbered(*shape: int) -> torch.Tensor:
    count = torch.Size(shape).numel()
    return torch.arange(count, dtype=torch.int16).reshape(shape)


def permuted(order: tuple[int, ...]) -> torch.Tensor:
    """A logical [L, B, H, N, C] cache whose memory has the axes in `order`; its second layer."""
    sizes = (3, BLOCKS, HEADS, SIZE, WIDTH)
    memory = numbered(*(sizes[axis] for axis in order))
    return memory.permute([order.index(axis) for axis in range(5)])[1]


LAYOUTS: dict[str, Layout] = {
    "K and V outside (0.20, FlashAttention)": lambda: (
        cache := numbered(2, BLOCKS, SIZE, HEADS, WIDTH),
        lambda block: cache[:, block],
    ),
    "K and V inside (0.23)": lambda: (
        cache := numbered(BLOCKS, 2, SIZE, HEADS, WIDTH),
        lambda block: cache[block],
    ),
    "heads outside of tokens (0.27)": lambda: (
        cache := numbered(BLOCKS, HEADS, SIZE, WIDTH),
        lambda block: cache[block],
    ),
    "tokens outside of heads (0.27, NHD)": lambda: (
        cache := numbered(BLOCKS, SIZE, HEADS, WIDTH).permute(0, 2, 1, 3),
        lambda block: cache[block].permute(1, 0, 2),
    ),
    "MLA": lambda: (cache := numbered(BLOCKS, SIZE, WIDTH), lambda block: cache[block]),
    "LBHNC": lambda: (cache := permuted((0, 1, 2, 3, 4)), lambda block: cache[block]),
    "LBNHC": lambda: (cache := permuted((0, 1, 3, 2, 4)), lambda block: cache[block].permute(1, 0, 2)),
    "LHBNC": lambda: (cache := permuted((0, 2, 1, 3, 4)), lambda block: cache[block]),
    "BLHNC": lambda: (cache := permuted((1, 0, 2, 3, 4)), lambda block: cache[block]),
    "BLNHC": lambda: (cache := permuted((1, 0, 3, 2, 4)), lambda block: cache[block].permute(1, 0, 2)),
    "BHLNC": lambda: (cache := permuted((1, 2, 0, 3, 4)), lambda block: cache[block]),
    "blocks of three kernel blocks": lambda: (
        cache := numbered(BLOCKS * 3, HEADS, SIZE, WIDTH),
        lambda block: cache[block * 3 : block * 3 + 3],
    ),
    "padded pages": lambda: (
        cache := numbered(BLOCKS, HEADS * SIZE * WIDTH + 10)[:, : HEADS * SIZE * WIDTH].unflatten(
            1, (HEADS, SIZE, WIDTH)
        ),
        lambda block: cache[block],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_parts_of_a_block_are_its_page(layout: Layout) -> None:
    cache, page = layout()
    parts = pages.layer_parts(cache, BLOCKS)
    for block in range(BLOCKS):
        found = torch.cat([part.view()[block] for part in parts]).view(torch.int16)
        assert torch.equal(found, page(block).flatten()), f"block {block}"


# Those of which the second dimension counts heads.
BY_HEADS = [name for name, layout in LAYOUTS.items() if layout()[0].dim() == 4 and layout()[0].shape[1] == HEADS]


@pytest.mark.parametrize("name", BY_HEADS)
def test_a_shard_is_what_a_rank_with_its_heads_alone_keeps(name: str) -> None:
    cache, _ = LAYOUTS[name]()
    for head, shard in enumerate(pages.by_heads(cache, HEADS, HEADS)):
        # As a rank with one head would have it, its axes in the same order in memory.
        order = sorted(range(4), key=cache.stride, reverse=True)
        alone = cache[:, head : head + 1].permute(order).contiguous().permute([order.index(axis) for axis in range(4)])
        assert pages.content(shard, BLOCKS) == pages.content(alone, BLOCKS)
        ours, theirs = pages.layer_parts(shard, BLOCKS), pages.layer_parts(alone, BLOCKS)
        for block in range(BLOCKS):
            assert torch.equal(*(torch.cat([part.view()[block] for part in parts]) for parts in (ours, theirs)))


def test_what_is_not_laid_out_by_heads_is_not_cut() -> None:
    cache = numbered(BLOCKS, HEADS, SIZE, WIDTH)
    assert pages.by_heads(cache, None, 1) == [cache]
    for wrong, heads in ((cache, None), (cache, SIZE), ((cache, cache), HEADS)):
        with pytest.raises(ValueError, match="cannot be cut"):
            pages.by_heads(wrong, heads, 2)
    with pytest.raises(ValueError, match="cannot be cut into 3 shards"):
        pages.by_heads(cache, HEADS, 3)


def test_several_tensors_a_layer_are_parts_one_after_the_other() -> None:
    key, value = numbered(BLOCKS, SIZE, WIDTH), numbered(BLOCKS, SIZE, 3) + 1000
    parts = pages.layer_parts((key, value), BLOCKS)
    found = torch.cat([part.view()[4] for part in parts]).view(torch.int16)
    assert torch.equal(found, torch.cat([key[4].flatten(), value[4].flatten()]))


def test_layouts_whose_pages_read_alike_are_described_alike() -> None:
    described = {name: str(pages.content(permuted(order), BLOCKS)) for name, order in ORDERS.items()}
    assert described["LBHNC"] == described["BLHNC"] == described["LHBNC"]
    assert described["LBNHC"] == described["BLNHC"] != described["LBHNC"]


ORDERS = {
    "LBHNC": (0, 1, 2, 3, 4),
    "LBNHC": (0, 1, 3, 2, 4),
    "LHBNC": (0, 2, 1, 3, 4),
    "BLHNC": (1, 0, 2, 3, 4),
    "BLNHC": (1, 0, 3, 2, 4),
}


def test_a_description_does_not_depend_on_how_many_blocks_there_are() -> None:
    few, many = numbered(2, 5, SIZE, HEADS, WIDTH), numbered(2, 9, SIZE, HEADS, WIDTH)
    assert pages.content(few, 5) == pages.content(many, 9)


@pytest.mark.parametrize(
    "cache",
    [numbered(BLOCKS + 1, SIZE), numbered(BLOCKS, 1, WIDTH).expand(BLOCKS, SIZE, WIDTH), torch.empty(0)],
    ids=["no blocks", "overlapping", "empty"],
)
def test_what_is_no_paged_cache_is_refused(cache: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="KV cache"):
        pages.layer_parts(cache, BLOCKS)
