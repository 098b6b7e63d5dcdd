"""A small disk of its own for a service: a file system on a loop device, whose bytes lie in memory.

What lies below can be filled up, taken away, frozen or changed, for real and for nobody else.
"""

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.failure import Failure

MEGABYTE = 1 << 20
METADATA_BYTES = 16 * MEGABYTE
"""At the start of the device, where the file system says what belongs to which file: that much never fails."""
BLOCK_BYTES, FILES = 4096, 256
"""Few and large enough that the file system keeps all it says of them at its start."""
SPOILED_BYTES = 4096
TOLD = 4
"""How many, of the file and what lies below it, may each tell once of what was lost before."""


@dataclass(frozen=True)
class Disk:
    """A mounted disk."""

    folder: Path
    """Where it is."""
    below: Path
    """The folder in memory that holds its bytes."""
    device: str

    @property
    def image(self) -> Path:
        """Its bytes."""
        return self.below / "image"

    @contextmanager
    def full(self) -> Iterator[None]:
        """There is no room left, neither in the file system nor for bytes of the device that were never written."""
        ballast = [self.folder / "ballast", self.below / "ballast"]
        for file in reversed(ballast):
            fill(file)
        yield
        for file in ballast:
            file.unlink()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """The device ends behind the file system's own data: what lies there can be neither read nor written."""
        size = self.image.stat().st_size
        self._resize(METADATA_BYTES)
        yield
        # It is as large again, and empty.
        self._resize(size)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Who writes waits."""
        insist(lambda: run("fsfreeze", "--freeze", self.folder))
        yield
        run("fsfreeze", "--unfreeze", self.folder)

    def spoil(self) -> None:
        """Writes random bytes into every file, here and there: a page in each sixteen."""
        generator = random.Random(0)
        for file in self.folder.glob("*.spill"):
            with file.open("r+b") as content:
                for at in range(SPOILED_BYTES, file.stat().st_size, 16 * SPOILED_BYTES):
                    content.seek(at + SPOILED_BYTES * generator.randrange(16))
                    content.write(generator.randbytes(SPOILED_BYTES))
                content.flush()
                insist(lambda: os.fsync(content.fileno()))

    def _resize(self, size: int) -> None:
        os.truncate(self.image, size)
        run("losetup", "--set-capacity", self.device)


def make_disk(place: Path, megabytes: int, cleanup: ExitStack) -> Disk:
    """A disk of this size, mounted below `place`, which `cleanup` takes away."""
    below, folder = place / "below", place / "disk"
    for mount in (below, folder):
        mount.mkdir(parents=True, exist_ok=True)
    take_away(folder, below)
    run("mount", "-t", "tmpfs", "-o", f"size={megabytes + 8}m", "chariot", below)
    cleanup.callback(take_away, folder, below)
    image = below / "image"
    with image.open("wb") as content:
        content.write(bytes(METADATA_BYTES))
        content.truncate(megabytes * MEGABYTE)
    # No journal: what a device forgets of it would end the whole file system.
    run("mkfs.ext4", "-q", "-b", str(BLOCK_BYTES), "-N", str(FILES), "-O", "^has_journal",
        "-E", "lazy_itable_init=0,nodiscard", "-m", "0", image)  # fmt: skip
    device = run("losetup", "--find", "--show", image).strip()
    # Goes with its last user.
    run("mount", "-o", "errors=continue", device, folder)
    run("losetup", "--detach", device)
    return Disk(folder, below, device)


def take_away(*mounts: Path) -> None:
    """Unmounts what is mounted, whoever uses it still."""
    for mount in mounts:
        if mount.is_mount():
            subprocess.run(["fsfreeze", "--unfreeze", mount], stderr=subprocess.DEVNULL, check=False)
            run("umount", "--lazy", mount)


def insist(do: Callable[[], object]) -> None:
    """Does what writes all that is not yet written, which is refused if any write has failed since it was last done."""
    for _ in range(TOLD):
        with suppress(Failure, OSError):
            do()
            return
    do()


def fill(file: Path) -> None:
    """Takes all the room there is."""
    with file.open("wb") as content:
        step = 16 * MEGABYTE
        while step >= 4096:
            try:
                os.posix_fallocate(content.fileno(), os.fstat(content.fileno()).st_size, step)
            except OSError:
                step //= 4


def run(*words: str | Path) -> str:
    """Runs a command that must succeed; returns what it prints."""
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Failure(
            f"`{' '.join(map(str, words))}` failed: {result.stderr.strip()}", "disks are made by root, on Linux"
        )
    return result.stdout
