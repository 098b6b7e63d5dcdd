"""`dscli proxy`, between a client and the two vLLM instances."""

from collections.abc import Sequence
from pathlib import Path

from tools.checkout import INSTALLED_DSCLI
from tools.services.ports import HOST
from tools.services.service import Service


def start_proxy(
    port: int,
    prefill: int,
    decode: int,
    logs: Path,
    *,
    name: str = "proxy",
    arguments: Sequence[str] = (),
    outlives_parent: bool = False,
) -> Service:
    """Starts it in the foreground of its own session: the guide's two flags, where to listen, and more `arguments`."""
    return Service(
        name,
        [
            INSTALLED_DSCLI, "proxy",
            "--host", HOST,
            "--port", str(port),
            "--prefiller-port", str(prefill),
            "--decoder-port", str(decode),
            *arguments,
        ],
        logs / f"{name}.log",
        environment={},
        url=f"http://{HOST}:{port}",
        outlives_parent=outlives_parent,
    )  # fmt: skip
