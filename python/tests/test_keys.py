"""Keys: names of any length and any characters, or 32 bytes of one's own."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chariot_ds import Client, Key

raw_keys = st.binary(min_size=32, max_size=32)


@given(raw_keys)
def test_a_key_reads_back_from_all_its_forms(raw: bytes) -> None:
    key = Key(raw)
    assert bytes(key) == raw
    assert Key.from_hex(key.hex()) == Key.from_hex(str(key)) == key
    assert pickle.loads(pickle.dumps(key)) == key
    assert eval(repr(key)) == key
    assert {key: 1}[Key(raw)] == 1


@given(raw_keys, raw_keys)
def test_keys_compare_as_their_bytes_do(left: bytes, right: bytes) -> None:
    assert (Key(left) == Key(right)) == (left == right)
    assert (Key(left) < Key(right)) == (left < right)


def test_a_str_names_the_same_block_as_its_utf8_bytes() -> None:
    assert Key.of_name("é/.. x" * 1000) == Key.of_name("é/.. x".encode() * 1000)
    assert Key.of_name("a") != Key.of_name("b")


@pytest.mark.parametrize("raw", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_another_length_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Key(raw)


def test_what_is_no_key_is_refused_with_its_type(client: Client) -> None:
    with pytest.raises(TypeError, match="`int`"):
        client.get(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not a single one"):
        client.get_many("one name")
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        Key.from_hex("zz")


def test_a_block_is_found_under_every_form_of_its_key(client: Client, name: str) -> None:
    client.put(name, b"bytes")
    for key in (name, name.encode(), Key.of_name(name)):
        block = client.get(key)
        assert block is not None
        assert bytes(block) == b"bytes"
        assert block.key == Key.of_name(name)


def test_names_have_no_limits(client: Client, name: str) -> None:
    for key in ("", "\0", "/../", "x" * 100_000, "\N{GRINNING FACE}", b"\xff" * 300):
        client.delete(key)
        client.put(key, repr(key)[:64].encode())
        block = client.get(key)
        assert block is not None
        assert bytes(block) == repr(key)[:64].encode()
