"""What can go wrong with a data worker. A block that is not there is none of it: that is `None`."""

from __future__ import annotations


class ChariotError(Exception):
    """Any failure of Chariot's client."""

    retryable: bool = False
    """Whether the same call may succeed later, with nothing changed by the caller."""


class Unavailable(ChariotError, ConnectionError):
    """The worker is not there, or went away during the call. The client reconnects by itself."""

    retryable = True


class TimedOut(ChariotError, TimeoutError):
    """The deadline passed first."""

    retryable = True


class NoRoom(ChariotError):
    """The pool is full of blocks that are pinned or still being written."""

    retryable = True


class TooLarge(ChariotError, ValueError):
    """The block is larger than the worker's whole pool."""


class Lost(ChariotError):
    """The writer of a growing block is gone, or abandoned it."""


class Closed(ChariotError):
    """The client was closed."""


class Forked(ChariotError):
    """The object belongs to the parent of this process: make another client after a fork."""


class NotATensor(ChariotError, ValueError):
    """The block was not written by `put_tensor`."""
