"""Torch tensors as blocks: stored with their dtype and shape, read back without a copy.

A tensor's block is a safetensors file with one tensor, called "tensor", whose data begins at a multiple of 64 bytes, so
that it can be used where it lies. Any device and any strides can be stored, in one copy; what is read back is in
host memory and contiguous. Torch is imported by the first call, not before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from chariot_ds.errors import NotATensor, Unavailable

if TYPE_CHECKING:
    import torch

    from chariot_ds._native import Block, Client, GrowingBlock
    from chariot_ds.keys import KeyLike

_ALIGNMENT = 64
_LENGTH_BYTES = 8

# The names of safetensors for the dtypes of torch. Older releases of torch lack some of them.
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
}
_NAMES = {f"torch.{dtype}": name for name, dtype in _DTYPES.items()}


def put_tensor(
    client: Client,
    key: KeyLike,
    tensor: torch.Tensor,
    *,
    parent: KeyLike | None = None,
    time_to_live: float | None = None,
    timeout: float = 0.0,
) -> None:
    """Stores `tensor` under `key`; the options are those of `Client.put`."""
    header = _header(tensor)
    nbytes = len(header) + _nbytes(tensor)
    with client.reserve(key, nbytes, parent=parent, time_to_live=time_to_live, timeout=timeout) as block:
        _fill(block, header, tensor)


def put_tensors(
    client: Client,
    tensors: Mapping[Any, torch.Tensor] | Iterable[tuple[KeyLike, torch.Tensor]],
    *,
    time_to_live: float | None = None,
    timeout: float = 0.0,
) -> None:
    """Stores many tensors: a mapping from keys to tensors, or an iterable of such pairs."""
    pairs = list(tensors.items() if isinstance(tensors, Mapping) else tensors)
    headers = [_header(tensor) for _, tensor in pairs]
    lengths = [(key, len(header) + _nbytes(tensor)) for (key, tensor), header in zip(pairs, headers, strict=True)]
    blocks = client.reserve_many(lengths, time_to_live=time_to_live, timeout=timeout)
    for block, header, (_, tensor) in zip(blocks, headers, pairs, strict=True):
        with block:
            _fill(block, header, tensor)


def get_tensor(
    client: Client, key: KeyLike, *, out: torch.Tensor | None = None, timeout: float = 0.0
) -> torch.Tensor | None:
    """The tensor stored under `key`, or None when there is none.

    Without `out` it lies in the worker's shared memory, pinned for as long as it is used, and must not be written to:
    `clone()` it first. With `out`, a tensor of the same dtype and shape on any device, it is copied there, and `out`
    is returned.
    """
    block = client.get(key, timeout=timeout)
    if block is None:
        return None
    tensor = tensor_of(block)
    return tensor if out is None else _copy(block, tensor, out)


def get_tensors(client: Client, keys: Iterable[KeyLike], *, timeout: float = 0.0) -> list[torch.Tensor | None]:
    """The tensors stored under many keys, as `get_tensor` returns them."""
    blocks = client.get_many(keys, timeout=timeout)
    return [None if block is None else tensor_of(block) for block in blocks]


def tensor_of(block: Block) -> torch.Tensor:
    """The tensor in `block`, without a copy; it must not be written to."""
    import torch
    from torch.utils.dlpack import from_dlpack

    dtype_name, shape, start, end = _read_header(block)
    dtype = getattr(torch, _DTYPES.get(dtype_name, ""), None)
    if dtype is None:
        raise NotATensor(f"the block holds a tensor of dtype `{dtype_name}`, which this torch does not have")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise NotATensor(f"the block holds {end - start} bytes for a tensor of shape {shape}")
    data = from_dlpack(block)[start:end]
    if data.data_ptr() % dtype.itemsize:
        # Shared memory is aligned; what came in a batch over TCP lies as it was received.
        data = data.clone()
    return data.view(dtype).view(shape)


def _fill(block: GrowingBlock, header: bytes, tensor: torch.Tensor) -> None:
    from torch.utils.dlpack import from_dlpack

    block.write_at(0, header)
    target = from_dlpack(block)[len(header) :]
    target.view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())


def _copy(block: Block, tensor: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    if (out.dtype, out.shape) != (tensor.dtype, tensor.shape):
        raise ValueError(
            f"`out` is {out.dtype} of shape {list(out.shape)}, "
            f"the stored tensor {tensor.dtype} of shape {list(tensor.shape)}"
        )
    out.detach().copy_(tensor)
    if not block.intact:
        raise Unavailable("the connection that held the block was lost: the copied bytes may be wrong")
    return out


def _nbytes(tensor: torch.Tensor) -> int:
    nbytes: int = tensor.numel() * tensor.element_size()
    return nbytes


def _header(tensor: torch.Tensor) -> bytes:
    import torch

    name = _NAMES.get(str(tensor.dtype))
    if name is None:
        raise TypeError(f"tensors of dtype `{tensor.dtype}` cannot be stored")
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        raise TypeError(f"a tensor of layout `{tensor.layout}` on device `{tensor.device}` has no bytes to store")
    entry = {"dtype": name, "shape": list(tensor.shape), "data_offsets": [0, _nbytes(tensor)]}
    text = json.dumps({"tensor": entry}, separators=(",", ":")).encode()
    length = -(-(_LENGTH_BYTES + len(text)) // _ALIGNMENT) * _ALIGNMENT - _LENGTH_BYTES
    return length.to_bytes(_LENGTH_BYTES, "little") + text.ljust(length)


def _read_header(block: Block) -> tuple[str, list[int], int, int]:
    """The tensor's dtype and shape, and where its bytes begin and end in the block."""
    with memoryview(block) as view:
        start = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "little")
        if not _LENGTH_BYTES < start <= len(view):
            raise NotATensor(f"block {block.key} was not written by put_tensor")
        text = bytes(view[_LENGTH_BYTES:start])
    try:
        entry = json.loads(text)["tensor"]
        dtype, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        shape = [int(length) for length in shape]
        begin, end = start + int(first), start + int(last)
    except (ValueError, KeyError, TypeError) as error:
        raise NotATensor(f"block {block.key} was not written by put_tensor") from error
    if not start <= begin <= end <= block.nbytes or any(length < 0 for length in shape):
        raise NotATensor(f"block {block.key} names bytes that it does not have")
    return str(dtype), shape, begin, end
