"""What a fault is: something that happens to a scene, for a while."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tools.chaos.scene import Scene

Happening = Callable[[Scene], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """Something that happens to a scene for as long as its context is open."""

    name: str
    happens: Happening
    shortest: float = 0.5
    longest: float = 8.0
    """Seconds that it lasts."""
    ends_requests: bool = False
    """What has taken a request is killed, and the request with it: its client must ask again."""
