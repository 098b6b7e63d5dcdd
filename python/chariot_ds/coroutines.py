"""What `await pending` does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chariot_ds._native import Pending


async def wait(pending: Pending[Any]) -> Any:
    """The answer of `pending`; a coroutine that is cancelled meanwhile cancels the get."""
    if pending.done():
        return pending.result()
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not over.done():
            over.set_result(None)

    def notify(_pending: Pending[Any]) -> None:
        # A loop that was closed meanwhile has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(wake)

    pending.add_done_callback(notify)
    try:
        await over
    except asyncio.CancelledError:
        pending.cancel()
        raise
    return pending.result()
