"""etcd, which keeps who is alive in a cluster of workers."""

import shutil
from pathlib import Path

from tools.debian import unpack


def ensure_etcd() -> Path:
    """The program: this machine's, or one unpacked under .dev/."""
    installed = shutil.which("etcd")
    return Path(installed) if installed is not None else unpack("etcd-server") / "usr" / "bin" / "etcd"
