"""A client that does a worker no good, until it is killed: `stranger.py ROLE HOST:PORT`.

- `pinner` fills the pool with blocks of its own, pins all of them and sleeps;
- `crowd`: 1,000 clients connect and die, some with what they were writing;
- `babbler` connects again and again, and writes random bytes.
"""

import os
import random
import socket
import sys
import time
from typing import NoReturn

import chariot_ds

CROWD, AT_ONCE = 1000, 20


def pin_all(address: str) -> None:
    """Holds all that it can get of the pool."""
    client = chariot_ds.Client(address, timeout=5, request_timeout=5)
    held = []
    for number in range(1 << 20):
        name = f"pinned {os.getpid()} {number}"
        try:
            client.put(name, bytes(1 << 20))
        except chariot_ds.ChariotError:
            break
        block = client.get(name)
        if block is not None:
            held.append(block)
    while True:
        time.sleep(1)


def come_and_die(address: str) -> None:
    """Clients that leave nothing but what they had begun: half of them a put, the others a connection alone."""
    for first in range(0, CROWD, AT_ONCE):
        children = [os.fork() or live_and_die(address, number) for number in range(first, first + AT_ONCE)]
        for child in children:
            os.waitpid(child, 0)


def live_and_die(address: str, number: int) -> NoReturn:
    """One of them."""
    try:
        client = chariot_ds.Client(address, timeout=5, request_timeout=5)
        if number % 2:
            client.put(f"crowd {os.getpid()}", bytes(1 << 16))
    finally:
        os._exit(0)


def babble(address: str) -> None:
    """Bytes that mean nothing, or nearly nothing."""
    host, _, port = address.rpartition(":")
    generator = random.Random(0)
    while True:
        with socket.socket() as connection:
            connection.settimeout(1)
            try:
                connection.connect((host, int(port)))
                connection.sendall(generator.randbytes(generator.randrange(1, 1 << 16)))
                connection.recv(1)
            except OSError:
                time.sleep(0.01)


ROLES = {"pinner": pin_all, "crowd": come_and_die, "babbler": babble}

if __name__ == "__main__":
    ROLES[sys.argv[1]](sys.argv[2])
