"""Redis through redis-py with hiredis: `python -m tools.peers.stores.redis SOCKET`."""

import sys
from collections.abc import Sequence

import redis

from tools.peers import workload


class Redis:
    """A client on a Unix socket."""

    def __init__(self, socket: str) -> None:
        self.client = redis.Redis(unix_socket_path=socket)

    def put(self, key: str, data: bytes) -> None:
        """SET."""
        self.client.set(key, data)

    def get(self, key: str) -> bytes:
        """GET."""
        return self.client.get(key)

    def put_many(self, keys: Sequence[str], data: Sequence[bytes]) -> None:
        """MSET."""
        self.client.mset(dict(zip(keys, data, strict=True)))

    def get_many(self, keys: Sequence[str]) -> Sequence[bytes]:
        """MGET."""
        return self.client.mget(keys)

    def flush(self) -> None:
        """A put that has returned can be got."""

    def delete(self, keys: Sequence[str]) -> None:
        """DEL."""
        self.client.delete(*keys)


if __name__ == "__main__":
    workload.run(Redis(sys.argv[1]))
