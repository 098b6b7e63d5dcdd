"""Processes that are killed, hang, or are replaced."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tools.chaos.fault import Happening
from tools.chaos.scene import Scene
from tools.services.service import Service


def worker_killed(*sides: str) -> Happening:
    """kill -9 of data workers; fresh ones come in their place."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        for side in sides:
            scene.signal_worker(side, signal.SIGKILL)
        yield
        for side in sides:
            scene.start_worker(side)

    return happens


def worker_stopped(*sides: str) -> Happening:
    """SIGSTOP of data workers, then SIGCONT."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        for side in sides:
            scene.signal_worker(side, signal.SIGSTOP)
        yield
        for side in sides:
            scene.signal_worker(side, signal.SIGCONT)

    return happens


def stopped(process: Callable[[Scene], Service]) -> Happening:
    """SIGSTOP of a process that the scene has started itself, then SIGCONT."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        process(scene).process.send_signal(signal.SIGSTOP)
        yield
        process(scene).process.send_signal(signal.SIGCONT)

    return happens


def worker_replaced(side: str) -> Happening:
    """`dscli stop` and, a while later, `dscli start`."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        scene.workers[side].stop()
        yield
        scene.start_worker(side)

    return happens


def worker_restarted(side: str) -> Happening:
    """`dscli restart`: the worker goes on in a new process, and a while later in yet another."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        scene.restart_worker(side)
        yield
        scene.restart_worker(side)

    return happens


@contextmanager
def etcd_killed(scene: Scene) -> Iterator[None]:
    """kill -9 of etcd, which comes back with what it has kept."""
    scene.etcd.service.kill()
    yield
    scene.start_etcd()


@contextmanager
def proxy_killed(scene: Scene) -> Iterator[None]:
    """kill -9 of the proxy."""
    scene.proxy.kill()
    yield
    scene.start_proxy()


def engine_killed(side: str) -> Happening:
    """kill -9 of a vLLM; another is started in its place."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        scene.kill_engine(side)
        yield
        scene.start_engine(side)

    return happens
