"""The command: two data workers with a disk each in one cluster, and users on both who never stop."""

import json
import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tools import step
from tools.checkout import LOGS, VLLM_PYTHON
from tools.failure import Failure
from tools.services.data_worker import DataWorker, start_worker
from tools.services.etcd import start_etcd
from tools.services.held import Numbers, held_by, numbers_of, wait_for_rest
from tools.services.network import make_network
from tools.services.node import Node
from tools.soak.report import Report
from tools.verdict import show
from tools.vllm_environment import locked

SOAK_LOGS = LOGS / "soak"
PROGRAM = Path(__file__).with_name("user.py")
WORKER_PORT = 31501
# A quarter of what users ask for fits into memory and on disks.
POOL_MEGABYTES, SPILL_MEGABYTES = 64, 128
USERS_PER_WORKER = 2
SAMPLE_SECONDS = 5.0
WARM_SECONDS = 20.0
"""Until memory is full and the disks are written to all over."""
SHORTEST_LIFE, LONGEST_LIFE = 10.0, 30.0
"""One more user of each worker is killed after so many seconds, and another one comes."""
NOTE_SECONDS = 60.0


class User:
    """A process that works until it is killed."""

    def __init__(self, node: Node, worker: DataWorker, name: str, report: Report, started: float) -> None:
        self.report = report
        self.started = started
        with (SOAK_LOGS / f"{name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                node.inside([VLLM_PYTHON, PROGRAM, worker.address, name]),
                cwd=SOAK_LOGS,
                env=step.clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.name = name
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def __enter__(self) -> Self:
        return self

    def listen(self) -> None:
        """Takes down what the user says."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # It was killed while it said that.
            at = time.monotonic() - self.started
            if at >= 0:
                times = said["times"].items()
                self.report.calls.append((at, {what: Counter(numbers(counted)) for what, counted in times}))
            self.report.wrong += said["wrong"]
            self.report.failed += said["failed"]

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self.process.poll() is None

    def __exit__(self, *_raised: object) -> None:
        if not self.is_running:
            self.report.failed.append(f"{self.name} ended by itself: {step.tail(SOAK_LOGS / f'{self.name}.log', 3)}")
        self.process.kill()
        self.process.wait()
        self.listener.join(5)


def numbers(counted: dict[str, int]) -> dict[int, int]:
    """What JSON has made words of."""
    return {int(word): count for word, count in counted.items()}


def run_soak(minutes: float, json_file: Path | None) -> str:
    """Has the users work for so long, shows how it went, and fails if anything was wrong or has grown."""
    report = Report(minutes)
    try:
        with locked("soak"), ExitStack() as cleanup:
            SOAK_LOGS.mkdir(parents=True, exist_ok=True)
            soak(report, cleanup)
    finally:
        show(report.table(), json_file, report.content())
    report.judge(SOAK_LOGS)
    calls = sum(counted.total() for _, times in report.calls for counted in times.values())
    return f"{calls:,} calls, nothing wrong, nothing grown"


def soak(report: Report, cleanup: ExitStack) -> None:
    """The whole of it, from an empty cluster to one at rest."""
    network = make_network("soak", 2, cleanup)
    etcd = start_etcd(network.hub, SOAK_LOGS)
    cleanup.callback(etcd.service.stop)
    workers = {f"{node.name}'s worker": start_soak_worker(node, etcd.address, cleanup) for node in network.nodes}
    places = list(zip(network.nodes, workers.values(), strict=True))
    step.note(f"{USERS_PER_WORKER} users of each worker, and one more who is killed now and then")
    started = time.monotonic() + WARM_SECONDS
    with ExitStack() as users:
        for node, worker in places:
            for number in range(USERS_PER_WORKER):
                users.enter_context(User(node, worker, f"{node.name} user {number}", report, started))
            killing = threading.Event()
            killer = threading.Thread(target=live_and_die, args=(node, worker, report, started, killing), daemon=True)
            killer.start()
            users.callback(killer.join)
            users.callback(killing.set)
        watch(workers, report, started)
    report.held = wait_for_rest(lambda: held_by(workers))
    report.samples.append((60 * report.minutes, numbers_by(workers)))
    report.moved = moved(workers)


def live_and_die(node: Node, worker: DataWorker, report: Report, started: float, is_over: threading.Event) -> None:
    """Users that are killed wherever they are at that moment, one after another."""
    generator = random.Random(node.name)
    while not is_over.is_set():
        with User(node, worker, f"{node.name} mortal", report, started):
            is_over.wait(generator.uniform(SHORTEST_LIFE, LONGEST_LIFE))


def watch(workers: dict[str, DataWorker], report: Report, started: float) -> None:
    """Takes down what the workers hold, until the time is over."""
    end = started + 60 * report.minutes
    said = started
    time.sleep(max(0.0, started - time.monotonic()))
    while (now := time.monotonic()) < end:
        held = numbers_by(workers)
        report.samples.append((now - started, held))
        if now >= said:
            said += NOTE_SECONDS
            memory = ", ".join(f"{one.memory / 2**20:.1f} MiB" for one in held.values())
            step.note(f"{(now - started) / 60:4.0f} min  the workers' own memory: {memory}")
        time.sleep(min(SAMPLE_SECONDS, max(0.0, end - now)))


def numbers_by(workers: dict[str, DataWorker]) -> dict[str, Numbers]:
    """What each worker's process holds."""
    try:
        return {name: numbers_of(worker.process_id) for name, worker in workers.items()}
    except OSError:
        raise Failure("a data worker has ended", f"logs are in {SOAK_LOGS}") from None


def start_soak_worker(node: Node, etcd: str, cleanup: ExitStack) -> DataWorker:
    """A data worker with less room than is asked for."""
    spill = SOAK_LOGS / node.name / "spill"
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir(parents=True)
    cleanup.callback(shutil.rmtree, spill, ignore_errors=True)
    worker = start_worker(
        f"{node.host}:{WORKER_PORT}",
        SOAK_LOGS / node.name,
        "--shared_memory_size_mb", str(POOL_MEGABYTES),
        "--etcd_address", etcd,
        "--spill_directory", str(spill),
        "--spill_size_limit", f"{SPILL_MEGABYTES}MiB",
        node=node,
    )  # fmt: skip
    cleanup.callback(worker.stop)
    return worker


def moved(workers: dict[str, DataWorker]) -> dict[str, int]:
    """What is to happen in a soak, and how often it did."""
    sums: Counter[str] = Counter()
    for worker in workers.values():
        status = worker.status()
        spill, cluster = status["spill"], status["cluster"]
        assert isinstance(spill, dict)
        assert isinstance(cluster, dict)
        sums.update(
            {
                "blocks put": status["puts"],
                "blocks evicted": status["evictions"],
                "blocks written to disks": spill["stored"],
                "blocks read from disks": spill["hits"],
                "blocks from another worker": cluster["received_blocks"],
            }
        )
    return dict(sums)
