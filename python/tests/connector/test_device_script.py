"""The script that checks a device's path, on the one device that is always there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from worker import dscli

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_device_path.py"


def test_the_script_finds_every_byte_right() -> None:
    path = os.pathsep.join([str(Path(dscli()).parent), os.environ["PATH"]])
    # One thread: on a busy machine torch's threads would wait for each other.
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, SCRIPT, "cpu"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(": right; ") == 5
