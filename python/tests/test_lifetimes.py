"""Pins, processes and workers: what is held, by whom, and what happens when one of them goes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable

import numpy
import pytest
from worker import MEGABYTE, Worker, wait_for

from chariot_ds import Client, Closed, Forked, Unavailable


def pinned(client: Client) -> int:
    return client.status()["pinned_blocks"]


def pins(transport: str) -> int:
    """How many pins a block takes: over TCP it is a copy that the client owns."""
    return 1 if transport == "auto" else 0


def test_a_pin_lives_as_long_as_any_view(client: Client, name: str, transport: str) -> None:
    data = os.urandom(MEGABYTE)
    client.put(name, data)
    client.flush()
    before = pinned(client)
    block = client.get(name)
    assert block is not None
    array = numpy.frombuffer(block, "uint8")
    tail = array[-10:]
    view = memoryview(block)
    assert pinned(client) == before + pins(transport)
    with pytest.raises(BufferError, match="still in use"):
        block.release()
    del block, array
    view.release()
    gc.collect()
    # Neither deletion nor pressure takes the bytes from under a reader.
    client.delete(name)
    for index in range(100):
        client.put(f"{name} {index}", bytes(MEGABYTE))
    assert tail.tobytes() == data[-10:]
    assert pinned(client) == before + pins(transport)
    del tail
    wait_for(lambda: pinned(client) == before)


def test_a_block_can_be_released_by_hand(client: Client, name: str, transport: str) -> None:
    client.put(name, b"bytes")
    client.flush()
    before = pinned(client)
    with client.get(name) or pytest.fail("a miss") as block:
        assert bytes(block) == b"bytes"
        assert pinned(client) == before + pins(transport)
    wait_for(lambda: pinned(client) == before)
    with pytest.raises(ValueError, match="released"):
        memoryview(block)
    block.release()


def test_a_closed_client_says_so_and_its_blocks_live_on(worker: Worker, transport: str, name: str) -> None:
    client = Client(worker.address, transport=transport)
    client.put(name, b"bytes")
    block = client.get(name)
    client.close()
    client.close()
    assert not client.connected
    with pytest.raises(Closed):
        client.get(name)
    assert bytes(block or b"") == b"bytes"


HOLDER = """
import sys, time, chariot_ds
client = chariot_ds.Client(sys.argv[1], transport=sys.argv[2])
client.put("held", bytes(1 << 20))
held = client.get("held")
growing = client.reserve("growing", 1 << 20)
client.flush()
print("holding", flush=True)
time.sleep(60)
"""


def test_a_killed_client_gives_back_what_it_held(own_worker: Worker, transport: str) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, own_worker.address, transport], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    with Client(own_worker.address) as client:
        status = client.status()
        assert (status["pinned_blocks"], status["growing_blocks"]) == (pins(transport), 1)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        wait_for(lambda: client.status()["pinned_blocks"] == client.status()["growing_blocks"] == 0, 2)
        assert client.follow("growing") is None
        assert client.exists("held")


def test_a_client_outlives_its_worker(own_worker: Worker, transport: str) -> None:
    client = Client(own_worker.address, transport=transport)
    client.put("key", b"before")
    block = client.get("key")
    assert block is not None
    view = memoryview(block)
    assert block.intact
    growing = client.reserve("growing", 8)
    own_worker.kill()
    wait_for(lambda: not client.connected)

    began = time.monotonic()
    for act in (
        lambda: client.get("key"),
        lambda: client.get("key", timeout=30),
        lambda: client.put("key", b""),
        lambda: client.flush(),
        lambda: client.get_later("key", timeout=30),
        lambda: growing.seal(),
    ):
        with pytest.raises(Unavailable) as caught:
            act()
        assert caught.value.retryable
        assert isinstance(caught.value, ConnectionError)
    assert time.monotonic() - began < 1
    # The memory is still mapped, and the block says that nobody answers for it any more.
    assert bytes(view) == b"before"
    assert block.intact == (transport == "tcp")

    own_worker.start()
    wait_for(lambda: client.connected)
    assert client.get("key") is None
    client.put("key", b"after")
    assert bytes(client.get("key") or b"") == b"after"


def test_a_wait_ends_when_the_worker_dies(own_worker: Worker, transport: str) -> None:
    client = Client(own_worker.address, transport=transport)
    pending = client.get_later("never", timeout=60)
    own_worker.kill()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        pending.result(timeout=10)
    assert time.monotonic() - began < 1


def test_a_worker_that_stands_still_costs_one_request_timeout(own_worker: Worker, transport: str) -> None:
    client = Client(own_worker.address, transport=transport, request_timeout=0.5)
    own_worker.freeze()
    try:
        began = time.monotonic()
        for _ in range(5):
            with pytest.raises((Unavailable, TimeoutError)):
                client.flush()
        assert time.monotonic() - began < 1.5
    finally:
        own_worker.thaw()
    wait_for(lambda: client.connected)
    assert not client.exists("key")


def test_a_worker_that_stands_still_does_not_keep_local_clients_from_reading(own_worker: Worker) -> None:
    client = Client(own_worker.address, request_timeout=0.5)
    client.put("key", b"bytes")
    client.flush()
    own_worker.freeze()
    try:
        assert client.exists("key")
        assert not client.exists("another")
        assert bytes(client.get("key")) == b"bytes"
    finally:
        own_worker.thaw()


def test_a_client_waits_for_a_worker_that_is_late(own_worker: Worker, transport: str) -> None:
    own_worker.stop()
    with pytest.raises(Unavailable):
        Client(own_worker.address, transport=transport)
    later = Client.connect_later(own_worker.address, transport=transport)
    assert not later.connected
    with pytest.raises(Unavailable):
        later.put("key", b"")
    own_worker.start()
    client = Client(own_worker.address, transport=transport, wait_for_worker=10)
    wait_for(lambda: later.connected)
    later.put("key", b"bytes")
    later.flush()
    assert bytes(client.get("key") or b"") == b"bytes"


def test_the_address_comes_from_the_environment(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_WORKER_ADDR", worker.address)
    assert Client().address == worker.address
    monkeypatch.delenv("DS_WORKER_ADDR")
    with pytest.raises(ValueError, match="DS_WORKER_ADDR"):
        Client()
    with pytest.raises(ValueError, match="has no port"):
        Client("localhost")
    with pytest.raises(ValueError, match="`transport` is `rdma`"):
        Client(worker.address, transport="rdma")  # type: ignore[arg-type]


def in_a_fork(act: Callable[[], None]) -> None:
    """Runs `act` in a forked child, and fails when it does."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_use_only_its_own_client(client: Client, name: str, transport: str) -> None:
    client.put(name, b"parent's")
    block = client.get(name)
    growing = client.reserve(f"{name} growing", 8)
    pending = client.get_later(f"{name} late", timeout=10)
    inherited = [client.get(name), client.reserve(f"{name} dropped", 8), client.get_later(f"{name} late", timeout=10)]
    assert block is not None

    def child() -> None:
        for act in (lambda: client.get(name), lambda: memoryview(block), growing.seal, pending.result, client.close):
            with pytest.raises(Forked, match="make another client"):
                act()
        own = Client(client.address, transport=transport)
        assert bytes(own.get(name) or b"") == b"parent's"
        # Dropping the parent's objects must not reach into its connection.
        inherited.clear()
        gc.collect()

    in_a_fork(child)
    # The parent goes on where it was.
    assert bytes(block) == b"parent's"
    growing.write_at(0, b"complete")
    growing.seal()
    assert bytes(client.get(f"{name} growing") or b"") == b"complete"
    client.put(f"{name} late", b"late")
    assert bytes(pending.result(5) or b"") == b"late"


