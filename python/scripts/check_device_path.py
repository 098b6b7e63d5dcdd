"""Carries KV cache from and to a device through a real data worker, checks every byte, and says how fast it was.

    python python/scripts/check_device_path.py            # the accelerator that torch finds, else the CPU
    python python/scripts/check_device_path.py cuda:1

Needs chariot-ds and torch; vLLM need not be installed. Exits with 1 when a byte is wrong.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from chariot_ds._native import Connection, KeyChain, Loader, Saver
from chariot_ds.vllm import pages
from chariot_ds.vllm.blocks import LoadBlock, SaveBlock
from chariot_ds.vllm.device import Groups, TorchPath

LAYERS, HEADS, TOKENS, CONTENT = 8, 8, 16, 256
CACHE_BLOCKS, CARRIED_BLOCKS = 600, 256
SHARD = b"check_device_path"

ORDERS = {
    "LBHNC": (0, 1, 2, 3, 4),
    "LBNHC": (0, 1, 3, 2, 4),
    "LHBNC": (0, 2, 1, 3, 4),
    "BLHNC": (1, 0, 2, 3, 4),
    "BHLNC": (1, 2, 0, 3, 4),
}
"""Orders in memory of the axes layer, block, head, token, content."""


def main() -> int:
    """Checks all layouts on one device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", nargs="?", type=torch.device, default=default_device())
    device = parser.parse_args().device
    print(f"device: {device}; {CARRIED_BLOCKS} blocks of {block_bytes() >> 10} KiB")
    with worker() as address:
        results = [carry(name, order, device, address) for name, order in ORDERS.items()]
    return 0 if all(results) else 1


def default_device() -> torch.device:
    """The accelerator, where there is one."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")


def block_bytes() -> int:
    """Bytes of one block: the pages of all layers, two bytes a number."""
    return LAYERS * HEADS * TOKENS * CONTENT * 2


def carry(name: str, order: tuple[int, ...], device: torch.device, address: str) -> bool:
    """Saves blocks of one cache and loads them into others of another; whether all bytes are right."""
    source, target = make_cache(order, device), make_cache(order, device)
    # Written behind a queue of slow work: a copy that does not wait for the device's stream finds zeros.
    delay(device)
    source.copy_(torch.arange(source.numel(), device=device).reshape(source.shape) % 30011)
    keys = KeyChain(name.encode(), 1).extend(list(range(CARRIED_BLOCKS)), {})
    shuffled = torch.randperm(CACHE_BLOCKS, generator=torch.Generator().manual_seed(1)).tolist()
    origin, goal = shuffled[:CARRIED_BLOCKS], shuffled[-CARRIED_BLOCKS:]

    saver = Saver(Connection(address, "check: save", 5.0, "check"), [SHARD])
    loader = Loader(Connection(address, "check: load", 5.0, "check"), [SHARD], 4)
    save_seconds = save(TorchPath(groups(source)), saver, origin, keys)
    load_seconds = load(TorchPath(groups(target)), loader, goal, keys)
    saver.close()
    loader.close()

    untouched = [block for block in range(CACHE_BLOCKS) if block not in set(goal)]
    is_right = bool((target[:, goal] == source[:, origin]).all()) and not bool(target[:, untouched].any())
    gigabytes = CARRIED_BLOCKS * block_bytes() / 1e9
    print(
        f"{name}: {'right' if is_right else 'WRONG'}; "
        f"save {gigabytes / save_seconds:.2f} GB/s, load {gigabytes / load_seconds:.2f} GB/s"
    )
    return is_right


def make_cache(order: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """A cache of zeros, indexed by layer, block, head, token and content, whatever its order in memory."""
    sizes = (LAYERS, CACHE_BLOCKS, HEADS, TOKENS, CONTENT)
    memory = torch.zeros([sizes[axis] for axis in order], dtype=torch.int16, device=device)
    return memory.permute([order.index(axis) for axis in range(5)])


def groups(cache: torch.Tensor) -> Groups:
    """The cache as one group of layers."""
    return [[pages.layer_parts(layer, CACHE_BLOCKS) for layer in cache]]


def delay(device: torch.device) -> None:
    """Keeps an accelerator's stream busy for a while."""
    if device.type == "cpu":
        return
    matrix = torch.ones((4096, 4096), device=device)
    for _ in range(40):
        matrix = matrix @ matrix / 4096


def save(path: TorchPath, saver: Saver, blocks: list[int], keys: list[bytes]) -> float:
    """Saves blocks as a step of the connector does; the seconds it took."""
    parents = [None, *keys]
    wanted = [SaveBlock(0, block, key, parent) for block, key, parent in zip(blocks, keys, parents, strict=False)]
    began = time.monotonic()
    batch = path.save(wanted)
    saver.begin(batch.cache, batch.blocks, [])
    batch.all_computed(saver.layer_ready)
    report = saver.finish()
    assert report is not None
    assert report.saved == len(blocks), report.error
    return time.monotonic() - began


def load(path: TorchPath, loader: Loader, blocks: list[int], keys: list[bytes]) -> float:
    """Loads blocks as the connector does; the seconds it took."""
    began = time.monotonic()
    batch = path.load([LoadBlock(0, block, key) for block, key in zip(blocks, keys, strict=True)])
    loader.start(batch.cache, "check", batch.blocks, 10.0)
    while not (reports := loader.reports()):
        loader.wait(1.0)
    failed = batch.arrived(reports[0].failed)
    assert not failed, reports[0].error
    while not batch.is_done():
        time.sleep(0.0001)
    return time.monotonic() - began


@contextmanager
def worker() -> Iterator[str]:
    """A data worker for the time of the check."""
    dscli = shutil.which("dscli")
    if dscli is None:
        sys.exit("dscli is not on PATH: it comes with chariot-ds, in the environment's bin folder")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    megabytes = 2 * len(ORDERS) * CARRIED_BLOCKS * block_bytes() >> 20
    with tempfile.TemporaryDirectory() as logs:
        where = ["-w", "--worker_address", address]
        size = ["--shared_memory_size_mb", str(max(megabytes, 64))]
        subprocess.run([dscli, "start", *where, *size, "--log_dir", logs], check=True)
        try:
            yield address
        finally:
            subprocess.run([dscli, "stop", *where], check=True)


if __name__ == "__main__":
    sys.exit(main())
