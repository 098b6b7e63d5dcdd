"""Programs from the distribution's packages, unpacked under .dev/ without being installed."""

import os
import shutil
import subprocess
from pathlib import Path

from tools import step
from tools.checkout import GENERATED
from tools.failure import Failure

C_LIBRARY = {"libc6", "libgcc-s1", "libcrypt1"}


def unpack(package: str, *libraries: str) -> Path:
    """The folder with the files of a package and of the libraries it needs that a machine may lack."""
    folder = GENERATED / package
    if folder.exists():
        return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Failure(f"`{package}` is not there, and this is no Debian or Ubuntu", f"install `{package}` by hand")
    downloads = GENERATED / "downloads" / package
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir(parents=True)
    download = ["apt-get", "download", package, *libraries]
    try:
        try:
            step.run(download, f"download-{package}", directory=downloads)
        except Failure:
            if os.geteuid() != 0:
                raise
            # A fresh machine has no lists of packages, or old ones.
            step.run(["apt-get", "update"], f"lists-{package}")
            step.run(download, f"download-{package}", directory=downloads)
    except Failure as failure:
        hint = f"run `apt-get update`, or install `{package}` by hand"
        raise Failure(f"cannot download `{package}`: {failure}", hint) from failure
    unfinished = folder.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for archive in downloads.glob("*.deb"):
        step.run(["dpkg-deb", "--extract", archive, unfinished], f"unpack-{package}")
    unfinished.rename(folder)
    return folder


def libraries_of(package: str) -> list[str]:
    """The libraries that a package needs, and those that they need, but for the C library."""
    options = ["--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"]
    found = subprocess.run(
        ["apt-cache", "depends", *options, "--no-enhances", package], capture_output=True, text=True, check=True
    ).stdout
    # A name at the start of a line is a package that was reached.
    reached = {line.strip() for line in found.splitlines() if line and not line.startswith((" ", "<"))}
    return sorted(name for name in reached if name.startswith("lib") and name not in C_LIBRARY)
