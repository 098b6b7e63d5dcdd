"""Ends a process together with all it has started, as far as that stayed in its session."""

import contextlib
import os
import signal
import time
from pathlib import Path

LEADER_SECONDS = 4
GRACE_SECONDS = 4
TRACKER_SECONDS = 5


def end_session(leader: int) -> None:
    """SIGTERM to the leader, then to all of the session, then SIGKILL, with time between to end by itself.

    The leader goes first, since a server whose engine ends before it logs an alarm. Python's resource trackers come
    last of all: they are what removes the semaphores and shared memory of processes that were killed. The caller reaps
    the leader, when it is its child, afterwards.
    """
    signal_process(leader, signal.SIGTERM)
    if wait_for_end(leader, LEADER_SECONDS):
        return
    signal_session(leader, signal.SIGTERM)
    if wait_for_end(leader, GRACE_SECONDS):
        return
    for process in session_members(leader):
        if not is_resource_tracker(process):
            signal_process(process, signal.SIGKILL)
    if not wait_for_end(leader, TRACKER_SECONDS):
        signal_session(leader, signal.SIGKILL)


def signal_session(leader: int, wanted: signal.Signals) -> None:
    """Signals each process of the session."""
    for process in session_members(leader):
        signal_process(process, wanted)


def signal_process(process: int, wanted: signal.Signals) -> None:
    """Signals one process; that it is gone already is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, wanted)


def wait_for_end(leader: int, seconds: float) -> bool:
    """Waits until the session has no living process; returns whether that came to be."""
    deadline = time.monotonic() + seconds
    while session_members(leader):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_resource_tracker(process: int) -> bool:
    """Whether it is the helper that Python's multiprocessing starts to clean up after others."""
    try:
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def session_members(leader: int) -> list[int]:
    """Living processes whose session is `leader`; vLLM's engine may have process groups of its own within it."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state = status_fields(int(entry.name))
            if state and int(state[3]) == leader and state[0] != "Z":
                members.append(int(entry.name))
    return members


def start_time(process: int) -> str | None:
    """When the process started, in clock ticks, which tells it from a later one of the same number; None if gone."""
    state = status_fields(process)
    return None if not state or state[0] == "Z" else state[19]


def status_fields(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none when there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
