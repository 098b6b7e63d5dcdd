"""Ends a process together with all it has started, as far as that stayed in its session."""

import contextlib
import os
import signal
import time
from pathlib import Path

GRACE_SECONDS = 20


def end_session(leader: int) -> None:
    """SIGTERM to the leader, time for it and its children to end by themselves, then SIGKILL to whoever is left.

    The caller reaps the leader, when it is its child, afterwards.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(leader, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while session_members(leader) and time.monotonic() < deadline:
        time.sleep(0.05)
    signal_session(leader, signal.SIGKILL)


def signal_session(leader: int, wanted: signal.Signals) -> None:
    """Signals each process of the session; those that are gone already are no error."""
    for process in session_members(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, wanted)


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
