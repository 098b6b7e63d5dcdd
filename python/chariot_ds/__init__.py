"""Chariot carries the LLM KV cache between vLLM instances through host memory.

This is its plain client:

    client = chariot_ds.Client("127.0.0.1:31501")  # or DS_WORKER_ADDR
    client.put("name", b"bytes, or any contiguous buffer")
    block = client.get("name", timeout=1.0)  # None on a miss
    memoryview(block), numpy.frombuffer(block, "float32"), torch.from_dlpack(block)  # no copy

Every time is in seconds. A timeout of 0, the default of each call that can wait, means not to wait.
"""

from chariot_ds._native import Block, Client, GrowingBlock, Key, Pending, Prefix, __version__
from chariot_ds.errors import (
    ChariotError,
    Closed,
    Forked,
    Lost,
    NoRoom,
    NotATensor,
    TimedOut,
    TooLarge,
    Unavailable,
)

__all__ = [
    "Block",
    "ChariotError",
    "Client",
    "Closed",
    "Forked",
    "GrowingBlock",
    "Key",
    "Lost",
    "NoRoom",
    "NotATensor",
    "Pending",
    "Prefix",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "__version__",
]
