"""fio, against which the second tier is measured."""

import shutil
from pathlib import Path

from tools.debian import libraries_of, unpack


def ensure_fio() -> Path:
    """The program: this machine's, or one unpacked under .dev/."""
    installed = shutil.which("fio")
    if installed is not None:
        return Path(installed)
    folder = unpack("fio", *libraries_of("fio"))
    start = folder / "start"
    if not start.exists():
        libraries = sorted({str(file.parent) for file in folder.rglob("*.so*")})
        start.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{":".join(libraries)}" exec "{folder}/usr/bin/fio" "$@"\n')
        start.chmod(0o755)
    return start
