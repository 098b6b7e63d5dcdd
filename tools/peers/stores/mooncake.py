"""Mooncake Store: `python -m tools.peers.stores.mooncake (in-process MASTER | service SERVICE)`."""

import sys
from collections.abc import Sequence

from mooncake.store import MooncakeDistributedStore

from tools.peers import workload

SEGMENT = 2 << 30
LOCAL_BUFFER = 512 << 20


class Mooncake:
    """A client whose memory is its own process's, or that of a service on this host, shared with it."""

    def __init__(self, mode: str, address: str) -> None:
        self.client = MooncakeDistributedStore()
        if mode == "in-process":
            code = self.client.setup("127.0.0.1", "P2PHANDSHAKE", SEGMENT, LOCAL_BUFFER, "tcp", "", address)
        else:
            code = self.client.setup_dummy(LOCAL_BUFFER, LOCAL_BUFFER, address)
        succeed(code)

    def put(self, key: str, data: bytes) -> None:
        """One key."""
        succeed(self.client.put(key, data))

    def get(self, key: str) -> bytes:
        """One key."""
        return self.client.get(key)

    def put_many(self, keys: Sequence[str], data: Sequence[bytes]) -> None:
        """All in one call."""
        succeed(self.client.put_batch(list(keys), list(data)))

    def get_many(self, keys: Sequence[str]) -> Sequence[bytes]:
        """All in one call."""
        return self.client.get_batch(list(keys))

    def flush(self) -> None:
        """A put that has returned can be got."""

    def delete(self, keys: Sequence[str]) -> None:
        """All in one call; what a lease protects goes when room is needed."""
        self.client.batch_remove(list(keys), True)


def succeed(code: int) -> None:
    """Mooncake's functions return an error number."""
    if code != 0:
        raise SystemExit(f"Mooncake answered with error {code}")


if __name__ == "__main__":
    workload.run(Mooncake(*sys.argv[1:3]))
