"""What came of a run: a table for a person, JSON for a program, and whether all held."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from tools.chaos.load import Tally
from tools.verdict import fail_for


@dataclass
class Row:
    """One fault."""

    fault: str
    lasted_s: float
    recovered_s: float | None = None
    """From its end until KV cache flowed into decode again; `None`: it did not."""
    requests: int = 0
    refused: int = 0
    wrong: int = 0
    failed: int = 0


@dataclass
class Report:
    """A run."""

    seed: int
    minutes: float
    rows: list[Row] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    engines_lost: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def table(self) -> str:
        """The faults in order; nothing if there were none."""
        if not self.rows:
            return ""
        heads = ("fault", "lasted", "KV flowed after", "requests", "asked again", "wrong", "failed")
        cells = [
            (
                row.fault,
                f"{row.lasted_s:.1f} s",
                "never" if row.recovered_s is None else f"{row.recovered_s:.1f} s",
                *map(str, (row.requests, row.refused, row.wrong, row.failed)),
            )
            for row in self.rows
        ]
        widths = [max(len(line[column]) for line in [heads, *cells]) for column in range(len(heads))]
        lines = [
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in [heads, *cells]
        ]
        return "\n" + "\n".join(lines) + "\n"

    def content(self) -> dict[str, object]:
        """All of it, for JSON."""
        seconds = sorted(self.tally.seconds)
        return {
            "seed": self.seed,
            "minutes": self.minutes,
            "requests": self.tally.requests,
            "asked_again": self.tally.refused,
            "faults": len(self.rows),
            "wrong_tokens": len(self.tally.wrong),
            "failed_requests": len(self.tally.failed),
            "engines_lost": len(self.engines_lost),
            "leaks": len(self.leaks),
            "recovery_p99_s": self.recovery(0.99),
            "slowest_request_s": seconds[-1] if seconds else None,
            "rows": [asdict(row) for row in self.rows],
            "what": [*self.tally.wrong, *self.tally.failed, *self.engines_lost, *self.leaks],
        }

    def recovery(self, share: float) -> float | None:
        """How long after this share of the faults KV cache flowed again; `None`: after some it never did."""
        found = [row.recovered_s for row in self.rows]
        times = sorted(time for time in found if time is not None)
        if len(times) < len(found) or not times:
            return None
        return times[min(len(times) - 1, int(share * len(times)))]

    def judge(self, logs: Path) -> None:
        """Fails on whatever did not hold."""
        broken = {
            "wrong tokens": self.tally.wrong,
            "requests failed": self.tally.failed,
            "engines were lost": self.engines_lost,
            "not at rest": self.leaks,
            "KV cache never flowed again": [row.fault for row in self.rows if row.recovered_s is None],
        }
        fail_for(broken, f"`./dev chaos --seed {self.seed}` draws the same faults; logs are in {logs}")
