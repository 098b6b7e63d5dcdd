"""Network namespaces by name, through `ip`, and their end with all that runs in them."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from tools.checkout import ROOT

CHECKOUT = hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]
NAMED = Path("/run/netns")
END_SECONDS = 5


class NotAllowed(Exception):
    """Why there can be no namespaces here."""


def name_of(label: str, node: str) -> str:
    """A namespace's name: no other checkout has it, and no other purpose in this one."""
    return f"chariot-{CHECKOUT}-{label}-{node}"


def interface_of(label: str) -> str:
    """The name of this machine's own interface into a network; 15 characters are allowed."""
    return f"ch{CHECKOUT}{label}"[:15]


def ip(*words: str) -> str:
    """Runs `ip`; returns what it prints."""
    if shutil.which("ip") is None:
        raise NotAllowed("`ip` is not on PATH (Debian and Ubuntu: apt-get install iproute2)")
    result = subprocess.run(["ip", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise NotAllowed(f"`ip {' '.join(words)}` failed: {result.stderr.strip()}")
    return result.stdout


def are_allowed() -> bool:
    """Whether there can be namespaces here."""
    probe = name_of("probe", str(os.getpid()))
    try:
        ip("netns", "add", probe)
        ip("netns", "del", probe)
    except NotAllowed:
        return False
    return True


def remove(label: str | None = None) -> bool:
    """Ends what runs in the namespaces of one purpose, or of all here, and removes them; whether there were any."""
    prefix = name_of(label, "") if label else f"chariot-{CHECKOUT}-"
    names = [path.name for path in NAMED.glob(f"{prefix}*")]
    for name in names:
        end_all(name)
        ip("netns", "del", name)
    for interface in Path("/sys/class/net").glob(interface_of(label) if label else f"{interface_of('')}*"):
        remove_interface(interface.name)
    return bool(names)


def remove_interface(name: str) -> None:
    """Removes this machine's end of a network; it goes by itself when the other end does, which takes a moment."""
    subprocess.run(["ip", "link", "del", name], stderr=subprocess.DEVNULL, check=False)


def end_all(namespace: str) -> None:
    """SIGTERM to all processes in a namespace, then SIGKILL."""
    deadline = time.monotonic() + END_SECONDS
    signal_all(processes(namespace), signal.SIGTERM)
    while (left := processes(namespace)) and time.monotonic() < deadline:
        time.sleep(0.05)
    signal_all(left, signal.SIGKILL)


def processes(namespace: str) -> list[int]:
    """The processes in a namespace."""
    return [int(word) for word in ip("netns", "pids", namespace).split()]


def signal_all(numbers: Iterable[int], wanted: signal.Signals) -> None:
    """Signals each; one that has gone is no error."""
    for number in numbers:
        try:
            os.kill(number, wanted)
        except ProcessLookupError:
            continue
