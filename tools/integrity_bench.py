"""What the checksums of bytes that cross the network cost: the same pulls by a build that computes none.

Such a build is made here and nowhere else, by a flag of the compiler: no user can turn checksums off.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from tools import step
from tools.checkout import LOGS, ROOT, TARGET
from tools.failure import Failure
from tools.rows import Row, add_to, compared, table

PAIRS = 5
# Pulls over loopback within one process.
EXAMPLE = ("--package", "chariot-fabric", "--example", "speed")
UNCHECKED = (TARGET / "unchecked", {"RUSTFLAGS": "--cfg chariot_unchecked"})
PULL = "64 x 1 MiB, fabric"


def run_integrity_bench(json_file: Path | None) -> str:
    """Measures, prints the row, and adds it to those of the file."""
    step.note("the fabric with and without checksums")
    checked = build(EXAMPLE, TARGET, {}) / "examples" / "speed"
    unchecked = build(EXAMPLE, *UNCHECKED) / "examples" / "speed"
    pairs = [(rate(checked), rate(unchecked)) for _ in range(PAIRS)]
    row = cost(pairs)
    print(f"\n{table([row])}\n", flush=True)
    if json_file is not None:
        add_to(json_file, [row])
    return f"{row['value']:.1%} of the throughput"


def cost(pairs: list[tuple[float, float]]) -> Row:
    """The row: which share of the throughput checksums take."""
    checked, unchecked = zip(*pairs, strict=True)
    return share_lost(compared("integrity_cost", checked, "GB/s", "", unchecked))


def share_lost(row: Row) -> Row:
    """Of rates with checksums against rates without: which share of the throughput they take."""
    without = "the same pulls, GB/s, without checksums of the bytes"
    return row | {"value": 1 - row["ratio"], "unit": "share", "reference": without}


def build_unchecked() -> Path:
    """A dscli whose workers compute no checksums of bytes."""
    return build(["--package", "dscli"], *UNCHECKED) / "dscli"


def build(what: Sequence[str], target: Path, environment: dict[str, str]) -> Path:
    """Builds for the release; where that lies."""
    command: list[str | Path] = ["cargo", "build", "--release", *what, "--target-dir", target]
    step.run(command, f"integrity-{target.name}", environment=environment)
    return target / "release"


def rate(program: Path) -> float:
    """GB/s of 64 blocks of 1 MiB pulled together: the median of its rounds."""
    step.run([program], "integrity-speed", directory=ROOT)
    said = (LOGS / "integrity-speed.log").read_text()
    found = re.search(rf"^{PULL}\s+([\d.]+) GB/s", said, re.MULTILINE)
    if found is None:
        raise Failure(f"`{program.name}` said nothing of `{PULL}`:\n{said}")
    return float(found[1])
