"""The Python client's side of `dscli bench --python`: does what standard input asks for, and says what it measured.

One order a line, one line of JSON an answer. Standard library and `chariot_ds` only: it runs in whatever environment
has the wheel. Times are taken here, so that the conversation itself is not among them.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import chariot_ds
from chariot_ds import _native


class Peer:
    """What can be asked for, by the methods' names."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = chariot_ds.Client(address, request_timeout=10.0)
        self.content: dict[int, bytes] = {}
        self.engine: Sequence[Any] = ()

    def pid(self) -> int:
        """Which process this is."""
        return os.getpid()

    def latency(self, what: str, names: Sequence[str], calls: int) -> float:
        """The median of that many calls, in microseconds."""
        client, one = self.client, names[0]
        operations: dict[str, Callable[[], object]] = {
            "get_one": lambda: client.get(one),
            "exists": lambda: client.exists_many(names),
            "prefix": lambda: client.longest_prefix(names),
        }
        operation, clock, times = operations[what], time.perf_counter_ns, []
        for _ in range(calls):
            begin = clock()
            answer = operation()
            times.append(clock() - begin)
            assert answer, f"`{what}` found nothing"
        return statistics.median(times) / 1e3

    def put(self, names: Sequence[str], count: int, size: int) -> float:
        """Seconds that it takes to put blocks of that name and size, `count` a call, until others find them."""
        data, client = self.content.setdefault(size, b"\7" * size), self.client
        batches = [[(name, data) for name in names[at : at + count]] for at in range(0, len(names), count)]
        begin = time.perf_counter()
        if count == 1:
            for name in names:
                client.put(name, data)
        else:
            for batch in batches:
                client.put_many(batch)
        client.flush()
        return time.perf_counter() - begin

    def get(self, names: Sequence[str], count: int) -> float:
        """Seconds that it takes to get blocks, `count` a call."""
        batches = [names[at : at + count] for at in range(0, len(names), count)]
        begin = time.perf_counter()
        for batch in batches:
            assert all(self.client.get_many(batch)), "a block that was put is not there"
        return time.perf_counter() - begin

    def wait(self, name: str) -> int:
        """Waits for a block; when it returned, by a clock that all processes read alike."""
        block = self.client.get(bytes.fromhex(name), timeout=10.0)
        returned = time.monotonic_ns()
        assert block is not None, "the block that was waited for did not come"
        assert block.tobytes() == bytes.fromhex(name), "the block that was waited for is wrong"
        return returned

    def idle_engine(self, load_threads: int) -> int:
        """Makes all that an engine with the connector has running, and has it do nothing; the process that it is in."""
        connection = _native.Connection(self.address, "an idle engine", 2.0, "bench")
        shard = b"shard"
        self.engine = (
            connection,
            _native.Lookup(connection, [[shard]]),
            _native.Saver(connection, [shard]),
            _native.Loader(connection, [shard], load_threads),
        )
        return os.getpid()


def main() -> None:
    """Answers until standard input ends."""
    peer = Peer(sys.argv[1])
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(peer, name)(*arguments)), flush=True)


main()
