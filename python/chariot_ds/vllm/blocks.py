"""Blocks as the two sides and the device paths name them. Knows no vLLM, so that a device can be tried without it."""

from __future__ import annotations

from typing import NamedTuple


class LoadBlock(NamedTuple):
    """A block to load, and where to."""

    group: int
    block: int
    key: bytes


class SaveBlock(NamedTuple):
    """A block to save, and where from."""

    group: int
    block: int
    key: bytes
    parent: bytes | None
