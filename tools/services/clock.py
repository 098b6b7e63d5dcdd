"""A clock that is wrong for one process, and can jump."""

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.failure import Failure

SOURCE = Path(__file__).with_name("clock.c")


@dataclass(frozen=True)
class Clock:
    """The time of day that processes see which are started in its environment."""

    library: Path
    file: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process see it."""
        return {"LD_PRELOAD": str(self.library), "CHARIOT_CLOCK": str(self.file)}

    def jump(self, seconds: int) -> None:
        """From now on it is so far ahead of the machine's, or behind."""
        with self.file.open("r+b") as content:
            content.write(struct.pack("=q", seconds))


def make_clock(name: str, folder: Path) -> Clock:
    """A clock that is right so far."""
    if shutil.which("cc") is None:
        raise Failure("`cc` is not on PATH", "install a C compiler")
    folder.mkdir(parents=True, exist_ok=True)
    library, file = folder / "clock.so", folder / f"{name}.clock"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True)
    file.write_bytes(struct.pack("=q", 0))
    return Clock(library, file)
