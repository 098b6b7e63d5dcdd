"""What came of a soak: how it was in each quarter of the time, and whether anything has grown."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tools.services.held import Numbers, grown
from tools.verdict import fail_for

QUARTERS = 4
SPARE_MEMORY, SPARE_SHARE = 4 << 20, 0.05
"""What an allocator may keep more of in the last quarter than in the second; in the first one tables fill."""

Times = dict[str, Counter[int]]
"""By kind of call: how many microseconds, and how often."""


@dataclass
class Report:
    """A run."""

    minutes: float
    calls: list[tuple[float, Times]] = field(default_factory=list)
    """When users said how long their calls took, in seconds from the start."""
    samples: list[tuple[float, dict[str, Numbers]]] = field(default_factory=list)
    """What the workers held, and when."""
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """What the workers held when nobody wanted anything any more."""
    moved: dict[str, int] = field(default_factory=dict)
    """How much of what was to happen did."""

    def quarter(self, at: float) -> int:
        """Which part of the time a moment belongs to."""
        return min(QUARTERS - 1, int(QUARTERS * at / (60 * self.minutes)))

    def rows(self) -> Iterator[tuple[str, list[float | None]]]:
        """What is measured, and how it was in each quarter."""
        calls: list[defaultdict[str, Counter[int]]] = [defaultdict(Counter) for _ in range(QUARTERS)]
        for at, times in self.calls:
            for what, counted in times.items():
                calls[self.quarter(at)][what] += counted
        for what in sorted({what for quarter in calls for what in quarter}):
            yield f"{what}, calls", [float(quarter[what].total()) for quarter in calls]
            for share in (0.5, 0.99):
                yield f"{what}, p{100 * share:.0f} us", [percentile(quarter[what], share) for quarter in calls]
        for worker in self.samples[0][1] if self.samples else ():
            found: list[list[Numbers]] = [[] for _ in range(QUARTERS)]
            for at, numbers in self.samples:
                if worker in numbers:
                    found[self.quarter(at)].append(numbers[worker])
            yield f"{worker}, MiB", [middle([one.memory / 2**20 for one in quarter]) for quarter in found]
            yield f"{worker}, descriptors", [middle([one.descriptors for one in quarter]) for quarter in found]
            yield f"{worker}, threads", [middle([one.threads for one in quarter]) for quarter in found]

    def table(self) -> str:
        """The quarters side by side; nothing if it did not come to that."""
        if not self.samples:
            return ""
        lines = [f"{'':<32}" + "".join(f"{f'quarter {number}':>14}" for number in range(1, QUARTERS + 1))]
        lines += [
            f"{what:<32}" + "".join(f"{'-' if value is None else f'{value:,.1f}':>14}" for value in values)
            for what, values in self.rows()
        ]
        lines += [f"{what:<32}{value:>14,}" for what, value in self.moved.items()]
        return "\n" + "\n".join(lines) + "\n"

    def content(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {
            "minutes": self.minutes,
            "rows": dict(self.rows()),
            "moved": self.moved,
            "wrong": len(self.wrong),
            "failed": len(self.failed),
            "what": [*self.wrong, *self.failed, *self.held, *self.grown()],
        }

    def grown(self) -> list[str]:
        """What is more at the end than it was."""
        if not self.samples:
            return []
        lines = grown(self.samples[0][1], self.samples[-1][1])
        for what, values in self.rows():
            second, last = values[1], values[-1]
            if what.endswith(", MiB") and second is not None and last is not None:
                most = second * (1 + SPARE_SHARE) + SPARE_MEMORY / 2**20
                if last > most:
                    lines.append(f"{what}: {last:.1f} in the last quarter, {second:.1f} in the second")
        return lines

    def judge(self, logs: Path) -> None:
        """Fails on whatever did not hold. How long calls take is for a person to see, since machines are noisy."""
        broken = {
            "wrong bytes": self.wrong,
            "failed": self.failed,
            "not at rest": self.held,
            "grown": self.grown(),
            "never happened": [what for what, value in self.moved.items() if not value],
        }
        fail_for(broken, f"logs are in {logs}")


def percentile(counted: Counter[int], share: float) -> float | None:
    """How long so many of the calls took at most."""
    beyond = share * counted.total()
    for microseconds in sorted(counted):
        beyond -= counted[microseconds]
        if beyond <= 0:
            return float(microseconds)
    return None


def middle(values: Sequence[float]) -> float | None:
    """The median, if there is one."""
    return median(values) if values else None
