"""Other clients of a worker, who do it no good: processes of their own, with the wheel that engines have."""

import subprocess
from pathlib import Path
from typing import Self

from tools import step
from tools.chaos.scene import CHAOS_LOGS
from tools.checkout import VLLM_PYTHON
from tools.failure import Failure

PROGRAM = Path(__file__).with_name("stranger.py")
PATIENCE = 60.0


class Strangers:
    """They do what their role says, from entering to leaving the `with` block; then they are killed."""

    def __init__(self, role: str, address: str) -> None:
        self.command = [str(VLLM_PYTHON), str(PROGRAM), role, address]

    def __enter__(self) -> Self:
        with (CHAOS_LOGS / "strangers.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=CHAOS_LOGS,
                env=step.clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    def wait(self) -> None:
        """Waits until they have done what they came for."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.command[-2]} was not done after {PATIENCE:.0f} s") from None

    def __exit__(self, *_raised: object) -> None:
        self.process.kill()
        self.process.wait()
