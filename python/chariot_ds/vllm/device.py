"""Two ways between the paged KV cache and host memory: straight, and through torch.

`HostPath` is for pages in host memory: the native copier reads and writes them where they are. `TorchPath` is for every
other device: torch gathers a step's pages into host memory on a stream of its own, or scatters loaded ones from there,
and the native copier sees that staging memory as a paged cache whose blocks are its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from chariot_ds._native import PagedCache
from chariot_ds.vllm import pages
from chariot_ds.vllm.blocks import LoadBlock, SaveBlock
from chariot_ds.vllm.pages import Part

Groups = list[list[list[Part]]]
"""By group and layer: the parts of the layer's pages."""
LayerReady = Callable[[int, int], None]
"""Says that a layer of a group can be copied."""


class SaveBatch(Protocol):
    """The pages of a step's blocks on their way out."""

    cache: PagedCache
    blocks: list[SaveBlock]
    """The same blocks, with their places in `cache`."""

    def layer_computed(self, group: int, layer: int, ready: LayerReady) -> None:
        """The model has written the layer's pages."""

    def all_computed(self, ready: LayerReady) -> None:
        """The model has written all pages."""


class LoadBatch(Protocol):
    """Blocks on their way to their pages."""

    cache: PagedCache
    blocks: list[LoadBlock]
    """The same blocks, with their places in `cache`."""

    def arrived(self, failed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """The native copier is done; `failed` are places in `cache`. Returns the pages that failed."""

    def is_done(self) -> bool:
        """Whether the pages hold what arrived."""


class HostPath:
    """Pages in host memory."""

    def __init__(self, groups: Groups) -> None:
        self.cache = PagedCache(
            _layouts(groups), [part.tensor for group in groups for layer in group for part in layer]
        )

    def save(self, blocks: list[SaveBlock]) -> SaveBatch:
        """Begins to save `blocks`."""
        return _HostSave(self.cache, blocks)

    def load(self, blocks: list[LoadBlock]) -> LoadBatch:
        """Begins to load `blocks`."""
        return _HostLoad(self.cache, blocks)


class _HostSave:
    def __init__(self, cache: PagedCache, blocks: list[SaveBlock]) -> None:
        self.cache = cache
        self.blocks = blocks

    def layer_computed(self, group: int, layer: int, ready: LayerReady) -> None:
        ready(group, layer)

    def all_computed(self, ready: LayerReady) -> None:
        """The saver's `finish` copies what was not declared ready."""


class _HostLoad:
    def __init__(self, cache: PagedCache, blocks: list[LoadBlock]) -> None:
        self.cache = cache
        self.blocks = blocks

    def arrived(self, failed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return list(failed)

    def is_done(self) -> bool:
        return True


class TorchPath:
    """Pages on any device that torch knows."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.views = [[[part.view() for part in layer] for layer in group] for group in groups]
        self.lane = _lane(groups[0][0][0].tensor.device)

    def save(self, blocks: list[SaveBlock]) -> SaveBatch:
        """Begins to save `blocks`."""
        return _TorchSave(self, blocks)

    def load(self, blocks: list[LoadBlock]) -> LoadBatch:
        """Begins to load `blocks`."""
        return _TorchLoad(self, blocks)


class _Staging:
    """Host memory for the pages of some blocks: of each group, its blocks in the order given."""

    def __init__(self, path: TorchPath, blocks: Sequence[LoadBlock | SaveBlock]) -> None:
        self.path = path
        ids: list[list[int]] = [[] for _ in path.groups]
        rows = []
        for block in blocks:
            rows.append(len(ids[block.group]))
            ids[block.group].append(block.block)
        self.rows = rows
        self.pages = ids
        self.indices = [torch.tensor(group).to(path.lane.device, non_blocking=True) for group in ids]
        self.parts = [
            [[path.lane.host_memory(max(len(group), 1), part.page_bytes) for part in layer] for layer in layers]
            for group, layers in zip(ids, path.groups, strict=True)
        ]
        layouts = [
            (max(len(group), 1), [[(row.data_ptr(), row.stride(0), row.shape[1]) for row in layer] for layer in layers])
            for group, layers in zip(ids, self.parts, strict=True)
        ]
        self.cache = PagedCache(layouts, self.parts)


class _TorchSave:
    def __init__(self, path: TorchPath, blocks: list[SaveBlock]) -> None:
        self._staging = _Staging(path, blocks)
        self.cache = self._staging.cache
        self.blocks = [block._replace(block=row) for block, row in zip(blocks, self._staging.rows, strict=True)]
        self._gathered: set[tuple[int, int]] = set()

    def layer_computed(self, group: int, layer: int, ready: LayerReady) -> None:
        if self._staging.path.lane.is_synchronous:
            self._gather(group, layer)
            ready(group, layer)

    def all_computed(self, ready: LayerReady) -> None:
        gathered = []
        for group, layers in enumerate(self._staging.parts):
            for layer in range(len(layers)):
                if self._staging.pages[group] and (group, layer) not in self._gathered:
                    gathered.append((group, layer, self._gather(group, layer)))
        for group, layer, wait in gathered:
            wait()
            ready(group, layer)

    def _gather(self, group: int, layer: int) -> Callable[[], None]:
        """Starts to copy a layer's pages to the staging memory; what is returned waits for it."""
        self._gathered.add((group, layer))
        staging = self._staging

        def copy() -> None:
            for view, rows in zip(staging.path.views[group][layer], staging.parts[group][layer], strict=True):
                rows.copy_(view.index_select(0, staging.indices[group]), non_blocking=True)

        return staging.path.lane.run(copy)


class _TorchLoad:
    def __init__(self, path: TorchPath, blocks: list[LoadBlock]) -> None:
        self._staging = _Staging(path, blocks)
        self.cache = self._staging.cache
        self.blocks = [block._replace(block=row) for block, row in zip(blocks, self._staging.rows, strict=True)]
        self._is_done: Callable[[], bool] = lambda: True

    def arrived(self, failed: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        staging = self._staging
        lost = set(failed)

        def copy() -> None:
            for group, ids in enumerate(staging.pages):
                kept = [row for row in range(len(ids)) if (group, row) not in lost]
                if not kept:
                    continue
                indices, rows_kept = staging.indices[group], None
                if len(kept) < len(ids):
                    rows_kept = torch.tensor(kept)
                    indices = indices[rows_kept.to(indices.device)]
                for views, parts in zip(staging.path.views[group], staging.parts[group], strict=True):
                    for view, rows in zip(views, parts, strict=True):
                        chosen = rows if rows_kept is None else rows[rows_kept]
                        view.index_copy_(0, indices, chosen.to(view.device, non_blocking=True))

        self._is_done = staging.path.lane.start(copy)
        return [(group, staging.pages[group][row]) for group, row in failed]

    def is_done(self) -> bool:
        return self._is_done()


class _SynchronousLane:
    """Copies between tensors in host memory, which are done when the call returns."""

    is_synchronous = True
    device = torch.device("cpu")

    def host_memory(self, rows: int, length: int) -> torch.Tensor:
        return torch.empty((rows, length), dtype=torch.uint8)

    def run(self, copy: Callable[[], None]) -> Callable[[], None]:
        copy()
        return lambda: None

    def start(self, copy: Callable[[], None]) -> Callable[[], bool]:
        copy()
        return lambda: True


class _StreamLane:
    """Copies on a stream of their own, after what the engine has submitted so far."""

    is_synchronous = False

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._library: Any = torch.get_device_module(device)
        self._stream = self._library.Stream(device=device)

    def host_memory(self, rows: int, length: int) -> torch.Tensor:
        return torch.empty((rows, length), dtype=torch.uint8, pin_memory=True)

    def run(self, copy: Callable[[], None]) -> Callable[[], None]:
        wait: Callable[[], None] = self._submit(copy).synchronize
        return wait

    def start(self, copy: Callable[[], None]) -> Callable[[], bool]:
        is_done: Callable[[], bool] = self._submit(copy).query
        return is_done

    def _submit(self, copy: Callable[[], None]) -> Any:
        self._stream.wait_stream(self._library.current_stream(self.device))
        with self._library.stream(self._stream):
            copy()
            event = self._library.Event()
            event.record(self._stream)
        return event


def _lane(device: torch.device) -> _SynchronousLane | _StreamLane:
    return _SynchronousLane() if device.type == "cpu" else _StreamLane(device)


def _layouts(groups: Groups) -> list[tuple[int, list[list[tuple[int, int, int]]]]]:
    return [(group[0][0].blocks, [pages.layout(layer) for layer in group]) for group in groups]
