"""openYuanrong datasystem: `python -m tools.peers.stores.yuanrong HOST PORT (default | exclusive)`."""

import sys
from collections.abc import Sequence

from yr.datasystem.kv_client import KVClient

from tools.peers import workload


class Yuanrong:
    """A client of the worker on this host."""

    def __init__(self, host: str, port: str, connection: str) -> None:
        self.client = KVClient(host, int(port), 10_000, enable_exclusive_connection=connection == "exclusive")
        self.client.init()

    def put(self, key: str, data: bytes) -> None:
        """One key."""
        self.client.set(key, data)

    def get(self, key: str) -> bytes:
        """One key."""
        return self.client.get([key])[0]

    def put_many(self, keys: Sequence[str], data: Sequence[bytes]) -> None:
        """Through buffers of its pool, since `mset` takes no values of this size."""
        buffers = self.client.mcreate(list(keys), [len(item) for item in data])
        for buffer, item in zip(buffers, data, strict=True):
            buffer.MutableData()[:] = item
        self.client.mset_buffer(buffers)

    def get_many(self, keys: Sequence[str]) -> Sequence[bytes]:
        """All in one call."""
        return self.client.get(list(keys))

    def flush(self) -> None:
        """A put that has returned can be got."""

    def delete(self, keys: Sequence[str]) -> None:
        """All in one call."""
        self.client.delete(list(keys))


if __name__ == "__main__":
    workload.run(Yuanrong(*sys.argv[1:4]))
