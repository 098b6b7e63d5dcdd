"""The end of a long run: what came of it, for a person and for a program, and what it fails for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools import step
from tools.failure import Failure

SHOWN = 5


def show(table: str, json_file: Path | None, content: Mapping[str, object]) -> None:
    """Prints the table, if there is one, and writes the content to the file, if there is one."""
    if table:
        print(table, flush=True)
    if json_file is not None:
        json_file.write_text(json.dumps(content, indent=2) + "\n")
        step.note(f"written to {json_file}")


def fail_for(broken: Mapping[str, Sequence[str]], hint: str) -> None:
    """Fails if there is anything that did not hold, by what it is called, and names the first of each."""
    lines = [f"{what}: {line}" for what, found in broken.items() for line in found[:SHOWN]]
    if lines:
        raise Failure("\n".join(lines), hint)
