"""Growing blocks: written in place, followed as they grow, sealed or abandoned."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chariot_ds import Client, Lost, TimedOut


def test_a_growing_block_is_read_as_it_grows(
    client: Client, name: str, connect: Callable[..., Client], transport: str
) -> None:
    data = os.urandom(10_000)
    reader = connect(transport)
    block = client.reserve(name, len(data))
    client.flush()
    assert reader.get(name) is None
    assert not reader.exists(name)
    assert (reader.longest_prefix([name]).sealed, reader.longest_prefix([name]).present) == (0, 1)
    followed = reader.follow(name)
    assert followed is not None
    assert (followed.nbytes, followed.readable, followed.sealed) == (len(data), 0, False)

    block.write_at(0, data[:4000])
    block.advance(4000)
    assert followed.wait_beyond(0, timeout=5) == 4000
    assert bytes(followed) == data[:4000]
    early = memoryview(followed)

    block.write_at(4000, data[4000:])
    block.seal()
    readable = 4000
    while not followed.sealed:
        readable = followed.wait_beyond(readable, timeout=5)
    assert readable == len(data)
    assert bytes(followed) == data
    assert bytes(early) == data[:4000]
    again = reader.get(name)
    assert again is not None
    assert bytes(again) == data


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=5000), min_size=1, max_size=8))
def test_a_follower_sees_every_prefix_as_it_was_written(client: Client, name: str, parts: list[bytes]) -> None:
    client.delete(name)
    data = b"".join(parts)
    block = client.reserve(name, len(data))
    followed = client.follow(name)
    assert followed is not None
    offset = 0
    for part in parts:
        block.write_at(offset, part)
        offset += len(part)
        block.advance(offset)
        while followed.readable < offset:
            followed.wait_beyond(followed.readable, timeout=5)
        assert bytes(followed) == data[:offset]
    block.seal()
    assert followed.wait_beyond(len(data), timeout=5) == len(data)
    assert followed.sealed


def test_a_with_statement_seals(client: Client, name: str) -> None:
    with client.reserve(name, 3) as block:
        block.write_at(0, b"abc")
    assert bytes(client.get(name) or b"") == b"abc"
    with pytest.raises(ValueError, match="sealed or abandoned"):
        block.write_at(0, b"x")


def test_an_exception_abandons_and_followers_learn_of_it(
    client: Client, name: str, connect: Callable[..., Client], transport: str
) -> None:
    reader = connect(transport)
    followed = []

    def fail() -> None:
        with client.reserve(name, 8) as block:
            block.write_at(0, b"abc")
            block.advance(3)
            client.flush()
            followed.append(reader.follow(name))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    [block] = followed
    assert block is not None
    if block.readable == 0:
        assert block.wait_beyond(0, timeout=5) == 3
    with pytest.raises(Lost):
        block.wait_beyond(3, timeout=5)
    assert bytes(block) == b"abc"
    assert client.get(name) is None


def test_a_dropped_block_is_abandoned(client: Client, name: str) -> None:
    block = client.reserve(name, 8)
    client.flush()
    assert client.follow(name) is not None
    del block
    client.flush()
    assert client.follow(name) is None


def test_views_write_in_place_and_keep_the_block_from_being_sealed(client: Client, name: str) -> None:
    block = client.reserve(name, 40)
    array = numpy.frombuffer(block, "float32")
    array[:] = numpy.arange(10)
    # A view could change a sealed block.
    with pytest.raises(BufferError, match="still in use"):
        block.seal()
    expected = array.tobytes()
    del array
    block.seal()
    assert bytes(client.get(name) or b"") == expected
    with pytest.raises(ValueError, match="sealed or abandoned"):
        memoryview(block)


def test_a_view_outlives_an_abandoned_block(client: Client, name: str) -> None:
    block = client.reserve(name, 1 << 20)
    view = memoryview(block)
    block.abandon()
    del block
    view[:] = b"x" * len(view)
    view.release()
    client.flush()
    assert client.get(name) is None


def test_a_with_statement_that_ends_with_a_view_raises_and_abandons(client: Client, name: str) -> None:
    with pytest.raises(BufferError), client.reserve(name, 8) as block:
        view = memoryview(block)
    view.release()
    client.flush()
    assert client.follow(name) is None


def test_what_does_not_fit_is_refused(client: Client, name: str) -> None:
    with client.reserve(name, 8) as block:
        with pytest.raises(ValueError, match="beyond the block's 8 bytes"):
            block.write_at(5, b"abcd")
        with pytest.raises(ValueError, match="beyond the block's 8 bytes"):
            block.advance(9)
        block.write_at(0, b"abcdefgh")
        block.advance(4)
        with pytest.raises(ValueError, match="never change"):
            block.write_at(3, b"x")
        with pytest.raises(ValueError, match="never change"):
            block.advance(3)


def test_a_wait_for_more_ends_at_its_deadline(client: Client, name: str) -> None:
    block = client.reserve(name, 8)
    client.flush()
    followed = client.follow(name)
    assert followed is not None
    with pytest.raises(TimedOut):
        followed.wait_beyond(0, timeout=0.1)
    block.abandon()


def test_many_blocks_are_reserved_at_once(client: Client, name: str) -> None:
    blocks = client.reserve_many({f"{name} {index}": 100 + index for index in range(10)})
    for index, block in enumerate(blocks):
        assert block.nbytes == len(block) == 100 + index
        block.write_at(0, bytes([index]) * block.nbytes)
        block.seal()
    found = client.get_many([f"{name} {index}" for index in range(10)])
    assert [bytes(block or b"") for block in found] == [bytes([index]) * (100 + index) for index in range(10)]


def test_following_waits_for_a_block_to_be_begun(
    client: Client, name: str, connect: Callable[..., Client], transport: str
) -> None:
    writer = connect(transport)

    def write() -> None:
        with writer.reserve(name, 4) as block:
            block.write_at(0, b"late")

    timer = threading.Timer(0.2, write)
    timer.start()
    followed = client.follow(name, timeout=10)
    assert followed is not None
    while not followed.sealed:
        followed.wait_beyond(followed.readable, timeout=5)
    assert bytes(followed) == b"late"
    timer.join()
    assert client.follow(f"{name} never", timeout=0.1) is None
