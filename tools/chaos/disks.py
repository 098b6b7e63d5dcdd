"""Disks of workers that fill up, fail, hang, or give back other bytes than they were given."""

from collections.abc import Iterator
from contextlib import contextmanager

from tools.chaos.fault import Happening
from tools.chaos.scene import Scene


def full(side: str) -> Happening:
    """Others fill a worker's disk, and what is below it."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        with scene.disks[side].full():
            yield

    return happens


def failing(side: str) -> Happening:
    """Most of a worker's disk answers with errors, and has lost everything when it is back."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        with scene.disks[side].failing():
            yield

    return happens


def hanging(side: str) -> Happening:
    """A worker's disk takes no write."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        with scene.disks[side].frozen():
            yield

    return happens


def spoiled(side: str) -> Happening:
    """Another program writes all over what a worker has stored."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        scene.disks[side].spoil()
        yield
        scene.disks[side].spoil()

    return happens
