"""Measures what can be had of the peers, one after another, and prints Chariot's rows beside theirs."""

import json
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tools import step
from tools.checkout import LOGS, ROOT
from tools.failure import Failure
from tools.peers.deployments import CHARIOT, PEERS, Driver, Peer

WORKLOAD_SECONDS = 120

# Every system returns what it got in fresh bytes. With these the C library keeps the pages of those that are freed, so
# that a get is not the time in which the kernel makes new ones.
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}

Rates = dict[str, tuple[float, str]]


def run_peers(json_file: Path | None) -> str:
    """Runs them all; one that cannot be had, does not start or does not end in time is left out, and said so."""
    ours: list[Rates] = []
    others: dict[str, Rates] = {}
    missing = []
    for peer in PEERS:
        # Chariot each time anew, and then the median: the machine is not as busy all the while.
        ours += measure(CHARIOT).values()
        step.note(peer.name)
        try:
            others |= measure(peer)
        except Failure as failure:
            step.note(f"{peer.name} is left out: {str(failure).splitlines()[0]}")
            missing.append(peer.name)
    chariot = medians(ours)
    print(table(chariot, others), flush=True)
    if json_file is not None:
        add_to(json_file, chariot, others)
    return f"{len(others)} beside Chariot" + (f", without {', '.join(missing)}" if missing else "")


def medians(runs: Sequence[Rates]) -> Rates:
    """The median of each row."""
    return {row: (statistics.median(run[row][0] for run in runs), unit) for row, (_, unit) in runs[0].items()}


def measure(peer: Peer) -> dict[str, Rates]:
    """Brings a system up, runs the workload through each of its drivers, and ends it."""
    with ExitStack() as cleanup:
        # Not in the checkout: a socket's path must be short.
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="chariot-peer-")))
        return {driver.system: run_driver(driver, folder) for driver in peer.start(cleanup, folder)}


def run_driver(driver: Driver, folder: Path) -> Rates:
    """The rows that the driver printed as its last line."""
    log = f"peers/{driver.module}-driver"
    step.run(
        [driver.python, "-m", f"tools.peers.stores.{driver.module}", *driver.words],
        log,
        environment={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        | KEEP_FREED_MEMORY
        | dict(driver.environment),
        directory=folder,
        seconds=WORKLOAD_SECONDS,
    )
    lines = (LOGS / f"{log}.log").read_text(errors="replace").splitlines()
    rows = next((line for line in reversed(lines) if line.startswith('[{"row"')), None)
    if rows is None:
        raise Failure(f"{driver.system} printed no rows")
    return {row["row"]: (row["value"], row["unit"]) for row in json.loads(rows)}


def table(ours: Rates, others: dict[str, Rates]) -> str:
    """A line for each row, a column for each system; in brackets, Chariot's rate as a multiple of that one."""
    heads = ["(Chariot is .. times that)", "Chariot", *others]
    lines = [
        [row, rate(value, unit), *(compared(value, *rates[row]) for rates in others.values())]
        for row, (value, unit) in ours.items()
    ]
    return f"\n{aligned([heads, *lines])}\n"


def compared(ours: float, theirs: float, unit: str) -> str:
    """Their rate, and ours as a multiple of it."""
    return f"{rate(theirs, unit)} ({ours / theirs:.1f}x)"


def rate(value: float, unit: str) -> str:
    """The rate for a person."""
    return f"{value:,.0f}/s" if unit == "1/s" else f"{value:.2f} {unit}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def add_to(json_file: Path, ours: Rates, others: dict[str, Rates]) -> None:
    """Adds the comparison to the file that has our own rows."""
    content = json.loads(json_file.read_text())
    content["peers"] = [
        {
            "system": system,
            "row": row,
            "value": value,
            "unit": unit,
            "chariot_value": ours[row][0],
            "ratio": round(ours[row][0] / value, 3),
        }
        for system, rates in others.items()
        for row, (value, unit) in rates.items()
    ]
    json_file.write_text(json.dumps(content, indent=2) + "\n")
