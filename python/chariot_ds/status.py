"""What `Client.status` returns. Newer workers may say more."""

from __future__ import annotations

from typing import TypedDict


class SessionStatus(TypedDict):
    """One client's connection."""

    name: str
    pid: int
    namespace: str
    transport: str
    connected_s: float


class NamespaceStatus(TypedDict):
    """Blocks that were put under one namespace."""

    name: str
    blocks: int
    bytes: int
    quota_bytes: int | None


class SpillStatus(TypedDict):
    """A worker's part on a local disk."""

    file: str
    engine: str
    takes_more: bool
    capacity_bytes: int
    blocks: int
    bytes: int
    coming: int
    stored: int
    stored_bytes: int
    kept: int
    dropped: int
    hits: int
    hit_bytes: int
    misses: int
    corrupt: int
    late: int
    read_errors: int
    write_errors: int
    reclaimed: int
    removed: int


class MemberStatus(TypedDict):
    """One worker of a cluster."""

    address: str
    run: str
    is_reached: bool


class ClusterStatus(TypedDict):
    """A cluster as one of its workers knows it."""

    name: str
    members: list[MemberStatus]
    directory_keys: int
    directory_bytes: int
    wanted: int
    streams: int
    sent_bytes: int
    received_bytes: int
    received_blocks: int
    corrupt: int
    broken: int


class Status(TypedDict):
    """How a worker is. Bytes are bytes, times are seconds, counts are since the worker's start."""

    worker_address: str
    tenant: str | None
    version: str
    pid: int
    uptime_s: float
    capacity_bytes: int
    free_bytes: int
    granted_bytes: int
    largest_free_bytes: int
    sealed_blocks: int
    sealed_bytes: int
    growing_blocks: int
    pinned_blocks: int
    detached_blocks: int
    touched_bytes: int
    huge_pages: bool
    resident_bytes: int
    puts: int
    put_bytes: int
    duplicates: int
    hits: int
    hit_bytes: int
    misses: int
    soft_pinned_blocks: int
    soft_pinned_bytes: int
    namespaces: list[NamespaceStatus]
    evictions: int
    expired: int
    waiting: int
    misuses: int
    sessions: list[SessionStatus]
    log_dir: str
    cluster: ClusterStatus | None
    spill: SpillStatus | None
