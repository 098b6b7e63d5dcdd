"""Waits: they end with the block, the deadline or Ctrl-C, and hold up no other thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from worker import wait_for

from chariot_ds import Block, Client, Pending, TimedOut

MEGABYTE = 1 << 20


def longest_pause_while(act: Callable[[], object]) -> float:
    """The longest time for which this thread could not run Python while another did `act`."""
    thread = threading.Thread(target=act)
    longest, before = 0.0, time.monotonic()
    thread.start()
    while thread.is_alive():
        now = time.monotonic()
        longest, before = max(longest, now - before), now
        time.sleep(0)
    thread.join()
    return longest


def test_a_get_waits_for_its_block(client: Client, name: str, connect: Callable[..., Client]) -> None:
    writer = connect()
    timer = threading.Timer(0.2, lambda: (writer.put(name, b"late"), writer.flush()))
    began = time.monotonic()
    timer.start()
    block = client.get(name, timeout=10)
    assert bytes(block or b"") == b"late"
    assert 0.15 < time.monotonic() - began < 5
    timer.join()


def test_a_get_waits_for_a_growing_block_to_be_sealed(client: Client, name: str) -> None:
    growing = client.reserve(name, 4)
    client.flush()
    assert client.get(name, timeout=0.1) is None
    growing.write_at(0, b"done")
    timer = threading.Timer(0.2, growing.seal)
    timer.start()
    assert bytes(client.get(name, timeout=10) or b"") == b"done"
    timer.join()


def test_a_wait_ends_at_its_deadline_with_a_miss(client: Client, name: str) -> None:
    began = time.monotonic()
    assert client.get_many([name, name], timeout=0.3) == [None, None]
    assert 0.25 < time.monotonic() - began < 1.3


def test_a_waiting_thread_does_not_hold_the_interpreter(client: Client, name: str) -> None:
    assert longest_pause_while(lambda: client.get(name, timeout=0.5)) < 0.2


def test_a_copying_thread_does_not_hold_the_interpreter(client: Client, name: str) -> None:
    data = bytes(16 * MEGABYTE)

    def copy() -> None:
        for _ in range(20):
            client.delete(name)
            client.put(name, data)
            block = client.get(name)
            assert block is not None
            block.tobytes()

    # A copy of this size takes milliseconds; with the interpreter held, each of them would be a pause of 5 ms and more.
    # What is left is the scheduling of a loaded machine.
    assert longest_pause_while(copy) < 0.2


def test_many_threads_share_a_client(client: Client, name: str) -> None:
    def work(number: int) -> None:
        for turn in range(30):
            key, data = f"{name} {number} {turn}", os.urandom(1 + 997 * number)
            client.put(key, data)
            assert bytes(client.get(key) or b"") == data

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result()


WAITS = {
    "get": "client.get('never', timeout=60)",
    "follow": "client.follow('never', timeout=60)",
    "result": "client.get_later('never', timeout=60).result()",
    "wait_beyond": "g = client.reserve('growing', 8); client.follow('growing', timeout=5).wait_beyond(0, timeout=60)",
    "connect": "chariot_ds.Client('127.0.0.1:9', wait_for_worker=60)",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_control_c_ends_a_wait(client: Client, transport: str, wait: str) -> None:
    program = f"import chariot_ds\nclient = chariot_ds.Client({client.address!r}, transport={transport!r})\n"
    program += f"print('waiting', flush=True)\n{wait}\n"
    waiting = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    began = time.monotonic()
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=10)
    assert "KeyboardInterrupt" in said
    assert time.monotonic() - began < 2


def test_a_pending_get_is_answered_later(client: Client, name: str) -> None:
    pending = client.get_later(name, timeout=10)
    assert not pending.done()
    with pytest.raises(TimedOut):
        pending.result(timeout=0.05)
    client.put(name, b"here")
    block = pending.result(timeout=5)
    assert bytes(block or b"") == b"here"
    assert pending.done()
    assert pending.result() is block


def test_many_pending_gets_are_answered_in_any_order(client: Client, name: str) -> None:
    pending = [client.get_many_later([f"{name} {index}", f"{name} miss"], timeout=0.5) for index in range(20)]
    for index in reversed(range(20)):
        client.put(f"{name} {index}", str(index).encode())
    for index, get in enumerate(pending):
        one, other = get.result(timeout=5)
        assert bytes(one or b"") == str(index).encode()
        assert other is None


def test_a_dropped_pending_get_keeps_no_pin(client: Client, name: str) -> None:
    client.put(name, b"bytes")
    client.flush()
    pinned = client.status()["pinned_blocks"]
    for _ in range(10):
        client.get_later(name)
        client.get_later(f"{name} miss", timeout=30)
    wait_for(lambda: client.status()["pinned_blocks"] <= pinned and client.status()["waiting"] == 0)


def test_a_cancelled_get_says_so(client: Client, name: str) -> None:
    pending = client.get_later(name, timeout=30)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(pending.result)
        wait_for(waiter.running)
        began = time.monotonic()
        pending.cancel()
        assert isinstance(waiter.exception(5), concurrent.futures.CancelledError)
        assert time.monotonic() - began < 1
    with pytest.raises(concurrent.futures.CancelledError):
        pending.result()


def test_a_callback_hears_of_the_answer(client: Client, name: str) -> None:
    heard: concurrent.futures.Future[Pending[Block | None]] = concurrent.futures.Future()
    pending = client.get_later(name, timeout=10)
    pending.add_done_callback(heard.set_result)
    client.put(name, b"here")
    assert heard.result(5) is pending
    assert bytes(pending.result() or b"") == b"here"


def test_coroutines_await_blocks(client: Client, name: str) -> None:
    async def reads(key: str) -> bytes:
        return bytes(await client.get_later(key, timeout=10) or b"")

    async def writes() -> None:
        await asyncio.sleep(0.1)
        for index in range(20):
            client.put(f"{name} {index}", str(index).encode())

    async def both() -> list[bytes]:
        *found, _ = await asyncio.gather(*(reads(f"{name} {index}") for index in range(20)), writes())
        return found

    assert asyncio.run(both()) == [str(index).encode() for index in range(20)]


def test_a_coroutine_that_is_cancelled_cancels_its_get(client: Client, name: str) -> None:
    async def give_up() -> None:
        async with asyncio.timeout(0.1):
            await client.get_later(name, timeout=60)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert time.monotonic() - began < 2
    wait_for(lambda: client.status()["waiting"] == 0)
