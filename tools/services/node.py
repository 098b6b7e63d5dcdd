"""Where a service runs: on this machine as it is, or in a network namespace that stands for a host of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.services.ports import HOST, preferred_or_free


@dataclass(frozen=True)
class Node:
    """A place for services. Others reach what listens there at `host`."""

    name: str
    host: str
    namespace: str | None = None

    def inside(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs `command` there, as the same process."""
        return [*(["ip", "netns", "exec", self.namespace] if self.namespace else []), *command]

    def ports(self, preferred: Sequence[int]) -> list[int]:
        """The wanted ports: all are free in a namespace, elsewhere something may listen already."""
        return list(preferred) if self.namespace else preferred_or_free(preferred, self.host)


HERE = Node("here", HOST)
