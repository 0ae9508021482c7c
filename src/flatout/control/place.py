"""Where the socket of a run is: beside its run file, or in a folder of the user's own if that cannot be."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from flatout.config.folder_lock import alone_in

SUFFIX = ".ctl"
"""What the socket's name has beyond the run file's."""

LONGEST = 100
"""Most bytes of a socket's path: systems take 104 or more, with a zero at the end."""

BACKLOG = 16
"""Connections that may wait for the server."""


def places(run_file: Path) -> list[Path]:
    """Where the socket of a run may be, the usual place first."""
    beside = Path(f"{run_file.absolute()}{SUFFIX}")
    name = hashlib.sha256(os.fsencode(run_file.resolve())).hexdigest()[:32]
    own = own_folder() / f"{name}{SUFFIX}"
    return [place for place in (beside, own) if len(os.fsencode(place)) <= LONGEST]


def own_folder() -> Path:
    """The folder for sockets that cannot be beside their run file. Its place does not depend on the environment."""
    return Path(f"/tmp/flatout-{os.geteuid()}")  # noqa: S108 - nobody else may enter it, see `_is_own`


def listen(place: Path) -> socket.socket:
    """A socket that listens at a path, for this user alone. It replaces one that nobody listens at any more.

    Raises:
        OSError: there is another file, another program listens there, or the file system has no sockets.
    """
    if place.parent == own_folder():
        _make_own(place.parent)
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.setblocking(False)
        os.fchmod(end.fileno(), 0o600)  # before it has a name; Linux gives that to the file
        with alone_in(place.parent):
            if _is_stale(place):
                place.unlink()
            end.bind(str(place))
            end.listen(BACKLOG)
        place.chmod(0o600)
    except BaseException:
        end.close()
        raise
    return end


def connect(run_file: Path, seconds: float) -> socket.socket | None:
    """A connection to the program that runs a run file; None if none does.

    Raises:
        OSError: the program cannot be asked: it is another user's, or does not answer.
    """
    for place in places(run_file):
        if place.parent == own_folder() and not _is_own(place.parent):
            continue
        with suppress(FileNotFoundError, ConnectionRefusedError):
            return connect_to(place, seconds)
    return None


def connect_to(place: Path, seconds: float) -> socket.socket:
    """A connection to the socket at a path.

    Raises:
        OSError: there is no socket at that path, or nobody listens at it.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.settimeout(seconds)
        end.connect(str(place))
    except BaseException:
        end.close()
        raise
    return end


def mark(place: Path) -> tuple[int, int] | None:
    """What distinguishes a file from another one that has its name later."""
    try:
        found = place.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove(place: Path, made: tuple[int, int] | None) -> None:
    """Remove a socket if it is still the one that was made."""
    with suppress(OSError), alone_in(place.parent):
        if made is not None and mark(place) == made:
            place.unlink()


def _is_stale(place: Path) -> bool:
    """Whether a path is a socket at which nobody listens. A busy or stopped program still listens."""
    try:
        if not stat.S_ISSOCK(place.lstat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
            end.setblocking(False)
            end.connect(str(place))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _make_own(folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_own(folder):
        raise PermissionError(f"others may enter {folder}")


def _is_own(folder: Path) -> bool:
    """Whether a folder is this user's, and nobody else may enter it."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
