"""The workload that every system gets: blocks of four sizes put and got, through its own Python client.

Standard library only, since it runs in each system's own environment. A put is from the caller's bytes; a get is into
bytes of the caller's, so that nobody is credited for bytes that were never delivered. Each put is of a new key, since
systems differ in what they make of one that is there.
"""

import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

KIB, MIB = 1 << 10, 1 << 20
MEASURED_BYTES = 256 * MIB
MEASURED_CALLS = 2000
MEASURED_SECONDS = 2.0
RUNS = 5


class Store(Protocol):
    """What the workload asks of a system."""

    def put(self, key: str, data: bytes) -> None:
        """Stores one block."""

    def get(self, key: str) -> bytes:
        """Fetches one block that is there."""

    def put_many(self, keys: Sequence[str], data: Sequence[bytes]) -> None:
        """Stores several in the one call that the system has for it."""

    def get_many(self, keys: Sequence[str]) -> Sequence[bytes]:
        """Fetches several that are there."""

    def flush(self) -> None:
        """Returns when everybody can get what was put."""

    def delete(self, keys: Sequence[str]) -> None:
        """Makes room."""


@dataclass(frozen=True)
class Row:
    """One operation's rate; that of the median run, which a busy moment of the machine leaves alone."""

    row: str
    value: float
    unit: str


@dataclass(frozen=True)
class Shape:
    """How many blocks of which size one call carries."""

    name: str
    size: int
    count: int = 1


SHAPES = (Shape("1KiB", KIB), Shape("1MiB", MIB), Shape("16MiB", 16 * MIB), Shape("64x1MiB", MIB, 64))


def run(store: Store) -> None:
    """Measures all rows and prints them as one line of JSON."""
    names = (f"block-{number}" for number in itertools.count())
    rows = [row for shape in SHAPES for row in measure(store, shape, names)]
    print(json.dumps([asdict(row) for row in rows]))
    sys.stdout.flush()


def measure(store: Store, shape: Shape, names: Iterator[str]) -> list[Row]:
    """Puts new blocks and gets each back, in several runs; the first one only warms the pool's pages."""
    data = [os.urandom(shape.size) for _ in range(shape.count)]
    calls = max(1, min(MEASURED_CALLS, MEASURED_BYTES // (shape.size * shape.count)) // RUNS)
    puts, gets = [], []
    end = time.monotonic() + MEASURED_SECONDS
    for run in range(1 + RUNS):
        batches = [list(itertools.islice(names, shape.count)) for _ in range(calls)]
        started = time.perf_counter()
        for keys in batches:
            put(store, keys, data)
        store.flush()
        written = time.perf_counter()
        for keys in batches:
            get(store, keys)
        read = time.perf_counter()
        check(get(store, batches[0]), data)
        store.delete([key for keys in batches for key in keys])
        if run > 0:
            puts.append((written - started) / calls)
            gets.append((read - written) / calls)
            if time.monotonic() > end:
                break
    return [rate(f"put_{shape.name}", shape, puts), rate(f"get_{shape.name}", shape, gets)]


def put(store: Store, keys: list[str], data: list[bytes]) -> None:
    """One call of the client."""
    if len(keys) == 1:
        store.put(keys[0], data[0])
    else:
        store.put_many(keys, data)


def get(store: Store, keys: list[str]) -> Sequence[bytes]:
    """One call of the client."""
    return [store.get(keys[0])] if len(keys) == 1 else store.get_many(keys)


def check(found: Sequence[bytes], data: Sequence[bytes]) -> None:
    """A system that returns other bytes than it was given has no rate."""
    if [bytes(item) for item in found] != list(data):
        raise SystemExit("the bytes that came back are not those that were put")


def rate(name: str, shape: Shape, seconds: list[float]) -> Row:
    """Calls a second for small blocks, bytes a second for large ones, from the seconds a call of each run."""
    median = statistics.median(seconds)
    if shape.size < MIB:
        return Row(name, round(1 / median), "1/s")
    return Row(name, round(shape.size * shape.count / median / 1e9, 3), "GB/s")
