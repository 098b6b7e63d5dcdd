"""Tensors come back with their dtype, shape and every bit, and without a copy."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chariot_ds import Client, NotATensor
from chariot_ds.tensors import get_tensors, put_tensors, tensor_of

torch = pytest.importorskip("torch")

DTYPES = [
    dtype
    for name in (
        "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16",
        "float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
        "float8_e8m0fnu",
    )
    if (dtype := getattr(torch, name, None))
]  # fmt: skip

on_one_client = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def random_tensor(dtype: Any, shape: list[int]) -> Any:
    if dtype == torch.bool:
        return torch.randint(0, 2, shape).to(torch.bool)
    count = torch.Size(shape).numel() * dtype.itemsize
    return torch.randint(0, 256, (count,), dtype=torch.uint8).view(dtype).view(shape)


def same_bits(left: Any, right: Any) -> bool:
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        return False
    left, right = left.contiguous().view(-1).view(torch.uint8), right.contiguous().view(-1).view(torch.uint8)
    return bool(torch.equal(left, right))


@on_one_client
@given(dtype=st.sampled_from(DTYPES), shape=st.lists(st.integers(0, 7), max_size=4))
def test_a_tensor_comes_back_bit_by_bit(client: Client, name: str, dtype: Any, shape: list[int]) -> None:
    tensor = random_tensor(dtype, shape)
    client.delete(name)
    client.put_tensor(name, tensor)
    found = client.get_tensor(name)
    assert found is not None
    assert same_bits(found, tensor)
    out = torch.empty_like(tensor)
    assert client.get_tensor(name, out=out) is out
    assert same_bits(out, tensor)


@on_one_client
@given(dtype=st.sampled_from(DTYPES), order=st.permutations(range(3)), step=st.integers(1, 3))
def test_strides_do_not_matter(client: Client, name: str, dtype: Any, order: list[int], step: int) -> None:
    tensor = random_tensor(dtype, [4, 5, 6]).permute(order)[::step, :, 1:]
    client.delete(name)
    client.put_tensor(name, tensor)
    found = client.get_tensor(name)
    assert found is not None
    assert found.is_contiguous()
    assert same_bits(found, tensor)


def test_a_tensor_is_read_where_it_lies_and_keeps_its_pin(client: Client, name: str) -> None:
    client.put_tensor(name, torch.arange(100_000))
    before = client.status()["pinned_blocks"]
    one, two = client.get_tensor(name), client.get_tensor(name)
    assert one is not None
    assert two is not None
    if client.status()["pinned_blocks"] > before:
        assert one.data_ptr() == two.data_ptr()
        assert one.data_ptr() % 64 == 0
    client.delete(name)
    tail = one[-3:]
    del one, two
    assert tail.tolist() == [99997, 99998, 99999]


def test_a_tensor_is_aligned_whatever_came_before_it(client: Client, name: str) -> None:
    client.put(f"{name} odd", b"odd")
    client.put_tensor(name, torch.arange(5))
    _, block = client.get_many([f"{name} odd", name])
    assert block is not None
    tensor = tensor_of(block)
    assert tensor.data_ptr() % tensor.element_size() == 0
    assert tensor.tolist() == [0, 1, 2, 3, 4]


def test_a_tensor_that_needs_gradients_is_stored_by_its_values(client: Client, name: str) -> None:
    tensor = torch.ones(3, requires_grad=True) * 2
    client.put_tensor(name, tensor)
    found = client.get_tensor(name)
    assert found is not None
    assert found.tolist() == [2, 2, 2]
    assert not found.requires_grad


def test_batches_of_tensors(client: Client, name: str) -> None:
    tensors = {f"{name} {index}": torch.full((index, 3), float(index)) for index in range(8)}
    put_tensors(client, tensors)
    *found, missing = get_tensors(client, [*tensors, f"{name} missing"])
    assert missing is None
    assert all(one is not None and same_bits(one, other) for one, other in zip(found, tensors.values(), strict=True))


def test_a_tensor_of_another_kind_is_not_copied_to(client: Client, name: str) -> None:
    client.put_tensor(name, torch.zeros(2, 3))
    for out in (torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.float64)):
        with pytest.raises(ValueError, match="`out` is"):
            client.get_tensor(name, out=out)


@pytest.mark.parametrize(
    "data", [b"", b"short", bytes(100), b"\xff" * 100, b"\x08" + bytes(7) + b"{}      " + bytes(9)]
)
def test_a_block_that_is_no_tensor_is_told_apart(client: Client, name: str, data: bytes) -> None:
    client.put(name, data)
    with pytest.raises(NotATensor):
        client.get_tensor(name)


@on_one_client
@given(start=st.integers(-9, 99), end=st.integers(-9, 99), shape=st.lists(st.integers(-1, 9), max_size=3))
def test_a_lying_header_reads_no_other_bytes(client: Client, name: str, start: int, end: int, shape: list[int]) -> None:
    entry = {"dtype": "U8", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps({"tensor": entry}).encode().ljust(120)
    client.delete(name)
    client.put(name, len(text).to_bytes(8, "little") + text + b"x" * 50)
    try:
        found = client.get_tensor(name)
    except NotATensor:
        return
    assert found is not None
    assert found.numel() == end - start <= 50
    assert bytes(found.view(-1).tolist()) == b"x" * (end - start)


def test_what_cannot_be_stored_is_refused(client: Client, name: str) -> None:
    with pytest.raises(TypeError, match="complex128"):
        client.put_tensor(name, torch.zeros(2, dtype=torch.complex128))
    with pytest.raises(TypeError, match="no bytes to store"):
        client.put_tensor(name, torch.zeros(2, device="meta"))
    with pytest.raises(TypeError, match="no bytes to store"):
        client.put_tensor(name, torch.eye(3).to_sparse())
    with pytest.raises(TypeError, match="use put_tensor"):
        client.put(name, torch.zeros(2))


def test_a_block_is_a_safetensors_file(client: Client, name: str) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    tensor = torch.randn(3, 5).to(torch.bfloat16)
    client.put_tensor(name, tensor)
    block = client.get(name)
    assert block is not None
    assert same_bits(safetensors.load(block.tobytes())["tensor"], tensor)
    client.delete(name)
    client.put(name, safetensors.save({"tensor": tensor}))
    found = client.get_tensor(name)
    assert found is not None
    assert same_bits(found, tensor)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_tensor_on_a_gpu_goes_and_comes(client: Client, name: str) -> None:
    tensor = torch.randn(64, 128, device="cuda").t()
    client.put_tensor(name, tensor)
    out = torch.empty(128, 64, device="cuda")
    client.get_tensor(name, out=out)
    assert torch.equal(out, tensor)


def test_neither_torch_nor_numpy_is_imported_before_it_is_needed() -> None:
    program = "import sys, chariot_ds, chariot_ds.tensors; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
