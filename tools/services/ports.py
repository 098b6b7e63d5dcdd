"""Ports on this machine, on the loopback interface unless another address is named."""

import socket
from collections.abc import Sequence

from tools import step

HOST = "127.0.0.1"

CLAIMS: list[socket.socket] = []
"""Open as long as this process runs."""


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
        except OSError:
            return False
    with socket.socket() as caller:
        return caller.connect_ex((host, port)) != 0


def free_ports(count: int, host: str = HOST) -> list[int]:
    """Ports nobody uses now, all different. They are held together until all are chosen."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind((host, 0))
        return [int(item.getsockname()[1]) for item in sockets]
    finally:
        for item in sockets:
            item.close()


def claim(port: int, host: str) -> bool:
    """Keeps other checkouts' demos off a port until this process ends; whether none of them was first.

    An engine listens only when it has loaded, and then it would share the port with another's engine.
    """
    holder = socket.socket(socket.AF_UNIX)
    try:
        holder.bind(f"\0chariot-demo-port-{host}-{port}")
    except OSError:
        holder.close()
        return False
    CLAIMS.append(holder)
    return True


def preferred_or_free(preferred: Sequence[int], host: str = HOST) -> list[int]:
    """The wanted ports, each replaced by a free one, and said aloud, where something else listens or soon will."""
    chosen = []
    for port in preferred:
        if is_free(port, host) and claim(port, host):
            chosen.append(port)
        else:
            [other] = free_ports(1, host)
            step.note(f"port {port} is taken, using {other} instead")
            chosen.append(other)
    return chosen
