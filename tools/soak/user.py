"""A client that puts, gets and looks up blocks until it is ended: `user.py HOST:PORT NAME`.

All users ask for the prompts of one collection, some far more often than others, and put what is not there. Whoever
finds a block knows what must be in it. Now and then one writes a block piece by piece while it is read, deletes some,
pins some, or connects anew.

Prints a line of JSON every few seconds: how often each kind of call took how long, and what went wrong.
"""

import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import numpy

import chariot_ds

REPORT_SECONDS = 5.0
PAUSE_SECONDS = 0.03
PROMPTS, MOST_BLOCKS = 1500, 16
FAVOUR = 3
"""A third of the prompts with the lowest numbers are asked for seven times in ten."""
SIZES = (4 << 10, 64 << 10, 256 << 10)
SIZE_WEIGHTS = (50, 35, 15)
PATIENCE, MOST_WAIT = 5.0, 0.5


def content(name: str, nbytes: int) -> numpy.ndarray:
    """What is in a block of that name: words that count on from a number of its own."""
    first = int.from_bytes(chariot_ds.Key.of_name(name).__bytes__()[:7])
    return numpy.arange(first, first + nbytes // 8, dtype=numpy.uint64)


class User:
    """A client and its tally."""

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.name = name
        self.generator = random.Random(name)
        self.times: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.wrong: list[str] = []
        self.failed: list[str] = []
        self.grown = 0
        self.connect()

    def connect(self) -> None:
        """A connection, instead of any that is there."""
        self.client = chariot_ds.Client(
            self.address, timeout=PATIENCE, request_timeout=PATIENCE, wait_for_worker=PATIENCE, name=self.name
        )

    def work(self) -> None:
        """Until somebody ends it."""
        work = {self.ask: 80, self.probe: 8, self.grow: 6, self.delete: 2, self.pin: 2, self.connect_anew: 2}
        due = time.monotonic() + REPORT_SECONDS
        while True:
            time.sleep(self.generator.expovariate(1 / PAUSE_SECONDS))
            [do] = self.generator.choices(list(work), list(work.values()))
            try:
                do()
            except chariot_ds.ChariotError as error:
                self.failed.append(f"{do.__name__}: {type(error).__name__}: {error}")
            if time.monotonic() > due:
                due += REPORT_SECONDS
                self.report()

    def report(self) -> None:
        """What there was since the last report."""
        print(json.dumps({"times": self.times, "wrong": self.wrong, "failed": self.failed}), flush=True)
        self.times.clear()
        self.wrong, self.failed = [], []

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Counts a call among those that took about as long."""
        begun = time.perf_counter()
        yield
        self.count(what, begun)

    def count(self, what: str, begun: float) -> None:
        """A call that began then and is over."""
        microseconds = 1e6 * (time.perf_counter() - begun)
        self.times[what][round(float(f"{microseconds:.3g}"))] += 1

    def prompt(self) -> dict[str, int]:
        """The blocks of some prompt, in order, and how long each is."""
        number = int(PROMPTS * self.generator.random() ** FAVOUR)
        fixed = random.Random(number)
        [nbytes] = fixed.choices(SIZES, SIZE_WEIGHTS)
        return {f"soak {number} {index}": nbytes for index in range(fixed.randint(1, MOST_BLOCKS))}

    def ask(self) -> None:
        """Looks a prompt up, gets what is there of it, and puts the rest."""
        prompt = self.prompt()
        with self.timed("longest_prefix"):
            present = self.client.longest_prefix(prompt).sealed
        names = list(prompt)
        if present:
            begun = time.perf_counter()
            # What comes from the disk or another worker is waited for; what is gone meanwhile would be for ever.
            blocks = self.client.get_many(names[:present], timeout=MOST_WAIT)
            self.count("get_many" if all(blocks) else "get_many, in vain", begun)
            for name, block in zip(names, blocks, strict=False):
                self.check(name, prompt[name], block)
        if missing := {name: content(name, prompt[name]) for name in names[present:]}:
            with self.timed("put_many"):
                self.client.put_many(missing, timeout=PATIENCE)

    def check(self, name: str, nbytes: int, block: chariot_ds.Block | None) -> None:
        """What was found must be right; what is gone meanwhile is a miss."""
        if block is None:
            return
        if len(block) != nbytes or not numpy.array_equal(numpy.frombuffer(block, numpy.uint64), content(name, nbytes)):
            self.wrong.append(f"{self.name} got other bytes as `{name}`, {len(block)} of them")

    def probe(self) -> None:
        """Asks which blocks are there."""
        prompt = self.prompt()
        with self.timed("exists_many"):
            self.client.exists_many(prompt)

    def grow(self) -> None:
        """Writes a block in pieces, which is waited for meanwhile."""
        self.grown += 1
        name, nbytes = f"soak {self.name} {self.grown}", 4 * SIZES[1]
        waiting = self.client.get_later(name, timeout=PATIENCE)
        words = content(name, nbytes)
        with self.timed("grow"):
            with self.client.reserve(name, nbytes, timeout=PATIENCE) as block:
                for end in range(nbytes // 4, nbytes + 1, nbytes // 4):
                    block.write_at(end - nbytes // 4, words[(end - nbytes // 4) // 8 : end // 8])
                    block.advance(end)
                block.seal()
            found = waiting.result(PATIENCE)
        if found is None:
            self.failed.append(f"nobody brought `{name}`")
        self.check(name, nbytes, found)

    def delete(self) -> None:
        """Deletes a prompt's blocks, wherever they are."""
        with self.timed("delete_many"):
            self.client.delete_many(self.prompt())

    def pin(self) -> None:
        """Asks for some blocks to be kept for a while."""
        with self.timed("soft_pin"):
            self.client.soft_pin(self.prompt(), seconds=5)

    def connect_anew(self) -> None:
        """Leaves, and comes again."""
        with self.timed("connect"):
            self.client.close()
            self.connect()


if __name__ == "__main__":
    User(sys.argv[1], sys.argv[2]).work()
