"""Builds dscli and the wheel `chariot-ds`, and installs the wheel into vLLM's environment."""

import shutil

from tools import stamp, step
from tools.checkout import BUILT_DSCLI, MATURIN, ROOT, UV, VLLM_ENVIRONMENT, VLLM_PYTHON, WHEELS
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
    """Builds and installs the wheel unless the one installed comes from the same sources."""
    with locked("wheel"):
        wanted = stamp.digest(SOURCES)
        if stamp.is_current("wheel", wanted) and (VLLM_ENVIRONMENT / "bin" / "dscli").exists():
            return "already there"
        build_binary()
        WHEEL_SCRIPTS.mkdir(parents=True, exist_ok=True)
        # Maturin puts what lies in `*.data/scripts` into the environment's bin/, which makes dscli part of the wheel.
        shutil.copy2(BUILT_DSCLI, WHEEL_SCRIPTS / "dscli")
        shutil.rmtree(WHEELS, ignore_errors=True)
        step.run(
            [MATURIN, "build", "--release", "--interpreter", VLLM_PYTHON, "--out", WHEELS],
            "build-wheel",
            directory=ROOT / "python",
        )
        [wheel] = WHEELS.glob("chariot_ds-*.whl")
        step.run(
            [UV, "pip", "install", "--python", VLLM_PYTHON, "--no-deps", "--reinstall", wheel],
            "install-wheel",
        )
        stamp.write("wheel", wanted)
    return wheel.name
