"""What can happen: each fault is caused for real, lasts for a while, and is mended as an operator or time would."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tools.chaos.scene import LEASE_SECONDS, Scene
from tools.chaos.strangers import Strangers
from tools.services.network import inside
from tools.services.service import Service

Happening = Callable[[Scene], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """Something that happens to a scene for as long as its context is open."""

    name: str
    happens: Happening
    shortest: float = 0.5
    longest: float = 8.0
    """Seconds that it lasts."""
    ends_requests: bool = False
    """What has taken a request is killed, and the request with it: its client must ask again."""


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


def cut(*ways: tuple[str, str]) -> Happening:
    """What one node sends to the other is lost."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        for sender, receiver in ways:
            scene.network.cut(scene.node(sender), scene.node(receiver))
        yield
        for sender, receiver in ways:
            scene.network.heal(scene.node(sender), scene.node(receiver))

    return happens


def slow(kilobits: int) -> Happening:
    """Both nodes send no faster than this."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        rate = f"{kilobits}kbit"
        discipline = ["root", "tbf", "rate", rate, "burst", "32kb", "latency", "400ms"]
        for node in scene.network.nodes:
            subprocess.run(["tc", "-n", inside(node), "qdisc", "replace", "dev", "eth0", *discipline], check=True)
        yield
        for node in scene.network.nodes:
            subprocess.run(["tc", "-n", inside(node), "qdisc", "del", "dev", "eth0", "root"], check=True)

    return happens


def stranger(role: str, side: str) -> Happening:
    """Another client of a worker misbehaves."""

    @contextmanager
    def happens(scene: Scene) -> Iterator[None]:
        with Strangers(role, scene.workers[side].address):
            yield

    return happens


BOTH = (("prefill", "decode"), ("decode", "prefill"))

FAULTS = [
    Fault("prefill's worker is killed", worker_killed("prefill")),
    Fault("decode's worker is killed", worker_killed("decode")),
    Fault("both workers are killed", worker_killed("prefill", "decode")),
    Fault("prefill's worker hangs", worker_stopped("prefill"), longest=3 * LEASE_SECONDS),
    Fault("decode's worker hangs", worker_stopped("decode"), longest=3 * LEASE_SECONDS),
    Fault("prefill's worker is stopped and started", worker_replaced("prefill")),
    Fault("decode's worker is stopped and started", worker_replaced("decode")),
    Fault("etcd is killed", etcd_killed, longest=3 * LEASE_SECONDS),
    Fault("etcd hangs", stopped(lambda scene: scene.etcd.service), longest=3 * LEASE_SECONDS),
    Fault("the proxy is killed", proxy_killed, longest=2, ends_requests=True),
    Fault("the proxy hangs", stopped(lambda scene: scene.proxy), longest=4),
    Fault("prefill's vLLM is killed", engine_killed("prefill"), longest=2),
    Fault("decode's vLLM is killed", engine_killed("decode"), longest=2, ends_requests=True),
    Fault("prefill's vLLM hangs", stopped(lambda scene: scene.engines["prefill"]), longest=4),
    Fault("decode's vLLM hangs", stopped(lambda scene: scene.engines["decode"]), longest=4),
    Fault("the nodes lose each other", cut(*BOTH)),
    Fault("what prefill's node sends to decode's is lost", cut(BOTH[0])),
    Fault("what decode's node sends to prefill's is lost", cut(BOTH[1])),
    Fault("the links have 1 Mbit/s", slow(1000)),
    Fault("a client pins all of prefill's worker and sleeps", stranger("pinner", "prefill")),
    Fault("a client pins all of decode's worker and sleeps", stranger("pinner", "decode")),
    Fault("200 clients of decode's worker come and die", stranger("crowd", "decode")),
    Fault("a client writes garbage to prefill's worker", stranger("babbler", "prefill")),
    Fault("a client writes garbage to decode's worker", stranger("babbler", "decode")),
]