def test_a_fork_that_lives_on_does_not_keep_what_its_parent_held(own_worker: Worker, transport: str) -> None:
    program = HOLDER.replace("import sys,", "import os, sys,").replace(
        'print("holding"', 'if os.fork() == 0:\n    time.sleep(20)\n    os._exit(0)\nprint("holding"'
    )
    holder = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, own_worker.address, transport],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    try:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with Client(own_worker.address) as client:
            wait_for(lambda: client.status()["pinned_blocks"] == client.status()["growing_blocks"] == 0, 2)
    finally:
        os.killpg(holder.pid, signal.SIGKILL)


def test_a_soft_pinned_block_goes_last(worker: Worker) -> None:
    client = Client(worker.address, namespace="some/model")
    data = bytes(MEGABYTE)
    client.put("parent", data)
    client.put("hot", data, parent="parent")
    assert client.soft_pin(["hot", "nothing"], seconds=3600) == 1
    for number in range(3 * worker.shared_memory_mb):
        client.put(f"flood {number}", data)
    assert client.exists_many(["parent", "hot"]) == [True, True]
    status = client.status()
    assert status["soft_pinned_blocks"] == 2
    assert [space["name"] for space in status["namespaces"]] == ["some/model"]
    assert client.soft_unpin(["hot"]) == 1
    with pytest.raises(ValueError, match="is not a namespace"):
        Client(worker.address, namespace="two\nlines")
