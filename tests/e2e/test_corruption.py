"""The control for all the others: bytes changed in the pool change the output, so decode uses what was carried."""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import FreshPrompt
from deployment import BLOCK_TOKENS, KV_BYTES_PER_TOKEN, Deployment, answer

LAYERS = 4
BLOCK_BYTES = BLOCK_TOKENS * KV_BYTES_PER_TOKEN
LAYER_BYTES = BLOCK_BYTES // LAYERS
PAGE = 4096


def test_one_layer_changed_in_the_pool_changes_the_tokens(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    prompt = fresh_prompt(640)
    with pool_memory(deployment.worker.process_id) as memory:
        before = pages(memory)
        answer(deployment.prefill.url, deployment.prefill, [prompt])
        written = changed_runs(before, pages(memory))
        assert written, "prefill was meant to write into the pool"
        for start, end in written:
            for block in range(start, end, BLOCK_BYTES):
                memory[block : block + LAYER_BYTES] = bytes(LAYER_BYTES)
    carried = answer(deployment.decode.url, deployment.decode, [prompt])
    assert carried.computed.prompt_tokens == 1, "the changed KV was meant to be loaded"
    assert carried.tokens != deployment.expected([prompt])


@contextmanager
def pool_memory(process: int) -> Iterator[mmap.mmap]:
    """The worker's arena, mapped through its open files: no interface of ours is involved in the crime."""
    candidates = [path for path in Path(f"/proc/{process}/fd").iterdir() if os.readlink(path).startswith("/memfd:")]
    largest = max(candidates, key=lambda path: path.stat().st_size)
    descriptor = os.open(largest, os.O_RDWR)
    try:
        with mmap.mmap(descriptor, 0) as memory:
            yield memory
    finally:
        os.close(descriptor)


def pages(memory: mmap.mmap) -> list[int]:
    """A hash of each page."""
    return [hash(memory[offset : offset + PAGE]) for offset in range(0, len(memory), PAGE)]


def changed_runs(before: list[int], after: list[int]) -> list[tuple[int, int]]:
    """Byte ranges of neighbouring pages that differ."""
    runs: list[tuple[int, int]] = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            start, end = number * PAGE, (number + 1) * PAGE
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((start, end))
    return runs
