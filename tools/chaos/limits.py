"""What a worker may have runs out, its clock jumps, or other clients misbehave."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tools.chaos.fault import Happening
from tools.chaos.scene import Scene
from tools.chaos.strangers import Strangers
from tools.services.held import count


def stranger(role: str, side: str) -> Happening:
    """Another client of a worker misbehaves."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        with Strangers(role, scene.workers[side].address):
            yield

    return happens


def crowd(side: str) -> Happening:
    """Clients of a worker connect and die, all that were to come."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        with Strangers("crowd", scene.workers[side].address) as strangers:
            yield
            strangers.wait()

    return happens


@contextmanager
def limited(process: int, what: int, most: int) -> Iterator[None]:
    """A process gets no more than so much of something; one that ends of it is no error."""
    _, hard = before = resource.prlimit(process, what)
    resource.prlimit(process, what, (most, hard))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(process, what, before)


def without_descriptors(side: str) -> Happening:
    """A worker can open nothing more, while clients come to it."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        process = scene.workers[side].process_id
        with (
            limited(process, resource.RLIMIT_NOFILE, count(process, "fd")),
            Strangers("crowd", scene.workers[side].address),
        ):
            yield

    return happens


def without_memory(side: str) -> Happening:
    """A worker is given no more memory than it has, while clients come to it. One that has ended of it is started."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        process = scene.workers[side].process_id
        with (
            limited(process, resource.RLIMIT_AS, address_space(process)),
            Strangers("crowd", scene.workers[side].address),
        ):
            yield
        if not scene.is_running(side):
            scene.start_worker(side)

    return happens


def address_space(process: int) -> int:
    """Bytes that a process has mapped."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def clock_jumps(side: str, seconds: int) -> Happening:
    """A worker sees another time of day, and then the right one again."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        scene.clocks[side].jump(seconds)
        yield
        scene.clocks[side].jump(0)

    return happens
