"""What the checksums of bytes that cross the network cost: the same pulls by a build that computes none.

Such a build is made here and nowhere else, by a flag of the compiler: no user can turn checksums off.
"""

import re
from pathlib import Path

from tools import step
from tools.checkout import LOGS, ROOT, TARGET
from tools.failure import Failure
from tools.rows import Row, add_to, compared, table

PAIRS = 5
PULL = "64 x 1 MiB, fabric"


def run_integrity_bench(json_file: Path | None) -> str:
    """Measures, prints the row, and adds it to those of the file."""
    step.note("the fabric with and without checksums")
    checked = build("integrity-checked", TARGET, {})
    unchecked = build("integrity-unchecked", TARGET / "unchecked", {"RUSTFLAGS": "--cfg chariot_unchecked"})
    pairs = [(rate(checked), rate(unchecked)) for _ in range(PAIRS)]
    row = cost(pairs)
    print(f"\n{table([row])}\n", flush=True)
    if json_file is not None:
        add_to(json_file, [row])
    return f"{row['value']:.1%} of the throughput"


def cost(pairs: list[tuple[float, float]]) -> Row:
    """The row: which share of the throughput checksums take."""
    without = "the same pulls, GB/s, without checksums of the bytes"
    row = compared("integrity_cost", [pair[0] for pair in pairs], "share", without, [pair[1] for pair in pairs])
    return row | {"value": 1 - row["ratio"]}


def build(log: str, target: Path, environment: dict[str, str]) -> Path:
    """Builds the fabric's example, which pulls over loopback within one process."""
    command = ["cargo", "build", "--release", "--package", "chariot-fabric", "--example", "speed"]
    step.run([*command, "--target-dir", target], log, environment=environment)
    return target / "release" / "examples" / "speed"


def rate(program: Path) -> float:
    """GB/s of 64 blocks of 1 MiB pulled together: the median of its rounds."""
    step.run([program], "integrity-speed", directory=ROOT)
    said = (LOGS / "integrity-speed.log").read_text()
    found = re.search(rf"^{PULL}\s+([\d.]+) GB/s", said, re.MULTILINE)
    if found is None:
        raise Failure(f"`{program.name}` said nothing of `{PULL}`:\n{said}")
    return float(found[1])
