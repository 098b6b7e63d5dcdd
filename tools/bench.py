"""`./dev bench`: our rows from `dscli bench`, and the peers' beside them."""

import subprocess
from pathlib import Path

from tools import step
from tools.checkout import BUILT_DSCLI
from tools.failure import Failure


def run_bench(json_file: Path | None) -> str:
    """Runs the release build's bench with its table on the terminal."""
    command = [str(BUILT_DSCLI), "bench"]
    if json_file is not None:
        command += ["--json", str(json_file)]
    code = subprocess.run(command, env=step.clean_environment(), stdin=subprocess.DEVNULL, check=False).returncode
    if code != 0:
        raise Failure(f"`dscli bench` ended with code {code}")
    return f"rows in {json_file}" if json_file else "passed"
