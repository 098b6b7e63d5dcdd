"""Files of vLLM's source distribution that its wheels leave out; tests run them as they are, and none is kept here."""

import shutil
import tarfile
from pathlib import Path

from tools import step
from tools.checkout import GENERATED, TOOLS_ENVIRONMENT, VLLM_PYTHON
from tools.vllm_environment import VLLM_VERSION, locked

SOURCES = GENERATED / "vllm-sources" / VLLM_VERSION
TOY_PROXY = "tests/v1/kv_connector/nixl_integration/toy_proxy_server.py"

# Pip asks a source distribution for its metadata before it hands it over, and vLLM's then wants to know what to build.
PRETENDED_BUILD = {"VLLM_TARGET_DEVICE": "empty", "VLLM_VERSION_OVERRIDE": VLLM_VERSION}


def ensure_toy_proxy() -> Path:
    """vLLM's own prefill-then-decode proxy. Raises Failure where the package index does not have the sources."""
    with locked("vllm-sources"):
        script = SOURCES / TOY_PROXY
        if not script.exists():
            extract(download(), TOY_PROXY, script)
    return script


def download() -> Path:
    """The source distribution, about 45 MB, by pip with vLLM's environment to ask it in."""
    downloads = GENERATED / "downloads"
    step.run(
        [
            TOOLS_ENVIRONMENT / "bin" / "python", "-m", "pip",
            "--python", VLLM_PYTHON, "--disable-pip-version-check", "--timeout", "10", "--retries", "1",
            "download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", downloads,
            f"vllm=={VLLM_VERSION}",
        ],
        "vllm-sources",
        environment=PRETENDED_BUILD,
    )  # fmt: skip
    return downloads / f"vllm-{VLLM_VERSION}.tar.gz"


def extract(archive: Path, name: str, target: Path) -> None:
    """Writes one file of the archive to `target`, whole or not at all, and removes the archive."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    with tarfile.open(archive) as sources, fresh.open("wb") as output:
        member = sources.extractfile(f"vllm-{VLLM_VERSION}/{name}")
        assert member is not None, "the name is a file's"
        shutil.copyfileobj(member, output)
    fresh.replace(target)
    archive.unlink()
