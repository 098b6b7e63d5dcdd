"""Remembers what a demo has started, so that the next ./dev can end what a killed one left behind."""

import json
import os
import signal
from contextlib import suppress
from typing import Any

from tools import step
from tools.checkout import GENERATED
from tools.failure import Failure
from tools.services import namespaces
from tools.services.data_worker import dscli
from tools.session import end_session, start_time

RECORD = GENERATED / "running.json"
NETWORK = "demo"


def record_worker(address: str, process: int) -> None:
    """A daemon is known by its address."""
    record = read()
    worker = {"address": address, "process": process, "started": start_time(process)}
    record.setdefault("workers", []).append(worker)
    write(record)


def record_session(name: str, leader: int) -> None:
    """A service is known by the leader of its session."""
    record = read()
    record.setdefault("sessions", []).append({"name": name, "leader": leader, "started": start_time(leader)})
    write(record)


def end_leftovers() -> bool:
    """Ends what an earlier demo left running, on purpose or not; returns whether there was anything."""
    record = read()
    sessions = [item for item in record.get("sessions", []) if start_time(item["leader"]) == item["started"]]
    workers = [item for item in record.get("workers", []) if start_time(item["process"]) == item["started"]]
    for item in sessions:
        step.note(f"stopping {item['name']} of an earlier demo")
        end_session(item["leader"])
    for worker in workers:
        step.note(f"stopping the data worker at {worker['address']} of an earlier demo")
        try:
            dscli(["stop", "-w", "--worker_address", worker["address"]], GENERATED)
        except Failure as failure:
            step.note(f"{failure}; killing it")
            os.kill(worker["process"], signal.SIGKILL)
    with suppress(namespaces.NotAllowed):
        namespaces.remove(NETWORK)
    forget()
    return bool(sessions or workers)


def forget() -> None:
    """Nothing runs any more."""
    RECORD.unlink(missing_ok=True)


def read() -> dict[str, Any]:
    """The record; empty when there is none."""
    found: dict[str, Any] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    return found


def write(record: dict[str, Any]) -> None:
    """Replaces the record whole."""
    RECORD.parent.mkdir(exist_ok=True)
    fresh = RECORD.with_suffix(".new")
    fresh.write_text(json.dumps(record, indent=2))
    fresh.replace(RECORD)
