"""How a block is divided into shards: between the ranks that hold its KV heads, and within a rank.

Each shard is a block of its own in the data worker. Left alone, a rank keeps all of its heads as one shard, so that
instances share blocks that have equally many ranks. Told that a block has more shards than there are ranks, it cuts its
heads into several, each of which is byte for byte what a rank of an instance with more ranks keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chariot_ds.vllm import compat
from chariot_ds.vllm.settings import Settings


@dataclass(frozen=True)
class Division:
    """What one rank has of the shards of a block."""

    total: int
    """Shards of a block, those of all ranks together."""
    first: int
    """The rank's first."""
    count: int
    """How many the rank has."""
    is_saved_here: bool
    """Whether the rank is the first of those that hold the same."""

    @classmethod
    def of(cls, vllm_config: Any, settings: Settings) -> Division:
        """That of the rank in `vllm_config`; raises ValueError where heads cannot be divided as it is wanted."""
        parallel = vllm_config.parallel_config
        replicas = compat.kv_replicas(vllm_config)
        holders, rank = parallel.tensor_parallel_size // replicas, parallel.rank % parallel.tensor_parallel_size
        total, heads = settings.kv_shards or holders, compat.kv_heads(vllm_config)
        if settings.kv_shards is not None and (heads % total or total % holders):
            raise ValueError(
                f"`chariot.kv_shards` is `{total}`: the {heads} KV heads of the model, held in {holders} "
                f"parts, can be divided into {_possible(heads, holders)}."
            )
        count = total // holders
        return cls(total, rank // replicas * count, count, rank % replicas == 0)

    def numbers(self, group: int) -> range:
        """The numbers that the native copiers give to the rank's shards of a group, in place of the group's own."""
        return range(group * self.count, (group + 1) * self.count)

    def group(self, number: int) -> int:
        """The group of which a shard is."""
        return number // self.count


def _possible(heads: int, holders: int) -> str:
    """The numbers of shards that there can be, for people."""
    return ", ".join(str(total) for total in range(1, heads + 1) if heads % total == 0 and total % holders == 0)
