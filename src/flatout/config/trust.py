"""Which flatout.toml files flatout obeys: the user's own, and for risky settings, those that the user approved.

flatout looks for flatout.toml in every folder from the working directory upward. So the file may be anybody's: from a
folder that everybody may write to, or from a repository cloned a minute ago. It decides where prompts and keys go. Two
rules follow, as in Git and direnv:

- flatout ignores a file that somebody else owns or may write to.
- A file that would send prompts or keys to an unexpected place (see `flatout.providers.consent`) needs the user's
  approval. The approval is kept by the content's digest, so an edited file needs a new one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flatout.errors import ConfigError
from flatout.text.visible import visible

from .folder_lock import alone_in
from .folders import state_folder

MOST = 1 << 20
"""The largest file that is read, in bytes."""


def read_owned(path: Path) -> tuple[bytes, str] | None:
    """A file's content, and why it may not be the user's own ("" if it is); None if there is no file.

    Raises:
        OSError: the user's own file cannot be read. Somebody else's unreadable file counts as empty.
    """
    try:
        link, file = path.lstat(), path.stat()
    except OSError:  # there is no file, or a folder above it denies access
        return None
    if not stat.S_ISREG(file.st_mode):
        return None
    try:
        content, file = _read(path)
    except OSError:
        if doubt := _doubt(link) or _doubt(file):
            return b"", doubt
        raise
    return content, _doubt(link) or _doubt(file)


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """A file's content and owner, both of the same file even if somebody replaces it meanwhile."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        facts = os.fstat(file.fileno())
        if facts.st_size > MOST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return file.read(MOST), facts


def is_trusted(content: bytes) -> bool:
    """Whether the user approved a file of this content."""
    return _digest(content) in _known()


def trust(content: bytes, path: Path) -> None:
    """Save the user's approval of a file of this content. The path is saved for people to read.

    Raises:
        ConfigError: the approval cannot be saved.
    """
    if not is_trusted(content):
        with _changing():
            _write({**_known(), _digest(content): visible(str(path))})


def distrust(content: bytes) -> bool:
    """Withdraw the approval of a file of this content; False if there was none.

    Raises:
        ConfigError: the change cannot be saved.
    """
    with _changing():
        known = _known()
        if known.pop(_digest(content), None) is None:
            return False
        _write(known)
    return True


def _doubt(facts: os.stat_result) -> str:
    """Why somebody else may control a file; "" if nobody does. Root can write anywhere, so its files are fine."""
    if facts.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user ({_name(facts.st_uid)})"
    if stat.S_ISLNK(facts.st_mode):
        return ""  # nobody can write to a symbolic link, whatever its mode says
    if facts.st_mode & stat.S_IWOTH:
        return "everybody may write to it"
    if facts.st_mode & stat.S_IWGRP and facts.st_gid not in (os.getegid(), 0):  # many users have a group of their own
        return "another group may write to it"
    return ""


def _name(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _place() -> Path:
    return state_folder() / "trusted"


def _known() -> dict[str, str]:
    """The approved paths by digest. A list that others may write to is ignored."""
    try:
        read = read_owned(_place())
    except (OSError, ConfigError):
        return {}
    if read is None or read[1]:
        return {}
    lines = (line.partition("  ") for line in read[0].decode(errors="replace").splitlines())
    return {digest: path for digest, _, path in lines}


@contextmanager
def _changing() -> Iterator[None]:
    """A block in which no other program changes the list."""
    place = _place()
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone_in(place.parent):
            yield
    except OSError as error:
        raise ConfigError(f"{place}: {error.strerror or error}") from None


def _write(known: dict[str, str]) -> None:
    place = _place()
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.writelines(f"{digest}  {path}\n" for digest, path in known.items())
    temporary.replace(place)
