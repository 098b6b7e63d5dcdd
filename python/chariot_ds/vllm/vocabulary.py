"""What scheduler side and worker side say to each other, and what they call things.

A *block* is one block-table entry of a group: the pages of all of the group's layers. Its *content key* stands for the
tokens it holds and all before them; each rank keeps *shards* of it, one unless told otherwise, under keys made from
both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)

from chariot_ds.vllm.blocks import LoadBlock, SaveBlock


@dataclass
class Load:
    """All that one request loads; of each group in the order of the sequence."""

    request_id: str
    blocks: list[LoadBlock]
    seconds: float
    """How long it may take."""


@dataclass
class StepMetadata(KVConnectorMetadata):
    """What the workers do in one step."""

    loads: list[Load] = field(default_factory=list)
    tails: list[SaveBlock] = field(default_factory=list)
    """Partly filled blocks that vLLM has taken from requests: saved before the step writes anything."""
    saves: list[SaveBlock] = field(default_factory=list)
    forwards: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    """By address of a data worker: the blocks, each group and key, that are read there next."""
    pins: list[tuple[float, list[tuple[int, bytes]]]] = field(default_factory=list)
    """For how many seconds to keep which blocks before others: those that end hot prompts, each group and key."""
    is_empty: bool = False
    """No tokens are computed in this step."""
    rests: bool = False
    """Some request waits for what another instance computes."""


@dataclass
class WorkerReport(KVConnectorWorkerMetadata):
    """What a step's workers tell the scheduler side."""

    failed_loads: set[str] = field(default_factory=set)
    """Requests of which some block could not be loaded."""

    def aggregate(self, other: KVConnectorWorkerMetadata) -> WorkerReport:
        """The report of both ranks."""
        assert isinstance(other, WorkerReport)
        return WorkerReport(self.failed_loads | other.failed_loads)


@dataclass
class ShardDescriptions(KVConnectorHandshakeMetadata):
    """The shards that one rank keeps of a block, by group; ranks that hold the same bytes describe the same shards."""

    groups: list[list[bytes]]
