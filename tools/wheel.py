"""Builds dscli and the wheel `chariot-ds`, and installs the wheel into vLLM's environment."""

import shutil
import sys
from pathlib import Path

from tools import stamp, step
from tools.checkout import BUILT_DSCLI, INSTALLED_DSCLI, MATURIN, ROOT, UV, VLLM_PYTHON, WHEELS
from tools.failure import Failure
from tools.vllm_environment import locked

SOURCES = [ROOT / "Cargo.toml", ROOT / "Cargo.lock", ROOT / "crates", ROOT / "python"]
WHEEL_SCRIPTS = ROOT / "python" / "chariot_ds.data" / "scripts"


def build_binary() -> str:
    """Builds the release dscli; cargo knows what is stale."""
    if shutil.which("cargo") is None:
        raise Failure("`cargo` is not on PATH", "install Rust, 1.88 or later")
    step.run(["cargo", "build", "--release", "--package", "dscli"], "build-dscli")
    return BUILT_DSCLI.relative_to(ROOT).as_posix()


def ensure_wheel() -> str:
    """Builds the wheel and installs it beside vLLM, unless the one there comes from the same sources."""
    wanted = stamp.digest(SOURCES)
    with locked("wheel"):
        if stamp.is_current("wheel", wanted) and INSTALLED_DSCLI.exists():
            return "already there"
    wheel = build_wheel()
    with locked("wheel"):
        step.run([UV, "pip", "install", "--python", VLLM_PYTHON, "--no-deps", "--reinstall", wheel], "install-wheel")
        stamp.write("wheel", wanted)
    return wheel.name


def build_wheel() -> Path:
    """The wheel of the sources as they are; built unless it is there. One serves every Python from 3.11 on."""
    wanted = stamp.digest(SOURCES)
    with locked("wheel"):
        if not (stamp.is_current("wheel-built", wanted) and any(WHEELS.glob("chariot_ds-*.whl"))):
            build_binary()
            WHEEL_SCRIPTS.mkdir(parents=True, exist_ok=True)
            # Maturin puts what lies in `*.data/scripts` into the environment's bin/: dscli is part of the wheel.
            shutil.copy2(BUILT_DSCLI, WHEEL_SCRIPTS / "dscli")
            shutil.rmtree(WHEELS, ignore_errors=True)
            step.run(
                [MATURIN, "build", "--release", "--interpreter", sys.executable, "--out", WHEELS],
                "build-wheel",
                directory=ROOT / "python",
            )
            stamp.write("wheel-built", wanted)
    [wheel] = WHEELS.glob("chariot_ds-*.whl")
    return wheel
