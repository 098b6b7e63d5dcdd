"""iperf3, against which transfers between nodes are measured."""

import shutil
from pathlib import Path

from tools.debian import unpack


def ensure_iperf3() -> Path:
    """The program: this machine's, or one unpacked under .dev/."""
    installed = shutil.which("iperf3")
    if installed is not None:
        return Path(installed)
    folder = unpack("iperf3", "libiperf0", "libsctp1")
    start = folder / "start"
    [libiperf] = folder.rglob("libiperf.so.0")
    if not start.exists():
        start.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libiperf.parent}" exec "{folder}/usr/bin/iperf3" "$@"\n')
        start.chmod(0o755)
    return start
