"""What a peer needs, all under .dev/peers: a Python environment each, and Debian packages that are only unpacked."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import stamp, step
from tools.checkout import PEERS_ENVIRONMENT, UV
from tools.failure import Failure
from tools.wheel import build_wheel

INSTALL_SECONDS = 300
DEBIAN = PEERS_ENVIRONMENT / "debian"
UNPACKED = DEBIAN / "root"


def python_with(name: str, *requirements: str | Path) -> Path:
    """The Python of the environment `name`, which has `requirements`."""
    python = PEERS_ENVIRONMENT / name / "bin" / "python"
    wanted = stamp.digest(
        [item for item in requirements if isinstance(item, Path)], sys.version, *map(str, requirements)
    )
    if not (python.exists() and stamp.is_current(f"peer-{name}", wanted)):
        step.note(f"installing {', '.join(Path(item).name for item in requirements)} into .dev/peers/{name}")
        stamp.forget(f"peer-{name}")
        shutil.rmtree(PEERS_ENVIRONMENT / name, ignore_errors=True)
        step.run([UV, "venv", "--python", sys.executable, PEERS_ENVIRONMENT / name], f"peer-{name}-venv")
        step.run(
            [UV, "pip", "install", "--python", python, *requirements],
            f"peer-{name}-install",
            seconds=INSTALL_SECONDS,
        )
        stamp.write(f"peer-{name}", wanted)
    return python


def python_with_chariot() -> Path:
    """The same for Chariot itself, from the wheel."""
    return python_with("chariot", build_wheel())


def packages_folder(python: Path) -> Path:
    """Where `python` has its packages."""
    [folder] = (python.parent.parent / "lib").glob("python3.*/site-packages")
    return folder


def ensure_debian(*packages: str) -> None:
    """Downloads Debian packages with apt-get and unpacks them: nothing is installed, nobody needs to be root."""
    missing = [package for package in packages if not (DEBIAN / f"{package}.unpacked").exists()]
    if not missing:
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Failure(f"needs {', '.join(missing)} of Debian, and there is no apt-get")
    step.note(f"downloading {', '.join(missing)} from Debian, unpacked in .dev/peers/debian")
    downloads = DEBIAN / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir(parents=True)
    try:
        apt(["download", *missing], downloads)
    except Failure:
        # A machine that has never fetched the lists of packages, or threw them away: into a place of our own.
        apt(["update"], downloads)
        apt(["download", *missing], downloads)
    for archive in sorted(downloads.glob("*.deb")):
        step.run(["dpkg-deb", "-x", archive, UNPACKED], "peers-unpack")
    for package in missing:
        (DEBIAN / f"{package}.unpacked").touch()
    shutil.rmtree(downloads)


def apt(words: Sequence[str], downloads: Path) -> None:
    """apt-get, with lists of its own when they have been fetched."""
    own = DEBIAN / "apt"
    options = []
    if words == ["update"] or own.exists():
        (own / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        options = ["-o", f"Dir::State::Lists={own / 'lists'}", "-o", f"Dir::Cache={own}"]
    step.run(["apt-get", *options, *words], "peers-apt", directory=downloads, seconds=INSTALL_SECONDS)


def debian_program(name: str) -> Path:
    """A program that was unpacked."""
    return UNPACKED / "usr" / "bin" / name


def debian_libraries() -> dict[str, str]:
    """The environment in which a program finds the libraries that were unpacked."""
    folders = [UNPACKED / part / f"{os.uname().machine}-linux-gnu" for part in ("usr/lib", "lib")]
    return {"LD_LIBRARY_PATH": ":".join(map(str, folders))}
