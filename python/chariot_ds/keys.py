"""What may stand for a block's key."""

from typing import TypeAlias

from chariot_ds._native import Key

KeyLike: TypeAlias = str | bytes | Key
"""A `Key`, or the name of a block, of any length and any characters."""
