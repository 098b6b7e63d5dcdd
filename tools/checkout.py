"""Where things lie in this checkout. Everything generated is under `.dev/` and cargo's `target/`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATED = ROOT / ".dev"
TARGET = ROOT / "target"
LOGS = GENERATED / "logs"
STAMPS = GENERATED / "stamps"
WHEELS = GENERATED / "wheels"
ETCD = GENERATED / "etcd"
TINY_MODEL = GENERATED / "models" / "tiny"
HYBRID_MODEL = GENERATED / "models" / "hybrid"
LATENT_MODEL = GENERATED / "models" / "latent"

TOOLS_ENVIRONMENT = GENERATED / "tools"
VLLM_ENVIRONMENT = GENERATED / "vllm"
PEERS_ENVIRONMENT = GENERATED / "peers"

UV = TOOLS_ENVIRONMENT / "bin" / "uv"
MATURIN = TOOLS_ENVIRONMENT / "bin" / "maturin"
VLLM_PYTHON = VLLM_ENVIRONMENT / "bin" / "python"
VLLM = VLLM_ENVIRONMENT / "bin" / "vllm"
INSTALLED_DSCLI = VLLM_ENVIRONMENT / "bin" / "dscli"
BUILT_DSCLI = TARGET / "release" / "dscli"
