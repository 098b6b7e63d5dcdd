"""Chariot through `chariot_ds`: `python -m tools.peers.stores.chariot ADDRESS`."""

import sys
from collections.abc import Sequence

import chariot_ds
from tools.peers import workload


class Chariot:
    """A client of the worker at `address`."""

    def __init__(self, address: str) -> None:
        self.client = chariot_ds.Client(address)

    def put(self, key: str, data: bytes) -> None:
        """One copy into shared memory."""
        self.client.put(key, data)

    def get(self, key: str) -> bytes:
        """One copy out of it."""
        block = self.client.get(key)
        assert block is not None, f"`{key}` was meant to be there"
        with block:
            return block.tobytes()

    def put_many(self, keys: Sequence[str], data: Sequence[bytes]) -> None:
        """All in one call."""
        self.client.put_many(zip(keys, data, strict=True))

    def get_many(self, keys: Sequence[str]) -> Sequence[bytes]:
        """All in one call."""
        return [block.tobytes() for block in self.client.get_many(keys) if block is not None]

    def flush(self) -> None:
        """Puts of a stream leave together; this sees them off."""
        self.client.flush()

    def delete(self, keys: Sequence[str]) -> None:
        """All in one call."""
        self.client.delete_many(keys)


if __name__ == "__main__":
    workload.run(Chariot(sys.argv[1]))
