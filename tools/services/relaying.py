"""Carries frames between two interfaces, late, and not all of them: `relaying.py ONE OTHER MILLISECONDS LOSS`."""

import random
import selectors
import socket
import sys
import time
from collections import deque
from contextlib import suppress

ETH_P_ALL = 3
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
LARGEST_FRAME = 10 + 18 + 65536
"""Segments come joined, and go on as they came: with a header that says what the card was to do."""
BUFFER_BYTES = 16 << 20
AT_ONCE = 64


def end_of(interface: str) -> socket.socket:
    """A socket that gets each frame which comes in, and sends frames out."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    end.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES)
    end.bind((interface, 0))
    end.setblocking(False)
    return end


def carry(one: socket.socket, other: socket.socket, delay: float, loss: float) -> None:
    """For ever."""
    generator = random.Random(0)
    under_way: deque[tuple[float, socket.socket, bytes]] = deque()
    selector = selectors.DefaultSelector()
    selector.register(one, selectors.EVENT_READ, (one, other))
    selector.register(other, selectors.EVENT_READ, (other, one))
    while True:
        patience = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for key, _ in selector.select(patience):
            come_from, go_to = key.data
            for _ in range(AT_ONCE):
                try:
                    frame = come_from.recv(LARGEST_FRAME)
                except BlockingIOError:
                    break
                if generator.random() >= loss:
                    under_way.append((time.monotonic() + delay, go_to, frame))
        now = time.monotonic()
        while under_way and under_way[0][0] <= now:
            _, to, frame = under_way.popleft()
            # A frame that cannot be sent is lost, as on any link.
            with suppress(OSError):
                to.send(frame)


if __name__ == "__main__":
    carry(end_of(sys.argv[1]), end_of(sys.argv[2]), int(sys.argv[3]) / 1000, float(sys.argv[4]))
