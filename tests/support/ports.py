"""Ports for programs of the tests that cannot choose a free one by themselves."""

from __future__ import annotations

import random
import socket

_taken: list[socket.socket] = []


def free_port() -> int:
    """A port of this machine that nobody listens on, and that no other call of this function returns.

    Two tests that run side by side would else find the same one before either of them uses it. So a UDP socket with the
    same number, which is in no TCP server's way, tells the other processes that it is taken, until this one ends.

    The port is below 10000: systems take those for outgoing connections from above.
    """
    for _ in range(100):
        port = random.randrange(7000, 10_000)
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            taken.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            taken.close()
            continue
        _taken.append(taken)
        return port
    raise RuntimeError("no free port between 7000 and 10000")
