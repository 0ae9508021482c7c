"""A network of its own for a piece of work: nothing but the loopback interface, and nobody else on it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

NEW_NETWORK = 0x4000_0000  # CLONE_NEWNET of sched.h
SET_FLAGS = 0x8914  # SIOCSIFFLAGS of sockios.h
UP_AND_RUNNING = 0x41  # IFF_UP | IFF_RUNNING

DoneT = TypeVar("DoneT")


class Run(Protocol):
    """Runs something in a network."""

    def __call__(self, work: Callable[[], DoneT], /) -> DoneT: ...


def available() -> bool:
    """Whether this process may make networks: Linux, as root."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and hasattr(ctypes.CDLL(None), "unshare")


def alone(work: Callable[[], DoneT]) -> DoneT:
    """Run something in a thread that has a network of its own; so have the threads and processes that it starts."""
    with network() as run:
        return run(work)


@contextmanager
def network() -> Iterator[Run]:
    """A network for several pieces of work, one after another."""
    with ThreadPoolExecutor(1, initializer=_leave) as thread:
        yield lambda work: thread.submit(work).result()


def _leave() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "a network of its own is not permitted")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14x", b"lo", UP_AND_RUNNING))
