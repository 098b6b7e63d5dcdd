"""`./dev bench`: our rows from `dscli bench`."""

import subprocess
from pathlib import Path

from tools import step
from tools.checkout import BUILT_DSCLI, GENERATED
from tools.failure import Failure
from tools.fio import ensure_fio
from tools.peers.environments import python_with_chariot


def run_bench(json_file: Path | None) -> str:
    """Runs the release build's bench, the Python client's rows included, with its table on the terminal."""
    command = [
        str(BUILT_DSCLI), "bench",
        "--python", str(python_with_chariot()),
        "--fio", str(ensure_fio()),
        "--disk", str(GENERATED),
    ]  # fmt: skip
    if json_file is not None:
        command += ["--json", str(json_file)]
    code = subprocess.run(command, env=step.clean_environment(), stdin=subprocess.DEVNULL, check=False).returncode
    if code != 0:
        raise Failure(f"`dscli bench` ended with code {code}")
    return f"rows in {json_file}" if json_file else "passed"
