"""Remembers what was made from which inputs, so that a second run of ./dev does nothing."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from tools.checkout import STAMPS


def digest(paths: Iterable[Path], *words: str) -> str:
    """The hash of the files' names and contents and of `words` (versions, flags); a folder counts with all in it."""
    state = hashlib.sha256()
    for word in words:
        state.update(word.encode() + b"\0")
    for path in files_below(paths):
        state.update(str(path).encode() + b"\0")
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def files_below(paths: Iterable[Path]) -> list[Path]:
    """All files under `paths`, sorted, leaving out what running or building puts there."""
    skipped = {"__pycache__", "target", "chariot_ds.data"}
    found: list[Path] = []
    for path in paths:
        if path.is_file():
            found.append(path)
        else:
            found += [
                file
                for file in path.rglob("*")
                if file.is_file() and not skipped.intersection(file.parts) and file.suffix not in {".pyc", ".so"}
            ]
    return sorted(found)


def is_current(name: str, value: str) -> bool:
    """Whether `name` was last made from the inputs that hash to `value`."""
    path = STAMPS / name
    return path.is_file() and path.read_text() == value


def write(name: str, value: str) -> None:
    """Records that `name` is made; called after the work, so that an interrupted run is done again."""
    STAMPS.mkdir(parents=True, exist_ok=True)
    (STAMPS / name).write_text(value)


def forget(name: str) -> None:
    """Makes the next run do `name` again."""
    (STAMPS / name).unlink(missing_ok=True)
