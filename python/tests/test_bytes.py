"""What is put is what is got: any buffer, any size, both transports."""

from __future__ import annotations

import array
import ctypes
import os
import time
from collections.abc import Callable

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from worker import wait_for

from chariot_ds import ChariotError, Client, NoRoom, TooLarge

MEGABYTE = 1 << 20

on_one_client = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("size", [0, 1, 63, 64, 4095, 4096, 65537, MEGABYTE, 8 * MEGABYTE + 3])
def test_bytes_come_back(client: Client, name: str, size: int) -> None:
    data = os.urandom(size)
    client.put(name, data)
    block = client.get(name)
    assert block is not None
    assert (len(block), block.nbytes, block.readable, block.sealed) == (size, size, size, True)
    assert bytes(block) == data
    assert block.tobytes() == data
    assert memoryview(block).readonly
    client.delete(name)


@on_one_client
@given(array=arrays.arrays(dtype=arrays.scalar_dtypes(), shape=arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)))
def test_a_buffer_is_stored_by_all_its_bytes(client: Client, name: str, array: numpy.ndarray) -> None:
    # A float32 buffer must not lose three quarters of itself; dtypes that have no buffer format count as well.
    client.delete(name)
    client.put(name, array)
    block = client.get(name)
    assert block is not None
    assert block.nbytes == array.nbytes
    assert bytes(block) == array.tobytes()


@pytest.mark.parametrize("data", [
    bytearray(b"bytearray"), memoryview(array.array("d", [1.0, 2.0])), array.array("i", range(9)),
    (ctypes.c_uint16 * 3)(1, 2, 3), memoryview(b"abcdef")[1:4],
])  # fmt: skip
def test_every_kind_of_buffer_is_stored(client: Client, name: str, data: object) -> None:
    client.put(name, data)  # type: ignore[arg-type]
    block = client.get(name)
    assert block is not None
    assert bytes(block) == memoryview(data).tobytes()  # type: ignore[arg-type]


def test_a_buffer_that_is_not_contiguous_is_refused(client: Client, name: str) -> None:
    matrix = numpy.arange(12, dtype="float32").reshape(3, 4)
    for strided in (matrix.T, matrix[:, ::2], memoryview(b"abcdef")[::2]):
        with pytest.raises(BufferError, match="contiguous"):
            client.put(name, strided)
    assert not client.exists(name)


def test_what_has_no_buffer_is_refused_with_its_type(client: Client, name: str) -> None:
    with pytest.raises(TypeError, match="`str` has no buffer"):
        client.put(name, "text")  # type: ignore[arg-type]


def test_a_miss_is_none(client: Client, name: str) -> None:
    assert client.get(name) is None
    assert client.follow(name) is None
    assert not client.exists(name)
    assert not client.delete(name)


def test_the_first_put_stays_until_it_is_deleted(client: Client, name: str) -> None:
    client.put(name, b"first")
    client.put(name, b"second")
    assert bytes(client.get(name) or b"") == b"first"
    assert client.delete(name)
    client.put(name, b"second")
    assert bytes(client.get(name) or b"") == b"second"


def test_others_find_a_block_once_it_is_flushed(
    client: Client, name: str, connect: Callable[..., Client], transport: str
) -> None:
    client.put(name, b"for others")
    client.flush()
    for other in (connect(transport), connect("auto"), connect("tcp")):
        assert bytes(other.get(name) or b"") == b"for others"


@on_one_client
@given(blocks=st.lists(st.binary(max_size=3000), max_size=20))
def test_a_batch_comes_back_in_order(client: Client, name: str, blocks: list[bytes]) -> None:
    keys = [f"{name} {index}" for index in range(len(blocks))]
    client.delete_many(keys)
    client.put_many(zip(keys, blocks, strict=True))
    missing = [f"{name} missing"]
    assert client.exists_many(keys + missing) == [True] * len(keys) + [False]
    prefix = client.longest_prefix(keys + missing + keys)
    assert (prefix.sealed, prefix.present) == (len(keys), len(keys))
    found = client.get_many(keys + missing)
    assert [None if block is None else bytes(block) for block in found] == [*blocks, None]
    assert client.delete_many(keys + missing) == len(keys)


def test_a_mapping_is_a_batch(client: Client, name: str) -> None:
    client.put_many({name: b"one", name.encode() + b"'": b"two"})
    assert [bytes(block or b"") for block in client.get_many([name, f"{name}'"])] == [b"one", b"two"]


def test_a_batch_of_something_else_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="pairs"):
        client.put_many([b"no pair"])  # type: ignore[list-item]


def test_numpy_reads_a_block_where_it_lies(client: Client, name: str) -> None:
    array = numpy.linspace(0, 1, 1000, dtype="float32")
    client.put(name, array)
    block = client.get(name)
    assert block is not None
    one, two = numpy.frombuffer(block, "float32"), numpy.frombuffer(block, "float32")
    assert numpy.array_equal(one, array)
    assert one.ctypes.data == two.ctypes.data
    assert not one.flags.writeable
    through_dlpack = numpy.from_dlpack(block)
    assert through_dlpack.ctypes.data == one.ctypes.data
    assert not through_dlpack.flags.writeable


def test_readinto_fills_the_front_of_a_buffer(client: Client, name: str) -> None:
    client.put(name, b"abc")
    block = client.get(name)
    assert block is not None
    room = numpy.full(5, 255, dtype="uint8")
    assert block.readinto(room) == 3
    assert room.tobytes() == b"abc\xff\xff"
    with pytest.raises(ValueError, match="2 bytes, the block 3"):
        block.readinto(bytearray(2))
    with pytest.raises((BufferError, TypeError)):
        block.readinto(b"read-only")


def test_a_block_larger_than_the_pool_is_refused_at_once(client: Client, name: str) -> None:
    began = time.monotonic()
    with pytest.raises(TooLarge) as caught:
        client.put(name, bytes(65 * MEGABYTE), timeout=30)
    assert time.monotonic() - began < 5
    assert not caught.value.retryable
    with pytest.raises(TooLarge):
        client.reserve(name, 1 << 40, timeout=30)


def test_a_full_pool_says_so_at_once_or_at_the_deadline(client: Client, name: str) -> None:
    held = []

    def fill() -> None:
        for index in range(100):
            held.append(client.reserve(f"{name} {index}", MEGABYTE))

    with pytest.raises(NoRoom) as caught:
        fill()
    assert caught.value.retryable
    began = time.monotonic()
    with pytest.raises(ChariotError) as late:
        client.put(name, bytes(4 * MEGABYTE), timeout=0.3)
    assert isinstance(late.value, NoRoom)
    assert 0.25 < time.monotonic() - began < 2
    held.clear()
    client.put(name, bytes(4 * MEGABYTE), timeout=5)
    assert client.exists(name)
    client.delete(name)


def test_a_block_expires(client: Client, name: str) -> None:
    client.put(name, b"short-lived", time_to_live=0.2)
    assert client.exists(name)
    wait_for(lambda: not client.exists(name))


def test_times_that_are_none_are_refused(client: Client, name: str) -> None:
    for seconds in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            client.get(name, timeout=seconds)
        with pytest.raises(ValueError, match="time_to_live"):
            client.put(name, b"", time_to_live=seconds)
