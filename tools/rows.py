"""The rows of `./dev bench` that are not taken by dscli itself, in dscli's own form."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

Row = dict[str, Any]


def compared(row: str, values: Sequence[float], unit: str, reference: str, references: Sequence[float]) -> Row:
    """A row of medians, each value taken together with its reference."""
    ratios = [value / beside for value, beside in zip(values, references, strict=True)]
    return {
        "row": row,
        "value": median(values),
        "unit": unit,
        "reference": reference,
        "reference_value": median(references),
        "ratio": median(ratios),
    }


def alone(row: str, value: float, unit: str) -> Row:
    """A row without a reference, as `dscli bench` writes them."""
    return {"row": row, "value": value, "unit": unit, "reference": "", "reference_value": None, "ratio": None}


def table(rows: Sequence[Row]) -> str:
    """The rows for a person, in the columns of `dscli bench`."""
    heads = f"{'row':<26} {'value':>12} {'unit':<8} {'reference':>12} {'ratio':>7}  reference"
    return "\n".join([heads, *map(line, rows)])


def line(row: Row) -> str:
    """One row."""
    reference, ratio = ("" if row[name] is None else f"{row[name]:.3f}" for name in ("reference_value", "ratio"))
    return f"{row['row']:<26} {row['value']:>12.3f} {row['unit']:<8} {reference:>12} {ratio:>7}  {row['reference']}"


def add_to(json_file: Path, rows: Sequence[Row]) -> None:
    """Adds the rows to those that are in the file, if there is one."""
    content = json.loads(json_file.read_text()) if json_file.exists() else {}
    content["rows"] = [*content.get("rows", []), *rows]
    json_file.write_text(json.dumps(content, indent=2) + "\n")
